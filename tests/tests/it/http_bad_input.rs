//! Bad input over HTTP: each has its status and its code, and the server goes on.

use reqwest::Method;
use serde_json::{Value, json};
use switchyard_tests::host::{Behind, Body, Host};

async fn code(host: &Host, method: Method, path: &str, body: &str) -> (u16, String) {
    let body = if body.is_empty() { Body::None } else { Body::Bytes(body.as_bytes().to_vec()) };
    let answer = host.client.send(method, path, &[], body).await;
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
    for field in ["type", "title", "detail", "request_id"] {
        assert!(answer.body[field].is_string(), "{path}: {}", answer.body);
    }
    assert_eq!(answer.body["status"], answer.status.as_u16());
    (answer.status.as_u16(), answer.body["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn ids_kinds_and_queries() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let long = format!("/store/v1/records/api_key/{}", "x".repeat(4_096));
    for (path, status, expected) in [
        ("/store/v1/records/api_key/", 400, "invalid-id"),
        ("/store/v1/records/api_key/a%00b", 400, "invalid-id"),
        ("/store/v1/records/api_key/a%2Fb", 400, "invalid-id"),
        ("/store/v1/records/api_key/a%0Ab", 400, "invalid-id"),
        ("/store/v1/records/api_key/%FF%FE", 400, "invalid-id"),
        ("/store/v1/records/api_key/a:b", 400, "invalid-id"),
        ("/store/v1/records/api_key/hash_map", 400, "invalid-id"),
        (&long, 400, "invalid-id"),
        ("/store/v1/records/nonsense/a", 404, "unknown-kind"),
        ("/store/v1/records/usage/a", 404, "unknown-kind"),
        ("/store/v1/records/strategy_state/active", 404, "unknown-kind"),
        ("/store/v1/records/nonsense", 404, "unknown-kind"),
        ("/store/v1/records/api_key?index=nonsense&value=a", 400, "unknown-index"),
        ("/store/v1/records/session?index=hash&value=a", 400, "unknown-index"),
        ("/store/v1/records/api_key?index=hash", 400, "invalid-query"),
        ("/store/v1/records/api_key?index=hash&value=a&limit=1", 400, "invalid-query"),
        ("/store/v1/records/api_key?limit=0", 400, "invalid-query"),
        ("/store/v1/records/api_key?limit=1001", 400, "invalid-query"),
        ("/store/v1/records/api_key?limit=x", 400, "invalid-query"),
        ("/store/v1/records/api_key?cursor=a%00", 400, "invalid-query"),
        ("/store/v1/records/api_key?nonsense=1", 400, "invalid-query"),
        ("/store/v1/usage/a%2Fb", 400, "invalid-id"),
        ("/store/v1/nonsense", 404, "not-found"),
        ("/store/v1/usage", 405, "method-not-allowed"),
    ] {
        assert_eq!(code(&host, Method::GET, path, "").await, (status, expected.into()), "{path}");
    }
    host.client.get("/readyz").await.expect(200);
    host.stop().await;
}

#[tokio::test]
async fn bodies() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let fields = |count: u32| -> Value {
        json!({ "fields": (0..count).map(|n| (n.to_string(), json!("x"))).collect::<serde_json::Map<_, _>>() })
    };
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for (body, status, expected) in [
        ("{".to_owned(), 400, "invalid-json"),
        ("[]".to_owned(), 400, "invalid-json"),
        (deep.clone(), 400, "invalid-json"),
        (format!("{{\"fields\":{deep}}}"), 400, "invalid-json"),
        (json!({}).to_string(), 400, "invalid-json"),
        (json!({ "fields": { "a": 1 } }).to_string(), 400, "invalid-json"),
        (json!({ "fields": {}, "more": 1 }).to_string(), 400, "invalid-json"),
        (json!({ "fields": {}, "ttl_seconds": -1 }).to_string(), 400, "invalid-json"),
        (json!({ "fields": {}, "ttl_seconds": 0 }).to_string(), 400, "invalid-ttl"),
        (json!({ "fields": {}, "ttl_seconds": 315_360_001 }).to_string(), 400, "invalid-ttl"),
        (json!({ "fields": { "": "x" } }).to_string(), 400, "invalid-field"),
        (json!({ "fields": { "_version": "9" } }).to_string(), 400, "invalid-field"),
        (json!({ "fields": { "a": "\0" } }).to_string(), 400, "invalid-field"),
        (fields(10_000).to_string(), 400, "too-many-fields"),
        (json!({ "fields": { "a": "x".repeat(1 << 20) } }).to_string(), 413, "too-large"),
    ] {
        let shown: String = body.chars().take(60).collect();
        let answer = code(&host, Method::PUT, "/store/v1/records/api_key/k1", &body).await;
        assert_eq!(answer, (status, expected.into()), "{shown}");
    }
    host.client.put("/store/v1/records/api_key/k1", fields(1_000)).await.expect(200);
    assert_eq!(code(&host, Method::POST, "/store/v1/usage", &deep).await.1, "invalid-json");
    let nested = format!("{{\"events\":[{deep}]}}");
    assert_eq!(code(&host, Method::POST, "/store/v1/usage", &nested).await.1, "invalid-json");
    host.stop().await;
}

#[tokio::test]
async fn what_was_sent_is_not_repeated() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let (record, usage) = ("/store/v1/records/api_key/k1", "/store/v1/usage");
    let activate = "/admin/strategies/dual_write/activate";
    for (method, path, body, expected) in [
        (
            Method::PUT,
            record,
            json!({ "fields": "sk-secret" }),
            "expected an object whose values are strings",
        ),
        (Method::PUT, record, json!({ "fields": {}, "ttl_seconds": "sk-secret" }), "expected u32"),
        (Method::PUT, record, json!({ "fields": { "a": ["sk-secret"] } }), "expected a string"),
        (Method::POST, usage, json!({ "events": "sk-secret" }), "expected a sequence"),
        (Method::POST, usage, json!({ "events": ["sk-secret"] }), "events[0] is not an object"),
        (Method::POST, usage, json!({ "events": [["sk-secret"]] }), "events[0] is not an object"),
        (Method::POST, usage, json!({ "events": [{ "id": ["sk-secret"] }] }), "events[0].id is not a string"),
        (Method::POST, activate, json!({ "digest": { "sk-secret": 1 } }), "expected a string"),
        (Method::POST, activate, json!({ "digest": "sk-secret" }), "64 hexadecimal digits"),
    ] {
        let refused = host.client.send(method, path, &[], Body::Json(body.clone())).await.expect(400);
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains(expected) && !detail.contains("sk-secret"), "{body}: {detail}");
        let placed = detail.contains("line 1 column");
        assert!(placed || refused["code"] != "invalid-json", "{body}: {detail}");
    }
    host.stop().await;
}

#[tokio::test]
async fn a_body_is_an_object() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let activate = "/admin/strategies/dual_write/activate";
    for (method, path, body) in [
        (Method::PUT, "/store/v1/records/api_key/k1", r#"[{"a": "b"}, 500]"#),
        (Method::PUT, "/store/v1/records/api_key/k1", r#"[{"a": "b"}, null]"#),
        (Method::POST, "/store/v1/usage", "[[]]"),
        (Method::POST, activate, "[null]"),
        (Method::POST, activate, "null"),
    ] {
        assert_eq!(code(&host, method, path, body).await, (400, "invalid-json".into()), "{path} {body}");
    }
    host.client.get("/store/v1/records/api_key/k1").await.expect(404);
    host.stop().await;
}

#[tokio::test]
async fn a_field_is_there_once() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let path = "/store/v1/records/api_key/k1";
    let body = Body::Bytes(br#"{"fields": {"name": "a", "other": "b", "name": "c"}}"#.to_vec());
    let refused = host.client.send(Method::PUT, path, &[], body).await.expect(400);
    assert_eq!(refused["code"], "invalid-field");
    assert!(refused["detail"].as_str().unwrap().contains("\"name\""), "{refused}");
    host.client.get(path).await.expect(404);
    host.stop().await;
}

#[tokio::test]
async fn an_encoded_body_is_refused_by_its_encoding() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let (record, fields) = ("/store/v1/records/api_key/k1", json!({ "fields": {} }).to_string());
    for (method, path) in [
        (Method::PUT, record),
        (Method::POST, "/store/v1/usage"),
        (Method::PUT, "/admin/strategies/mine"),
        (Method::POST, "/admin/strategies/dual_write/activate"),
    ] {
        for encoding in ["gzip", "GZIP", "identity, br"] {
            let body = Body::Bytes(fields.clone().into_bytes());
            let refused =
                host.client.send(method.clone(), path, &[("content-encoding", encoding)], body).await;
            assert_eq!(refused.header("accept-encoding"), Some("identity"));
            let refused = refused.expect(415);
            assert_eq!(refused["code"], "unsupported-encoding");
            assert!(refused["detail"].as_str().unwrap().contains(encoding), "{refused}");
        }
    }
    let body = Body::Bytes(fields.into_bytes());
    host.client.send(Method::PUT, record, &[("content-encoding", "identity")], body).await.expect(200);
    host.stop().await;
}

#[tokio::test]
async fn tokens() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let client = reqwest::Client::new();
    for (path, open) in [
        ("/store/v1/records/api_key/k1", false),
        ("/store/v1/usage/k1", false),
        ("/admin/strategies", false),
        ("/admin/database/status", false),
        ("/livez", true),
        ("/readyz", true),
        ("/healthz", true),
        ("/metrics", true),
        ("/", true),
    ] {
        let url = format!("{}{path}", host.client.base);
        let none = client.get(&url).send().await.unwrap();
        let wrong = client.get(&url).bearer_auth("wrong").send().await.unwrap();
        if open {
            assert_eq!((none.status(), wrong.status()), (200.try_into().unwrap(), 200.try_into().unwrap()));
            continue;
        }
        for (answer, expected) in [(none, "missing-token"), (wrong, "wrong-token")] {
            assert_eq!(answer.status(), 401, "{path}");
            assert!(answer.headers().contains_key("www-authenticate"));
            assert_eq!(answer.json::<Value>().await.unwrap()["code"], expected);
        }
    }
    host.stop().await;
}

#[tokio::test]
async fn uploads() {
    let host = Host::start(Behind::Embedded, &["--component-mib", "1"]).await;
    let core = wat::parse_str("(module)").unwrap();
    for (name, bytes, status, expected) in [
        ("mine", b"random bytes".to_vec(), 422, "not-a-component"),
        ("mine", core, 422, "not-a-component"),
        ("mine", Vec::new(), 422, "not-a-component"),
        ("mine", vec![0; 100 << 20], 413, "too-large"),
        ("No-Name", b"x".to_vec(), 400, "invalid-name"),
    ] {
        let refused = host.client.upload(name, &bytes).await.expect(status);
        assert_eq!(refused["code"], expected, "{refused}");
    }
    assert_eq!(host.client.get("/admin/strategies").await.expect(200)["active"]["generation"], 1);
    host.stop().await;
}
