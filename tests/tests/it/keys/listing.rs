//! Lists of keys over HTTP.

use serde_json::{Value, json};
use switchyard_tests::host::{Behind, Host};

use super::{PATH, act, issue};

fn names(page: &Value) -> Vec<&str> {
    page["data"]["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_list_goes_on_across_a_change_of_the_strategy() {
    let host = Host::start(Behind::RealServers, &[]).await;
    let client = &host.client;
    for name in ["e", "D", "c", "b", "A"] {
        issue(client, json!({ "name": name })).await;
    }
    let mut path = format!("{PATH}?sort=name&order=asc&limit=2");
    let mut seen = Vec::new();
    for strategy in ["redis_only", "postgres_only", "dual_write"] {
        client.activate(strategy).await;
        let page = client.get(&path).await.expect(200);
        seen.extend(names(&page).iter().map(|name| (*name).to_owned()));
        let next = page["data"]["pagination"]["next"].as_str().unwrap_or("end").to_owned();
        path = format!("{PATH}?sort=name&order=asc&limit=2&cursor={next}");
    }
    assert_eq!(seen, ["A", "b", "c", "D", "e"]);
    assert!(path.ends_with("end"));
    host.stop().await;
}

#[tokio::test]
async fn a_list_is_filtered_and_newest_first() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let client = &host.client;
    let mut ids = Vec::new();
    for (name, tag) in [("one", "red"), ("two", "blue"), ("three", "red"), ("four", "blue")] {
        ids.push(issue(client, json!({ "name": name, "tags": [tag] })).await.0);
    }
    act(client, &ids[1], "disable").await;
    client.delete(&format!("{PATH}/{}", ids[2])).await.expect(200);
    for (query, expected) in [
        ("", vec!["four", "two", "one"]),
        ("?status=active", vec!["four", "one"]),
        ("?status=disabled", vec!["two"]),
        ("?status=deleted", vec!["three"]),
        ("?status=all&order=asc", vec!["one", "two", "three", "four"]),
        ("?status=all&tag=red", vec!["three", "one"]),
        ("?search=O", vec!["four", "two", "one"]),
        ("?search=ne", vec!["one"]),
        ("?tag=none", vec![]),
    ] {
        let page = client.get(&format!("{PATH}{query}")).await.expect(200);
        assert_eq!(names(&page), expected, "{query}");
        assert!(page["data"]["items"].to_string().find("apiKey").is_none(), "{page}");
    }
    host.stop().await;
}
