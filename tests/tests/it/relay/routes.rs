//! The small routes, and the names under which all of it is reached.

use serde_json::{Value, json};

use super::{Relay, message, new_account, new_key};

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
    let relay = Relay::start(&["first"]).await;
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

/// The ids that a key is told, and the whole answer.
async fn models(relay: &Relay, key: &str, query: &str) -> (Vec<String>, Value) {
    let request = relay.http.get(relay.url(&format!("/v1/models{query}"))).bearer_auth(key);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let ids = answer["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned());
    (ids.collect(), answer)
}

#[tokio::test]
async fn a_key_is_told_the_models_that_have_a_price_and_that_it_may_use() {
    let relay = Relay::start(&["first"]).await;
    let (all, answer) = models(&relay, &relay.key, "").await;
    assert!(all.iter().any(|id| id == "claude-opus-5-5") && all.len() > 10, "{all:?}");
    assert_eq!((&answer["first_id"], &answer["last_id"]), (&json!(all[0]), &json!(all[all.len() - 1])));
    let (page, answer) = models(&relay, &relay.key, &format!("?limit=2&after_id={}", all[1])).await;
    assert_eq!((&page[..], &answer["has_more"]), (&all[2..4], &json!(true)));
    let restricted = json!({ "name": "r", "enableModelRestriction": true, "restrictedModels": [all[0]] });
    let restricted = new_key(&relay.host, restricted).await;
    assert_eq!(models(&relay, &restricted, "").await.0, all[1..]);
    let one = relay.http.get(relay.url(&format!("/v1/models/{}", all[0]))).bearer_auth(&restricted);
    assert_eq!(one.send().await.unwrap().status(), 404);
    relay.host.stop().await;
}

#[tokio::test]
async fn a_key_is_told_the_models_of_its_accounts() {
    let relay = Relay::start(&[]).await;
    assert!(models(&relay, &relay.key, "").await.0.is_empty(), "nobody serves any");
    let supports = json!({ "supportedModels": { "claude-sonnet-4-5": "theirs", "glm-4.6": "glm-4.6" } });
    new_account(&relay.host, "some", &relay.demo.url(), supports).await;
    assert_eq!(models(&relay, &relay.key, "").await.0, ["claude-sonnet-4-5", "glm-4.6"]);
    let supports = json!({ "accountType": "dedicated", "supportedModels": ["claude-opus-4-5"] });
    let own = new_account(&relay.host, "own", &relay.demo.url(), supports).await;
    assert_eq!(models(&relay, &relay.key, "").await.0, ["claude-sonnet-4-5", "glm-4.6"]);
    let bound = new_key(&relay.host, json!({ "name": "b", "claudeConsoleAccountId": own })).await;
    let of_both = models(&relay, &bound, "").await.0;
    assert_eq!(of_both, ["claude-opus-4-5", "claude-sonnet-4-5", "glm-4.6"]);
    relay.host.stop().await;
}
