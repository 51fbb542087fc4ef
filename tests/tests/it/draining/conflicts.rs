//! What two nodes wrote of one record while each saw only one of the stores.

use super::*;

async fn conflicts(client: &Client) -> Vec<Value> {
    let data = client.get("/admin/database/conflicts").await.expect(200)["data"].take();
    let conflicts = data["conflicts"].as_array().expect("a list").clone();
    assert_eq!(data["total"], conflicts.len());
    conflicts
}

/// Both nodes drain it at once, and it is listed once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_split_heals_by_version_and_is_listed() {
    let stores = Stores::start().await;
    let long_ago = stores.clock.next() - 60_000_000;
    let (older, newer, gone, same, late) =
        (account("older"), account("newer"), account("gone"), account("same"), account("late"));
    write(&stores.redis, &older, long_ago, Some("redis")).await;
    write(&stores.postgres, &older, long_ago + 1, Some("postgres")).await;
    write(&stores.redis, &newer, long_ago + 3, Some("redis")).await;
    write(&stores.postgres, &newer, long_ago + 2, Some("postgres")).await;
    write(&stores.redis, &gone, long_ago + 4, Some("redis")).await;
    write(&stores.postgres, &gone, long_ago + 5, None).await;
    for store in [&stores.redis, &stores.postgres] {
        write(store, &same, long_ago + 6, Some("both")).await;
    }
    // Only one of them wrote this without the other.
    write(&stores.postgres, &late, long_ago + 7, Some("postgres")).await;

    let nodes: [Host; 2] = tokio::join!(stores.node("dual_write"), stores.node("dual_write")).into();
    let owed = async |store: &Arc<dyn Backend>| store.backlog().await.expect("a backlog").records;
    until("healed", async || owed(&stores.redis).await + owed(&stores.postgres).await == 0).await;
    for store in [&stores.redis, &stores.postgres] {
        assert_eq!(n(store, &older).await.as_deref(), Some("postgres"));
        assert_eq!(n(store, &newer).await.as_deref(), Some("redis"));
        assert!(store.get(&gone).await.expect("a read").is_some_and(|record| record.deleted));
        assert_eq!(n(store, &same).await.as_deref(), Some("both"));
        assert_eq!(n(store, &late).await.as_deref(), Some("postgres"));
    }
    let mut found = 0.0;
    for node in &nodes {
        let mut listed = conflicts(&node.client).await;
        assert_eq!(listed.len(), 3, "{listed:?}");
        listed.sort_by_key(|conflict| conflict["kept"]["version"].as_u64());
        let expected = [
            ("account/older", "postgres", 1, false, "redis", 0),
            ("account/newer", "redis", 3, false, "postgres", 2),
            ("account/gone", "postgres", 5, true, "redis", 4),
        ];
        for (conflict, (key, kept, version, deleted, dropped, lost)) in listed.iter().zip(expected) {
            assert_eq!(conflict["key"], key);
            let kept =
                serde_json::json!({ "store": kept, "version": long_ago + version, "deleted": deleted });
            assert_eq!(conflict["kept"], kept);
            let fields = serde_json::json!({ "n": dropped });
            let dropped = serde_json::json!({
                "store": dropped, "version": long_ago + lost, "deleted": false, "fields": fields,
            });
            assert_eq!(conflict["dropped"], dropped);
            assert!(conflict["at"].as_u64().is_some_and(|at| at > long_ago / 1_000));
        }
        found += metric(&node.client, "switchyard_conflicts_total").await;
    }
    assert!(found >= 3.0, "{found}");
    let page = async |query: &str| {
        let path = format!("/admin/database/conflicts?{query}");
        nodes[0].client.get(&path).await.expect(200)["data"].take()
    };
    let first = page("limit=2").await;
    let next = first["next"].as_str().expect("another page");
    let second = page(&format!("limit=2&cursor={next}")).await;
    let keys = [&first["conflicts"][0], &first["conflicts"][1], &second["conflicts"][0]].map(|it| &it["key"]);
    assert_eq!(keys, ["account/gone", "account/newer", "account/older"], "the newest first");
    assert_eq!((&first["total"], &second["total"], &second["next"]), (&3.into(), &3.into(), &Value::Null));
    for node in nodes {
        node.stop().await;
    }
}

/// Writes that follow each other, in one store or in both, contradict nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_is_no_conflict() {
    let stores = Stores::start().await;
    let node = stores.node("dual_write").await;
    for round in 0..5 {
        let path = "/store/v1/records/account/a";
        for _ in 0..20 {
            node.client.put(path, serde_json::json!({ "fields": { "n": "1" } })).await.expect(200);
        }
        let store = if round % 2 == 0 { &stores.redis } else { &stores.postgres };
        let written = write_newer(&stores, store).await;
        until("carried over", async || {
            let key = account("a");
            let held = [stores.redis.get(&key).await, stores.postgres.get(&key).await];
            held.into_iter().all(|held| held.expect("a read").is_some_and(|r| r.version >= written))
        })
        .await;
    }
    assert_eq!(conflicts(&node.client).await, [Value::Null; 0]);
    assert_eq!(metric(&node.client, "switchyard_conflicts_total").await, 0.0);
    node.stop().await;
}

async fn write_newer(stores: &Stores, store: &Arc<dyn Backend>) -> Version {
    let version = stores.clock.next();
    let (key, fields) = (account("a"), Fields::from([("n".to_owned(), "2".to_owned())]));
    let record = Record { key, version, deleted: false, fields, expires_at: None, cached_at: None };
    match store.put(&Write::new(Arc::new(record), Expect::Anything)).await {
        Ok(()) | Err(StoreError::Conflict(_)) => version,
        Err(error) => panic!("{error}"),
    }
}

/// Both are young when the drain finds them: they may be one write on its way, which is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_versions_of_a_moment_ago_are_listed_too() {
    let stores = Stores::start().await;
    let node = stores.node("dual_write").await;
    let (key, version) = (account("young"), stores.clock.next());
    tokio::join!(
        write(&stores.redis, &key, version, Some("redis")),
        write(&stores.postgres, &key, version + 1, Some("postgres")),
    );
    until("healed", async || n(&stores.redis, &key).await.as_deref() == Some("postgres")).await;
    let listed = conflicts(&node.client).await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["dropped"]["fields"]["n"], "redis");
    node.stop().await;
}

/// What is written over and over in one store is always young.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_with_a_busy_record_is_listed() {
    let stores = Stores::start().await;
    let node = stores.node("dual_write").await;
    let (key, version) = (account("busy"), stores.clock.next());
    let busy = async {
        loop {
            write(&stores.postgres, &key, stores.clock.next(), Some("postgres")).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    write(&stores.postgres, &key, stores.clock.next(), Some("postgres")).await;
    let in_redis = write(&stores.redis, &key, version, Some("redis"));
    tokio::select! {
        () = async { in_redis.await; busy.await } => {}
        _ = until("listed", async || !conflicts(&node.client).await.is_empty()) => {}
    }
    assert_eq!(conflicts(&node.client).await[0]["dropped"]["fields"]["n"], "redis");
    node.stop().await;
}
