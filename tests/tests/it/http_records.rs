//! Records over HTTP.

use reqwest::Method;
use serde_json::json;
use switchyard_tests::host::{Behind, Body, Host};

const PATH: &str = "/store/v1/records/api_key/k1";

fn content(name: &str) -> serde_json::Value {
    json!({ "fields": { "name": name, "apiKey": format!("hash of {name}") } })
}

#[tokio::test]
async fn a_record_lives_on_the_embedded_stores() {
    life_of_a_record(Behind::Embedded).await;
}

#[tokio::test]
async fn a_record_lives_on_real_servers() {
    life_of_a_record(Behind::RealServers).await;
}

async fn life_of_a_record(behind: Behind) {
    let host = Host::start(behind, &[]).await;
    let client = &host.client;
    client.get(PATH).await.expect(404);
    let written = client.put(PATH, content("a")).await;
    assert_eq!(written.header("x-switchyard-strategy"), Some("dual_write@1"));
    assert!(written.header("request-id").is_some());
    let written = written.expect(200);
    assert_eq!(written["durability"], "both");

    let read = client.get(PATH).await;
    assert_eq!(read.header("etag").unwrap(), format!("\"{}\"", written["version"]));
    assert!(read.header("age").unwrap().parse::<u64>().is_ok());
    assert_eq!(read.header("x-switchyard-strategy"), Some("dual_write@1"));
    let read = read.expect(200);
    assert_eq!(read["fields"], content("a")["fields"]);
    assert_eq!((&read["kind"], &read["id"]), (&json!("api_key"), &json!("k1")));

    let found = client.get("/store/v1/records/api_key?index=hash&value=hash%20of%20a").await.expect(200);
    assert_eq!(found, read);
    let listed = client.get("/store/v1/records/api_key").await.expect(200);
    assert_eq!(listed, json!({ "records": [read], "next": null }));

    let deleted = client.delete(PATH).await.expect(200);
    assert!(deleted["version"].as_u64() > written["version"].as_u64());
    client.delete(PATH).await.expect(200);
    let gone = client.get(PATH).await;
    assert_eq!(gone.header("x-switchyard-strategy"), Some("dual_write@1"));
    assert_eq!(gone.expect(404)["code"], "record-not-found");
    let missing = client.get("/store/v1/records/api_key?index=hash&value=hash%20of%20a").await;
    assert_eq!(missing.expect(404)["code"], "record-not-found");
    host.stop().await;
}

#[tokio::test]
async fn pages_follow_one_another() {
    let host = Host::start(Behind::Embedded, &[]).await;
    for id in ["a", "b", "c"] {
        host.client
            .put(&format!("/store/v1/records/account/{id}"), json!({ "fields": {} }))
            .await
            .expect(200);
    }
    let first = host.client.get("/store/v1/records/account?limit=2").await.expect(200);
    let next = first["next"].as_str().unwrap();
    let second =
        host.client.get(&format!("/store/v1/records/account?limit=2&cursor={next}")).await.expect(200);
    let ids = [&first["records"][0]["id"], &first["records"][1]["id"], &second["records"][0]["id"]];
    assert_eq!(ids, ["a", "b", "c"]);
    assert!(second["next"].is_null());
    host.stop().await;
}

#[tokio::test]
async fn preconditions_decide() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let put = async |header: (&str, &str)| {
        host.client.send(Method::PUT, PATH, &[header], Body::Json(content("a"))).await
    };
    assert_eq!(put(("if-match", "\"5\"")).await.expect(412)["code"], "version-conflict");
    let created = put(("if-none-match", "*")).await;
    let tag = created.header("etag").unwrap().to_owned();
    created.expect(201);
    assert_eq!(put(("if-none-match", "*")).await.expect(412)["code"], "version-conflict");
    let unchanged = host.client.send(Method::GET, PATH, &[("if-none-match", &tag)], Body::None).await;
    assert_eq!(unchanged.header("etag"), Some(&*tag));
    assert_eq!(unchanged.header("x-switchyard-strategy"), Some("dual_write@1"));
    unchanged.expect(304);

    put(("if-match", &tag)).await.expect(200);
    put(("if-match", &tag)).await.expect(412);
    let delete = host.client.send(Method::DELETE, PATH, &[("if-match", &tag)], Body::None).await;
    delete.expect(412);
    host.client.get(PATH).await.expect(200);
    host.stop().await;
}

#[tokio::test]
async fn a_record_that_expires_says_when() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let path = "/store/v1/records/session/s1";
    host.client.put(path, json!({ "fields": {}, "ttl_seconds": 100 })).await.expect(200);
    let record = host.client.get(path).await.expect(200);
    let expires: jiff::Timestamp = record["expires_at"].as_str().unwrap().parse().unwrap();
    assert!(expires > jiff::Timestamp::now());
    host.stop().await;
}

#[tokio::test]
async fn a_request_keeps_the_id_its_caller_gave() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let with =
        async |id: &str| host.client.send(Method::GET, PATH, &[("x-request-id", id)], Body::None).await;
    let answer = with("abc-1").await;
    assert_eq!(answer.header("request-id"), Some("abc-1"));
    assert_eq!(answer.body["request_id"], "abc-1");
    let answer = with("a b").await;
    assert_ne!(answer.header("request-id"), Some("a b"));
    assert_eq!(answer.header("request-id"), answer.body["request_id"].as_str());
    host.stop().await;
}
