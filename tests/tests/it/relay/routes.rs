//! The small routes, and the names under which all of it is reached.

use serde_json::Value;

use super::{Relay, message};

#[tokio::test]
async fn every_name_of_messages_reaches_the_upstream_by_its_own() {
    let relay = Relay::start(&["first"]).await;
    let names = [
        "/v1/messages",
        "/api/v1/messages",
        "/claude/v1/messages",
        "/api/claude/v1/messages",
        "/claude/claude/v1/messages",
    ];
    for name in names {
        let response = relay.post(&format!("{name}?beta=true"), &message(false)).await;
        assert_eq!(response.status(), 200, "{name}");
    }
    assert!(relay.demo.requests().iter().all(|seen| seen.uri == "/v1/messages?beta=true"));
    assert_eq!(relay.demo.messages(), names.len() as u64);
    relay.host.stop().await;
}

#[tokio::test]
async fn what_a_client_looks_for_before_it_begins_needs_no_key() {
    let relay = Relay::start(&[]).await;
    for path in ["/", "/api/hello", "/api", "/api/", "/api/api/hello", "/claude/", "/claude/api/hello"] {
        let response = relay.http.head(relay.url(path)).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
    }
    for path in ["/api/event_logging/batch", "/api/api/event_logging/batch"] {
        let response = relay.http.post(relay.url(path)).body("{\"events\":[{}]}").send().await.unwrap();
        assert_eq!(response.json::<Value>().await.unwrap(), serde_json::json!({ "success": true }));
    }
    relay.host.stop().await;
}

#[tokio::test]
async fn a_key_tells_about_itself() {
    let relay = Relay::start(&[]).await;
    let get = async |path: &str| -> Value {
        let request = relay.http.get(relay.url(path)).bearer_auth(&relay.key);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    };
    for mount in ["", "/api", "/claude"] {
        let models = get(&format!("{mount}/v1/models")).await;
        assert_eq!((&models["object"], &models["has_more"]), (&"list".into(), &false.into()));
        let first = &models["data"][0];
        assert_eq!((&first["type"], &first["object"]), (&"model".into(), &"model".into()));
        let one = get(&format!("{mount}/v1/models/{}", first["id"].as_str().unwrap())).await;
        assert_eq!(&one, first);
        let me = get(&format!("{mount}/v1/me")).await;
        assert_eq!((&me["type"], &me["display_name"]), (&"user".into(), &"Ada".into()));
        assert!(me["id"].as_str().unwrap().starts_with("user_"));
        let info = get(&format!("{mount}/v1/key-info")).await;
        assert_eq!(
            (&info["keyInfo"]["name"], &info["keyInfo"]["usage"]["total"]["requests"]),
            (&"Ada".into(), &0.into())
        );
        assert!(info["keyInfo"]["usage"]["averages"]["rpm"].is_number());
        let usage = get(&format!("{mount}/v1/usage")).await;
        assert_eq!(
            (&usage["usage"]["daily"]["tokens"], &usage["limits"]["requests"]),
            (&0.into(), &0.into())
        );
    }
    let unknown = relay.http.get(relay.url("/v1/models/gpt")).bearer_auth(&relay.key).send().await.unwrap();
    assert_eq!(unknown.status(), 404);
    relay.host.stop().await;
}
