//! Whatever a component does costs its own call and nothing else.

use std::time::Duration;

use super::built_in::BUILT_IN;
use super::*;

/// What a `get` of a strategy with these instructions fails of.
async fn get_fails(inserted: &[(&str, &str)]) -> String {
    let strategy = loaded(&engine(), &strategy(inserted)).await;
    fault(strategy.get(&key("a")).await)
}

#[tokio::test]
async fn the_honest_one_works() {
    let strategy = loaded(&engine(), &strategy(&[])).await;
    assert_eq!(strategy.get(&key("a")).await.unwrap().unwrap().version, 1);
    assert_eq!(strategy.get(&key("b")).await, Ok(None));
    strategy.put(&write("b", 2)).await.unwrap();
    assert_eq!(strategy.scan(&kind::API_KEY, None, 9).await.unwrap().records.len(), 2);
}

#[tokio::test]
async fn loops() {
    for place in ["get", "start", "realloc"] {
        let how = get_fails(&[(place, "(loop (br 0))")]).await;
        assert_eq!(how, "it used more than 100 ms of CPU in one invocation", "{place}");
    }
}

#[tokio::test]
async fn grows_its_memory_to_4_gib() {
    let how = get_fails(&[("get", "(drop (memory.grow (i32.const 65534)))")]).await;
    assert_eq!(how, "it asked for 4294967296 bytes of memory; the limit is 33554432");
}

#[tokio::test]
async fn recurses_without_end() {
    let how = get_fails(&[("get", "(drop (call $recurse (i32.const 0)))")]).await;
    assert_eq!(how, "it recursed past its stack of 524288 bytes");
}

#[tokio::test]
async fn makes_a_million_store_calls() {
    let call = "(call $get (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 16))";
    let count = "(br_if 0 (i32.lt_u (global.get $calls) (i32.const 1000000)))";
    let counted = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))";
    let how = get_fails(&[("get", &format!("(loop {call} {counted} {count})"))]).await;
    assert_eq!(how, "it made more than 64 calls of a store in one invocation");
}

#[tokio::test]
async fn answers_a_handle_twice() {
    // The list is [h, h] where it was [h].
    let twice = "(i32.store offset=4 (i32.load (i32.const 24)) (i32.load (i32.load (i32.const 24))))
                 (i32.store (i32.const 28) (i32.const 2))";
    let strategy = loaded(&engine(), &strategy(&[("scanned", twice)])).await;
    let how = fault(strategy.scan(&kind::API_KEY, None, 9).await);
    assert!(how.contains("unknown handle index"), "{how}");
    assert!(strategy.get(&key("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn leaks_handles() {
    let leak = "(call $get (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 16))";
    let strategy = loaded(&engine(), &strategy(&[("get", leak)])).await;
    for _ in 0..10_000 {
        assert!(strategy.get(&key("a")).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn keeps_a_borrowed_handle() {
    let keep = "(return (i32.const 16))";
    let strategy = loaded(&engine(), &strategy(&[("done", keep)])).await;
    let written = write("b", 1);
    let how = fault(strategy.put(&written).await);
    assert!(how.contains("borrow handles still remain"), "{how}");
    assert_eq!(written.receipts.get(), crate::store::Receipts::REDIS, "the write itself happened");
}

#[tokio::test]
async fn invents_answers() {
    let none = "(return (i32.const 64))";
    let how = get_fails(&[("get", none)]).await;
    assert!(how.contains("absent, which no store has said"), "{how}");
    // Asks for "bb" instead of what it was asked for.
    let other = "(local.set 2 (i32.const 512)) (local.set 3 (i32.const 2))";
    let strategy = loaded(&engine(), &strategy(&[("get", other)])).await;
    fault(strategy.get(&key("a")).await);
    strategy.put(&write("bb", 1)).await.unwrap();
    let how = fault(strategy.get(&key("a")).await);
    assert!(how.contains("another record than it was asked for: api_key/bb"), "{how}");
}

#[tokio::test]
async fn invents_a_conflict() {
    // err(conflict(2^53)): the tags of the result and of the error, and the version.
    let conflict = "(call $drop-record (local.get 0)) (i32.store8 (i32.const 16) (i32.const 1)) (i32.store8 (i32.const 24) (i32.const 2))
                    (i64.store (i32.const 32) (i64.const 9007199254740992)) (return (i32.const 16))";
    let strategy = loaded(&engine(), &strategy(&[("put", conflict)])).await;
    let how = fault(strategy.put(&write("b", 1)).await);
    assert_eq!(how, "it answered a conflict that no store has reported");
}

#[tokio::test]
async fn traps_on_every_third_call() {
    let third = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                 (if (i32.eqz (i32.rem_u (global.get $calls) (i32.const 3))) (then unreachable))";
    let strategy = loaded(&engine(), &strategy(&[("get", third)])).await;
    for call in 1..=30 {
        let answer = strategy.get(&key("a")).await;
        match call % 3 {
            0 => assert_eq!(fault(answer), "it panicked"),
            _ => assert!(answer.unwrap().is_some()),
        }
    }
}

/// 64 tasks call, of the same component and of another one, while others trap and loop beside them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_are_unharmed() {
    let traps = "(if (i32.eq (i32.load8_u (local.get 2)) (i32.const 120)) (then unreachable))
                 (if (i32.eq (i32.load8_u (local.get 2)) (i32.const 121)) (then (loop (br 0))))";
    let engine = engine();
    let bad = Arc::new(loaded(&engine, &strategy(&[("get", traps)])).await);
    let good = Arc::new(loaded(&engine, BUILT_IN[3].1).await);
    let mut hostile = tokio::task::JoinSet::new();
    for i in 0..8 {
        let bad = bad.clone();
        hostile.spawn(async move {
            for _ in 0..5 {
                fault(bad.get(&key(if i % 2 == 0 { "x" } else { "y" })).await);
            }
        });
    }
    let mut neighbours = tokio::task::JoinSet::new();
    for i in 0..64 {
        let neighbour = if i % 2 == 0 { good.clone() } else { bad.clone() };
        neighbours.spawn(async move {
            for _ in 0..50 {
                assert!(neighbour.get(&key("a")).await.unwrap().is_some());
            }
        });
    }
    neighbours.join_all().await;
    hostile.join_all().await;
}

#[tokio::test]
async fn takes_longer_than_the_deadline_and_fills_the_queue() {
    let (cpu, deadline) = (Duration::from_secs(60), Duration::from_millis(300));
    let limits =
        Limits { guest_cpu: cpu, call_deadline: deadline, in_flight: 1, queue: 0, ..Limits::default() };
    let strategy = Arc::new(loaded(&engine_with(limits), &strategy(&[("get", "(loop (br 0))")])).await);
    let slow = tokio::spawn({
        let strategy = strategy.clone();
        async move { strategy.get(&key("a")).await }
    });
    let refused = loop {
        tokio::task::yield_now().await;
        match strategy.put(&write("b", 1)).await {
            Ok(()) => {}
            refused => break refused,
        }
    };
    assert_eq!(refused, Err(StoreError::Overloaded));
    assert_eq!(fault(slow.await.unwrap()), "its invocation took longer than 300 ms");
    strategy.put(&write("c", 2)).await.unwrap();
}

#[tokio::test]
async fn grows_a_table() {
    let table = ("import", "(table $t 1 funcref)");
    let grow = ("get", "(drop (table.grow $t (ref.null func) (i32.const 1000000)))");
    let how = get_fails(&[table, grow]).await;
    assert_eq!(how, "it asked for a table of 1000001 elements; the limit is 20000");
}

#[tokio::test]
async fn hands_the_host_too_much() {
    // 3 MiB of NUL as the index value.
    let find = "(drop (memory.grow (i32.const 64)))
                (local.set 4 (i32.const 65536)) (local.set 5 (i32.const 3145728))";
    let strategy = loaded(&engine(), &strategy(&[("find", find)])).await;
    let how = fault(strategy.find(&kind::API_KEY, "hash", "hash-of-a").await);
    assert!(how.contains("fuel allocated for hostcalls"), "{how}");
}

#[tokio::test]
async fn hoards_handles_within_a_call() {
    let get = "(call $get (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 16))";
    let engine = engine_with(Limits { handles: 8, ..Limits::default() });
    let strategy = loaded(&engine, &strategy(&[("get", &get.repeat(9))])).await;
    let how = fault(strategy.get(&key("a")).await);
    assert!(how.contains("handle limit exceeded"), "{how}");
}

#[tokio::test]
async fn answers_an_older_version_than_it_saw() {
    let import =
        r#"(import "switchyard:storage/postgres@0.1.0" "get" (func $older (param i32 i32 i32 i32 i32)))"#;
    let older = "(call $older (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 16))";
    let engine = engine();
    let bytes = strategy(&[("import", import), ("got", older)]);
    let compiled = engine.check(&bytes, BOTH).await.unwrap();
    let (redis, postgres, sides) = stores().await;
    let strategy = engine.load(&compiled, sides, "test", 1, &Metrics::default());
    redis.put(&write("a", 2)).await.unwrap();
    postgres.put(&write("a", 1)).await.unwrap();
    let how = fault(strategy.get(&key("a")).await);
    assert_eq!(how, "it answered an older version than a store had shown it");
    postgres.put(&write("a", 3)).await.unwrap();
    assert_eq!(strategy.get(&key("a")).await.unwrap().unwrap().version, 3);
}

#[tokio::test]
async fn a_full_pool_is_the_hosts_fault() {
    let engine = engine_with(Limits { in_flight: 1, ..Limits::default() });
    let compiled = engine.check(BUILT_IN[3].1, BOTH).await.unwrap();
    let (_, _, sides) = stores().await;
    let mut kept = Vec::new();
    let refused = loop {
        let strategy = engine.load(&compiled, sides.clone(), "kept", kept.len() as u64, &Metrics::default());
        match strategy.get(&key("a")).await {
            Ok(_) => kept.push(strategy),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, StoreError::Other("the host has no room for another instance".into()));
    kept.pop();
    let strategy = engine.load(&compiled, sides, "next", 0, &Metrics::default());
    assert_eq!(strategy.get(&key("a")).await, Ok(None));
}

/// What is written to a log.
#[derive(Clone, Default)]
struct Lines(Arc<parking_lot::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn floods_the_log() {
    let import = r#"(import "switchyard:storage/log@0.1.0" "write" (func $log (param i32 i32 i32)))
                    (data (i32.const 600) "one\0atwo")"#;
    let write = "(call $log (i32.const 2) (i32.const 600) (i32.const 7))".repeat(20);
    let strategy = loaded(&engine(), &strategy(&[("import", import), ("get", &write)])).await;
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    assert!(strategy.get(&key("a")).await.unwrap().is_some());
    let text = String::from_utf8(lines.0.lock().clone()).unwrap();
    assert_eq!(text.lines().count(), 16);
    let line = text.lines().next().unwrap();
    assert!(line.contains("WARN") && line.contains(r#"one\ntwo strategy="test" generation=1"#), "{line}");
}

#[tokio::test]
async fn is_counted_by_name_and_generation() {
    let engine = engine();
    let trap = "(if (i32.eq (i32.load8_u (local.get 2)) (i32.const 120)) (then unreachable))";
    let compiled = engine.check(&strategy(&[("get", trap)]), BOTH).await.unwrap();
    let (_, _, sides) = stores().await;
    let metrics = Metrics::default();
    let strategy = engine.load(&compiled, sides, "mine", 7, &metrics);
    strategy.get(&key("a")).await.unwrap();
    fault(strategy.get(&key("x")).await);
    strategy.put(&write("a", 2)).await.unwrap();
    strategy.put(&write("a", 1)).await.unwrap_err();
    let text = metrics.render();
    for (outcome, calls) in [("ok", 2), ("failed", 1), ("error", 1), ("overloaded", 0)] {
        let labels = format!(r#"{{strategy="mine",generation="7",outcome="{outcome}"}}"#);
        let line = format!("switchyard_strategy_calls_total{labels} {calls}\n");
        assert!(text.contains(&line), "{line}{text}");
    }
    assert!(text.contains("switchyard_strategy_leases{strategy=\"mine\",generation=\"7\"} 0\n"), "{text}");
}

#[tokio::test]
async fn generations_come_and_go_under_load() {
    let engine = engine();
    let compiled = engine.check(BUILT_IN[0].1, BOTH).await.unwrap();
    let (_, _, sides) = stores().await;
    let metrics = Metrics::default();
    for generation in 0..50 {
        let strategy = Arc::new(engine.load(&compiled, sides.clone(), "dual_write", generation, &metrics));
        let calls = (0..32).map(async |i| strategy.put(&write(&format!("k{i}"), generation + 1)).await);
        futures::future::join_all(calls).await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    }
    assert!(!metrics.render().contains("generation="), "a generation that is gone is not listed");
}
