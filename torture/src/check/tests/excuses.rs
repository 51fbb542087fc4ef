//! What excuses a loss or a refusal, and what does not.

use super::*;

#[test]
fn only_what_redis_alone_had_is_excused_when_an_operator_destroys_it() {
    let story = |durability, keys: &[(KeyIndex, u64)]| {
        let story = Story::default().put(0, 1).acknowledged(0, Op::Put(2), 2, 2, durability);
        story.lost_at(4, keys).get(0, 6, 1).ends(1)
    };
    assert_eq!(story(Durability::Redis, &[(0, 1)]), CLEAN);
    assert_eq!(story(Durability::Redis, &[(1, 1)]).len(), 4);
    assert_eq!(story(Durability::Both, &[(0, 1)]).len(), 4);
    assert_eq!(story(Durability::Postgres, &[(0, 1)]).len(), 4);
}

#[test]
fn a_late_class_is_excused_for_as_long_as_it_says() {
    let story = |crash: u64| {
        let mut story = Story::default().put(0, 1).acknowledged(0, Op::Put(2), 2, 2, Durability::RedisLate);
        story.0.crashes.push(crash * SECOND);
        story.ends(1)
    };
    assert_eq!(story(5), CLEAN);
    assert_eq!(story(6), ["I1", "I1"]);
}

#[test]
fn a_refusal_needs_a_reason() {
    let story = || Story::default().put(0, 1).fault(3, 4, ANY);
    assert_eq!(story().refused(0, Op::Get, 3).ends(1), CLEAN);
    assert_eq!(story().refused(0, Op::Get, 18).ends(1), CLEAN);
    assert_eq!(story().refused(0, Op::Get, 20).ends(1), ["I6"]);
    assert_eq!(story().refused(0, Op::Get, 1).ends(1), ["I6"], "before it");
    let nothing = Story::default().put(0, 1).fault(3, 4, None);
    assert_eq!(nothing.refused(0, Op::Get, 3).ends(1), ["I6"], "it excuses nothing, or has not happened");
}

#[test]
fn a_fault_of_one_host_excuses_that_host_only() {
    let one = ANY.map(|any| Excuse { host: Some(1), ..any });
    let story = || Story::default().put(0, 1).fault(3, 4, one);
    assert_eq!(story().refused(1, Op::Get, 3).ends(1), CLEAN);
    assert_eq!(story().refused(0, Op::Get, 3).ends(1), ["I6"]);
    let late = |reader| story().put(5, 2).get(reader, 12, 1).ends(2);
    assert_eq!(late(1), CLEAN, "the reader's fault");
    assert_eq!(late(2), ["late"], "the fault of neither");
    let written = story().acknowledged(1, Op::Put(2), 5, 2, Durability::Both);
    assert_eq!(written.get(2, 12, 1).ends(2), CLEAN, "the writer's fault");
}

#[test]
fn the_other_store_stands_in_for_a_lost_one_in_time() {
    let lost =
        |store| ANY.map(|any| Excuse { store: Some(store), degraded: 4 * SECOND, usage: false, ..any });
    let story = || Story::default().put(0, 1).fault(10, 40, lost(Store::Redis));
    assert_eq!(story().refused(0, Op::Put(2), 14).ends(1), CLEAN);
    assert_eq!(story().refused(0, Op::Put(2), 15).ends(1), ["I6"], "the other store should have taken it");
    assert_eq!(story().refused(0, Op::Get, 19).ends(1), CLEAN, "only the lost store may have the newest");
    assert_eq!(story().refused(0, Op::Get, 20).ends(1), ["I6"]);
    assert_eq!(story().refused(0, Op::Put(2), 42).ends(1), CLEAN, "while it comes back");
    let alone = |mut story: Story| {
        story.0.entries.iter_mut().for_each(|entry| entry.strategy = "redis_only@7".into());
        story.refused(0, Op::Put(2), 12).ends(1)
    };
    assert_eq!(alone(story().refused(0, Op::Put(2), 20)), CLEAN, "nothing stands in for Redis chosen alone");
    let both = |from| story().fault(from, from + 1, lost(Store::Postgres)).refused(0, Op::Put(2), 20).ends(1);
    assert_eq!(both(18), CLEAN, "the other one is lost, too");
    assert_eq!(both(2), CLEAN, "or has just been");
    assert_eq!(both(21 + 1), ["I6"], "or is later");
    let usage = story().entry(0, Op::Add(vec![1]), 11, 12, Outcome::Failed("503".into()));
    assert_eq!(usage.ends(1), ["I6"], "a host keeps usage by itself");
}

#[test]
fn an_unknown_delete_takes_effect_soon_or_never() {
    let story = |at: u64| {
        let unknown = Outcome::Unknown("no answer".into());
        Story::default().put(0, 1).entry(0, Op::Delete, 2, 3, unknown).put(at, 5).fault(2, 3, ANY)
    };
    assert_eq!(story(10).absent(0, 12).ends(5), CLEAN, "it may have been on its way");
    assert_eq!(story(30).absent(0, 32).ends(5), ["I6"]);
    assert_eq!(story(10).ends(-6), CLEAN);
    assert_eq!(story(30).ends(-6), ["I1", "I1"], "deleted by nobody");
}

#[test]
fn a_loss_excuses_only_what_postgres_did_not_have() {
    let story = |had: u64, ends: i64| {
        let story = Story::default().acknowledged(0, Op::Put(1), 0, 1, Durability::Redis);
        story.acknowledged(0, Op::Put(2), 2, 2, Durability::Redis).lost_at(6, &[(0, had)]).ends(ends)
    };
    assert_eq!(story(1, 1), CLEAN);
    assert_eq!(story(0, 0), CLEAN);
    assert_eq!(story(1, 0), ["I1", "I1"], "the first one was carried over");
    assert_eq!(story(2, 1), ["I1", "I1"], "both were");
}

#[test]
fn a_run_that_acknowledges_little_or_nothing_in_the_end_is_i6() {
    let story = |acknowledged: u64| {
        let many = (0..120).fold(Story::default().fault(0, 200, ANY), |story, write| match write {
            write if write < acknowledged => story.put(write, write + 1),
            write => story.refused(0, Op::Put(1_000 + write), write),
        });
        many.put(130, 500)
    };
    assert_eq!(story(20).ends(500), CLEAN);
    assert_eq!(story(5).ends(500), ["I6"]);
    let calm = |from: u64| {
        let mut story = story(20);
        story.0.calm = Some((from * SECOND, 150 * SECOND));
        story.ends(500)
    };
    assert_eq!(calm(125), CLEAN);
    assert_eq!(calm(140), ["I6"], "nothing in the end");
}

#[test]
fn what_else_was_wrong_is_told() {
    let mut story = Story::default().put(0, 1);
    story.0.wrong.push(("I5", SECOND, "postgres_only is still in force".into()));
    assert_eq!(story.ends(1), ["I5"]);
}
