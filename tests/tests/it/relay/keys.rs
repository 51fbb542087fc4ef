//! Keys that may not, and what they are told.

use serde_json::{Value, json};

use super::{Relay, assert_error, message, new_key};

async fn refused(relay: &Relay, agent: &str, status: u16, kind: &str) -> Value {
    let post = relay.http.post(relay.url("/v1/messages")).header("x-api-key", &relay.key);
    let response = post.header("user-agent", agent).json(&message(true)).send().await.unwrap();
    let (is, headers) = (response.status().as_u16(), response.headers().clone());
    let body: Value = response.json().await.unwrap();
    assert_error(is, &headers, &body, status, kind);
    assert_eq!(headers["x-should-retry"], "false");
    body
}

#[tokio::test]
async fn a_key_that_is_disabled_expired_or_deleted_is_401_with_the_reason() {
    let mut relay = Relay::start(&["first"]).await;
    let key = async |content: Value| {
        let created = relay.host.client.post("/admin/api-keys", content).await.expect(201);
        let data = created["data"].clone();
        (data["id"].as_str().unwrap().to_owned(), data["apiKey"].as_str().unwrap().to_owned())
    };
    let disabled = key(json!({ "name": "disabled", "isActive": false })).await;
    let deleted = key(json!({ "name": "deleted" })).await;
    relay.host.client.delete(&format!("/admin/api-keys/{}", deleted.0)).await.expect(200);
    let expired = key(json!({ "name": "expired", "expiresAt": "2020-01-01T00:00:00Z" })).await;
    for ((_, key), code) in
        [(disabled, "disabled_api_key"), (deleted, "deleted_api_key"), (expired, "expired_api_key")]
    {
        relay.key = key;
        let body = refused(&relay, "curl", 401, "authentication_error").await;
        assert_eq!(body["code"], code);
    }
    assert!(relay.asked().is_empty());
    relay.host.stop().await;
}

#[tokio::test]
async fn what_a_key_may_not_use_is_403_with_the_reason() {
    let mut relay = Relay::start(&["first"]).await;
    let model =
        json!({ "name": "m", "enableModelRestriction": true, "restrictedModels": ["claude-sonnet-4-5"] });
    relay.key = new_key(&relay.host, model).await;
    let body = refused(&relay, "curl", 403, "permission_error").await;
    assert!(body["message"].as_str().unwrap().contains("claude-sonnet-4-5"));
    let models = relay.http.get(relay.url("/v1/models")).bearer_auth(&relay.key).send().await.unwrap();
    assert!(!models.text().await.unwrap().contains("\"claude-sonnet-4-5\""));
    let client = json!({ "name": "c", "enableClientRestriction": true, "allowedClients": ["claude_code"] });
    relay.key = new_key(&relay.host, client).await;
    let body = refused(&relay, "curl/8", 403, "permission_error").await;
    assert_eq!((&body["allowedClients"], &body["userAgent"]), (&json!(["claude_code"]), &json!("curl/8")));
    relay.key = new_key(&relay.host, json!({ "name": "g", "permissions": ["gemini"] })).await;
    refused(&relay, "curl", 403, "permission_error").await;
    assert!(relay.asked().is_empty());
    relay.host.stop().await;
}
