//! API keys: from their creation to their end, over HTTP and as a client's request meets them.

mod listing;
mod outages;
mod rotation;
mod takeover;
mod using;

use reqwest::Method;
use serde_json::{Value, json};
use switchyard::keys::Refusal;
use switchyard_tests::host::{Behind, Body, Client, Host};

const PATH: &str = "/admin/api-keys";

/// Issues a key; answers its id and itself.
async fn issue(client: &Client, content: Value) -> (String, String) {
    let data = client.post(PATH, content).await.expect(201)["data"].clone();
    (data["id"].as_str().unwrap().to_owned(), data["apiKey"].as_str().unwrap().to_owned())
}

/// What an admin does with a key.
async fn act(client: &Client, id: &str, action: &str) -> Value {
    let path = format!("{PATH}/{id}/{action}");
    client.send(Method::POST, &path, &[], Body::None).await.expect(200)["data"].clone()
}

async fn refusal(host: &Host, key: &str) -> Refusal {
    host.keys().authenticate(key).await.expect_err("nobody is let in")
}

#[tokio::test]
async fn a_key_lives_on_the_embedded_stores() {
    life_of_a_key(Behind::Embedded).await;
}

#[tokio::test]
async fn a_key_lives_on_real_servers() {
    life_of_a_key(Behind::RealServers).await;
}

async fn life_of_a_key(behind: Behind) {
    let host = Host::start(behind, &[]).await;
    let client = &host.client;
    let content = json!({ "name": "Anna", "tags": ["team"], "concurrencyLimit": 5, "ownField": "kept" });
    let created = client.post(PATH, content).await;
    assert_eq!(created.header("cache-control"), Some("no-store"));
    let created = created.expect(201);
    assert_eq!((&created["success"], &created["durability"]), (&json!(true), &json!("both")));
    let data = &created["data"];
    let (id, key) = (data["id"].as_str().unwrap(), data["apiKey"].as_str().unwrap());
    let digits = key.strip_prefix("cr_").unwrap();
    assert!(digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));

    let let_in = host.keys().authenticate(key).await.unwrap();
    assert_eq!((let_in.id(), let_in.name(), let_in.limits().concurrency), (id, "Anna", 5));
    let path = format!("{PATH}/{id}");
    let read = client.get(&path).await.expect(200)["data"].clone();
    assert_eq!(
        (&read["ownField"], &read["tags"], &read["isActive"]),
        (&json!("kept"), &json!(["team"]), &json!(true))
    );
    assert_eq!((read.get("apiKey"), read.get("previousKeys")), (None, None));

    let updated = client.put(&path, json!({ "name": "Berta", "dailyCostLimit": 1.5 })).await.expect(200);
    assert_eq!(
        (&updated["data"]["name"], &updated["data"]["concurrencyLimit"]),
        (&json!("Berta"), &json!(5))
    );
    assert_eq!(host.keys().authenticate(key).await.unwrap().limits().daily_cost_micro, 1_500_000);

    act(client, id, "disable").await;
    assert_eq!(refusal(&host, key).await, Refusal::Disabled);
    act(client, id, "enable").await;
    client.delete(&path).await.expect(200);
    client.delete(&path).await.expect(200);
    assert_eq!(refusal(&host, key).await, Refusal::Deleted);
    let refused = client.put(&path, json!({ "isActive": true })).await.expect(409);
    assert_eq!((&refused["code"], &refused["success"]), (&json!("key-deleted"), &json!(false)));
    act(client, id, "restore").await;
    host.keys().authenticate(key).await.unwrap();

    client.delete(&format!("{path}?hard=true")).await.expect(200);
    assert_eq!(refusal(&host, key).await, Refusal::Unknown);
    assert_eq!(client.get(&path).await.expect(404)["code"], "key-not-found");
    host.stop().await;
}

#[tokio::test]
async fn a_change_of_an_older_version_is_refused() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let (client, (id, _)) = (&host.client, issue(&host.client, json!({ "name": "a" })).await);
    let path = format!("{PATH}/{id}");
    let seen = client.get(&path).await.header("etag").unwrap().to_owned();
    let change = async |method, seen: &str, name: &str| {
        client.send(method, &path, &[("if-match", seen)], Body::Json(json!({ "name": name }))).await
    };
    let changed = change(Method::PUT, &seen, "b").await;
    let newer = changed.header("etag").unwrap().to_owned();
    assert_eq!(changed.expect(200)["data"]["name"], "b");
    for method in [Method::PUT, Method::PATCH] {
        assert_eq!(change(method, &seen, "c").await.expect(412)["success"], false);
    }
    assert_eq!(change(Method::PUT, "b", "c").await.expect(400)["code"], "invalid-precondition");
    assert_eq!(client.get(&path).await.expect(200)["data"]["name"], "b");
    change(Method::PATCH, &newer, "d").await.expect(200);
    host.stop().await;
}

#[tokio::test]
async fn a_key_that_was_disabled_stays_so_when_it_is_restored() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let (id, key) = issue(&host.client, json!({ "name": "a" })).await;
    act(&host.client, &id, "disable").await;
    host.client.delete(&format!("{PATH}/{id}")).await.expect(200);
    act(&host.client, &id, "restore").await;
    assert_eq!(refusal(&host, &key).await, Refusal::Disabled);
    host.stop().await;
}

#[tokio::test]
async fn what_is_no_key_is_refused_with_a_sentence() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let (long, unknown) = ("x".repeat(513), format!("cr_{}", "0".repeat(64)));
    for (presented, expected) in [
        ("", Refusal::Missing),
        ("cr_short", Refusal::Malformed),
        (&*long, Refusal::Malformed),
        ("cr_with a space", Refusal::Malformed),
        ("cr_schlüssel_äöü", Refusal::Malformed),
        (&*unknown, Refusal::Unknown),
    ] {
        let refused = refusal(&host, presented).await;
        assert_eq!(refused, expected, "{presented}");
        let sentence = refused.to_string();
        assert!(sentence.ends_with('.') && sentence.len() > 40, "{sentence}");
        assert!(presented.is_empty() || !sentence.contains(presented), "{sentence}");
    }
    let (_, expired) = issue(&host.client, json!({ "name": "a", "expiresAt": "2020-01-01T00:00:00Z" })).await;
    assert_eq!(refusal(&host, &expired).await, Refusal::Expired("at 2020-01-01T00:00:00Z".into()));
    host.stop().await;
}

#[tokio::test]
async fn what_an_admin_cannot_set_is_named_and_nothing_is_written() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let client = &host.client;
    for (content, field) in [
        (json!({}), "name"),
        (json!({ "name": "" }), "name"),
        (json!({ "name": "a", "apiKey": "cr_mine_0123456789" }), "apiKey"),
        (json!({ "name": "a", "concurrencyLimit": -1 }), "concurrencyLimit"),
        (json!({ "name": "a", "expiresAt": "soon" }), "expiresAt"),
        (json!({ "name": "a", "expirationMode": "activation", "expiresAt": "2030-01-01" }), "expiresAt"),
        (json!({ "name": "a", "_version": "1" }), "_version"),
        (json!({ "name": "a", "daily_cost_limit": 5 }), "dailyCostLimit"),
        (json!({ "name": "a", "claudeConsoleAccountId": "nobody" }), "nobody"),
        (json!({ "name": "a", "claudeAccountId": "group:none" }), "group:none"),
    ] {
        let refused = client.post(PATH, content).await.expect(400);
        assert_eq!((&refused["success"], &refused["error"]), (&json!(false), &json!("invalid-field")));
        assert!(refused["message"].as_str().unwrap().contains(field), "{refused}");
        assert!(!refused.to_string().contains("cr_mine"), "{refused}");
    }
    assert_eq!(client.get(PATH).await.expect(200)["data"]["items"], json!([]));
    let (id, _) = issue(client, json!({ "name": "a" })).await;
    for (method, path, body, status) in [
        (Method::GET, "none".to_owned(), Body::None, 404),
        (Method::GET, "a b".to_owned(), Body::None, 404),
        (Method::POST, format!("{id}/restore"), Body::None, 409),
        (Method::POST, "none/disable".to_owned(), Body::None, 404),
        (Method::POST, format!("{id}/regenerate"), Body::Json(json!({ "graceSeconds": 2_592_001 })), 400),
        (Method::PUT, id.clone(), Body::Bytes(b"[]".to_vec()), 400),
        (Method::DELETE, "none?hard=true".to_owned(), Body::None, 404),
    ] {
        client.send(method, &format!("{PATH}/{path}"), &[], body).await.expect(status);
    }
    for query in ["limit=0", "limit=1001", "cursor=x", "sort=size", "order=up", "status=odd", "other=1"] {
        client.get(&format!("{PATH}?{query}")).await.expect(400);
    }
    host.stop().await;
}

#[tokio::test]
async fn a_key_is_bound_to_what_there_is() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let client = &host.client;
    let group = client.post("/admin/account-groups", json!({ "name": "g" })).await.expect(201);
    let bound = format!("group:{}", group["data"]["id"].as_str().unwrap());
    let (id, _) = issue(client, json!({ "name": "a", "claudeConsoleAccountId": bound })).await;
    let path = format!("{PATH}/{id}");
    let put = async |content: Value| client.put(&path, content).await;
    put(json!({ "claudeConsoleAccountId": "nobody" })).await.expect(400);
    let group = format!("/admin/account-groups/{}", bound.strip_prefix("group:").unwrap());
    client.delete(&group).await.expect(200);
    // What another program or a deletion has left may be sent back, and taken away.
    put(json!({ "name": "b", "claudeConsoleAccountId": bound })).await.expect(200);
    put(json!({ "claudeConsoleAccountId": "" })).await.expect(200);
    put(json!({ "claudeConsoleAccountId": bound })).await.expect(400);
    host.stop().await;
}

#[tokio::test]
async fn no_key_is_kept_anywhere() {
    let host = Host::start(Behind::RealServers, &[]).await;
    let (id, key) = issue(&host.client, json!({ "name": "canary" })).await;
    host.keys().used(&host.keys().authenticate(&key).await.unwrap());
    let (_, next) = {
        let path = format!("{PATH}/{id}/regenerate");
        let data = host.client.post(&path, json!({ "graceSeconds": 60 })).await.expect(200)["data"].clone();
        (id.clone(), data["apiKey"].as_str().unwrap().to_owned())
    };
    let database =
        switchyard_tests::relay_database::RelayDatabase::open(&host.redis.as_ref().unwrap().url()).await;
    let mut seen = String::new();
    for name in database.ask::<Vec<String>>(&["KEYS", "*"]).await {
        let kept: Vec<u8> = database.ask(&["DUMP", &name]).await;
        seen.push_str(&name);
        seen.push_str(&String::from_utf8_lossy(&kept));
    }
    for path in
        [format!("/store/v1/records/api_key/{id}"), format!("{PATH}/{id}"), PATH.into(), "/metrics".into()]
    {
        seen.push_str(&host.client.get(&path).await.expect(200).to_string());
    }
    for key in [key, next] {
        assert!(!seen.contains(&key[3..20]) && !seen.contains(&key[50..]));
    }
    host.stop().await;
}
