//! Which account is asked.

use std::time::Duration;

use switchyard::server::Server;
use switchyard_tests::host::config;
use switchyard_tests::servers::{Postgres, Redis};

use super::*;

#[tokio::test]
async fn the_session_s_account_comes_first_and_then_the_smaller_number() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let client = &host.client;
    let first = id(&create(client, json!({ "priority": 1 })).await);
    let second = id(&create(client, json!({ "priority": 2 })).await);
    let dedicated = id(&create(client, json!({ "priority": 1, "accountType": "dedicated" })).await);
    create(client, json!({ "priority": 1, "supportedModels": ["another"] })).await;

    assert_eq!(chosen(&host, anyone()).await, first);
    assert_eq!(chosen(&host, Wanted { sticky: Some(&second), ..anyone() }).await, second);
    assert_eq!(chosen(&host, Wanted { sticky: Some("gone"), ..anyone() }).await, first);
    assert_eq!(chosen(&host, Wanted { sticky: Some(&dedicated), ..anyone() }).await, first, "not its key's");
    assert_eq!(chosen(&host, Wanted { tried: std::slice::from_ref(&first), ..anyone() }).await, second);
    let both = [first.clone(), second.clone()];
    assert_eq!(choose(&host, Wanted { tried: &both, ..anyone() }).await.unwrap_err(), NoAccount::None);

    let bound = Wanted { bound: Some(&dedicated), ..anyone() };
    assert_eq!(chosen(&host, bound).await, dedicated);
    client.put(&format!("/admin/accounts/{dedicated}"), json!({ "isActive": false })).await.expect(200);
    assert_eq!(chosen(&host, bound).await, first, "the shared ones serve while it is away");
    let group = Wanted { bound: Some("group:gone"), ..anyone() };
    assert_eq!(
        choose(&host, group).await.unwrap_err(),
        NoAccount::None,
        "a group is served by its members alone"
    );
    host.stop().await;
}

#[tokio::test]
async fn calls_are_spread_over_equals() {
    let host = Host::start(Behind::Embedded, &[]).await;
    for _ in 0..3 {
        create(&host.client, json!({ "maxConcurrentTasks": 2 })).await;
    }
    let mut under_way = Vec::new();
    for _ in 0..6 {
        under_way.push(choose(&host, anyone()).await.unwrap());
    }
    for round in under_way.chunks(3) {
        let mut ids: Vec<_> = round.iter().map(|upstream| &upstream.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 3, "the one with the fewest calls under way");
    }
    let busy = choose(&host, anyone()).await.unwrap_err();
    assert_eq!(busy, NoAccount::AllCooling { retry_after: Duration::from_secs(1), rate_limited: false });
    let ended = under_way.swap_remove(4).id;
    assert_eq!(chosen(&host, anyone()).await, ended);
    host.stop().await;
}

#[tokio::test]
async fn an_account_that_is_not_well_rests() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let client = &host.client;
    let first = id(&create(client, json!({ "priority": 1 })).await);
    let second = id(&create(client, json!({ "priority": 2 })).await);
    let accounts = host.server().accounts();
    assert_eq!(chosen(&host, anyone()).await, first);

    accounts.report(&first, Outcome::Failed);
    assert_eq!(chosen(&host, Wanted { sticky: Some(&first), ..anyone() }).await, second, "another is well");
    accounts.report(&second, Outcome::Failed);
    assert_eq!(chosen(&host, anyone()).await, first, "none is well, so the first is asked");

    accounts.report(&first, Outcome::RateLimited { retry_after: Some(Duration::from_secs(90)) });
    assert_eq!(chosen(&host, anyone()).await, second);
    accounts.report(&second, Outcome::Overloaded);
    let NoAccount::AllCooling { retry_after, .. } = choose(&host, anyone()).await.unwrap_err() else {
        panic!("not all at their limit")
    };
    assert!(
        Duration::from_secs(1) <= retry_after && retry_after <= Duration::from_secs(60),
        "{retry_after:?}"
    );
    host.stop().await;
}

#[tokio::test]
async fn a_refused_credential_is_not_sent_again_until_it_is_another() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let account = id(&create(&host.client, json!({})).await);
    let accounts = host.server().accounts();
    let upstream = choose(&host, anyone()).await.unwrap();
    accounts.report_of(&upstream, Outcome::Unauthorized);
    let NoAccount::Credential(why) = choose(&host, anyone()).await.unwrap_err() else {
        panic!("not refused")
    };
    assert!(why.contains(&account) && !why.contains("canary"), "{why}");

    let path = format!("/admin/accounts/{account}");
    host.client.put(&path, json!({ "description": "the same credential" })).await.expect(200);
    assert!(matches!(choose(&host, anyone()).await, Err(NoAccount::Credential(_))));
    host.client.put(&path, json!({ "apiKey": "sk-ant-another" })).await.expect(200);
    assert_eq!(plain(&choose(&host, anyone()).await.unwrap()), "sk-ant-another");
    accounts.report_of(&upstream, Outcome::Unauthorized);
    assert_eq!(
        chosen(&host, anyone()).await,
        account,
        "a late answer to the old one says nothing of the new one"
    );
    let another = choose(&host, anyone()).await.unwrap();
    accounts.report_of(&another, Outcome::RateLimited { retry_after: Some(Duration::from_secs(90)) });
    for late in [Outcome::Ok, Outcome::Failed, Outcome::Unauthorized] {
        accounts.report_of(&upstream, late);
        let refused = choose(&host, anyone()).await;
        assert!(matches!(refused, Err(NoAccount::AllCooling { .. })), "{late:?} ended the rest: {refused:?}");
    }
    host.stop().await;
}

#[tokio::test]
async fn what_another_node_has_changed_is_soon_followed() {
    let (redis, postgres) = (Redis::start(), Postgres::shared().database().await);
    let url = redis.url();
    let secret = "s".repeat(32);
    let flags = ["--redis-url", &url, "--postgres-url", &postgres, "--secret", &secret];
    let node = async |id| {
        let flags: Vec<&str> = flags.into_iter().chain(["--node-id", id]).collect();
        Host::start_in(tempfile::tempdir().unwrap(), None, &flags).await
    };
    let (a, b) = (node("a").await, node("b").await);
    let account = id(&create(&a.client, json!({})).await);
    b.client.until("seen", async |_| choose(&b, anyone()).await.is_ok_and(|it| plain(&it) == CANARY)).await;
    a.client.put(&format!("/admin/accounts/{account}"), json!({ "isActive": false })).await.expect(200);
    assert_eq!(choose(&a, anyone()).await.unwrap_err(), NoAccount::None, "its own change at once");
    b.client.until("gone", async |_| choose(&b, anyone()).await.is_err()).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn accounts_are_chosen_while_no_store_answers() {
    let mut redis = Redis::start();
    let url = redis.url();
    let flags = ["--redis-url", &url, "--postgres-url", "off"];
    let host = Host::start_in(tempfile::tempdir().unwrap(), None, &flags).await;
    let account = id(&create(&host.client, json!({})).await);
    let path = format!("/admin/accounts/{account}");
    assert_eq!(chosen(&host, anyone()).await, account);
    redis.kill();
    // A change that may have happened: what was read before is no longer fresh.
    let draft = json!({ "name": "n", "apiUrl": "http://h", "apiKey": "k" });
    host.client.post("/admin/accounts", draft).await.expect(503);
    for _ in 0..3 {
        assert_eq!(plain(&choose(&host, anyone()).await.unwrap()), CANARY);
    }
    host.client.get(&path).await.expect(503);
    host.stop().await;

    let data = tempfile::tempdir().unwrap();
    let server = Server::start(config(data.path(), &flags)).await.unwrap();
    assert!(matches!(server.accounts().choose(&anyone()).await, Err(NoAccount::Store(_))));
    server.shutdown().await;
}

#[tokio::test]
async fn an_account_that_has_used_up_its_day_rests_until_its_reset() {
    let host = Host::start(Behind::RealServers, &[]).await;
    let client = &host.client;
    let first = id(&create(client, json!({ "priority": 1, "dailyQuota": 2.5 })).await);
    let second = id(&create(client, json!({ "priority": 2 })).await);
    let path = format!("/admin/accounts/{first}");
    let shown = client.get(&path).await.expect(200)["data"].clone();
    assert_eq!((&shown["dailyQuota"], &shown["health"]["quotaResetsInSeconds"]), (&json!(2.5), &json!(null)));
    assert_eq!(chosen(&host, anyone()).await, first);
    let used = async |id: &str, cost: u64| {
        let event = json!({ "id": id, "key_id": "k", "account_id": first, "model": MODEL, "cost_micro_usd": cost,
                            "at": jiff::Timestamp::now().to_string() });
        client.post("/store/v1/usage", json!({ "events": [event] })).await.expect(200);
    };
    used("a", 2_499_999).await;
    assert_eq!(chosen(&host, anyone()).await, first);
    used("b", 1).await;
    client.until("it rests", async |_| chosen(&host, anyone()).await == second).await;
    let tried = std::slice::from_ref(&second);
    let NoAccount::AllCooling { retry_after, .. } =
        choose(&host, Wanted { tried, ..anyone() }).await.unwrap_err()
    else {
        panic!("a quota ends with the day");
    };
    assert!(retry_after <= Duration::from_secs(86_400), "{retry_after:?}");
    let shown = client.get(&path).await.expect(200)["data"]["health"]["quotaResetsInSeconds"].clone();
    assert!(shown.as_f64().is_some_and(|left| left > 0.0), "{shown}");
    client.put(&path, json!({ "dailyQuota": 3 })).await.expect(200);
    assert_eq!(chosen(&host, anyone()).await, first, "there is more to use");
    assert_eq!(
        client.put(&path, json!({ "quotaResetTime": "25:00" })).await.expect(400)["code"],
        "invalid-field"
    );
    host.stop().await;
}
