//! Clients while the stores are away.

use serde_json::json;
use switchyard_tests::host::Host;
use switchyard_tests::servers;

use super::{Relay, assert_error, message, new_account, new_key};

#[tokio::test]
async fn a_storage_outage_is_503_with_a_time_to_come_back_and_passes() {
    let demo = switchyard::demo::Demo::start(([127, 0, 0, 1], 0).into(), Default::default()).await.unwrap();
    let redis = servers::Redis::start();
    let url = redis.url();
    let flags = ["--redis-url", &url, "--postgres-url", "off", "--strategy", "redis_only"];
    let host = Host::start_in(tempfile::tempdir().unwrap(), Some(redis), &flags).await;
    let key = new_key(&host, json!({ "name": "Ada" })).await;
    new_account(&host, "first", &demo.url(), json!({})).await;
    let mut relay = Relay { host, demo, key, http: reqwest::Client::new() };
    assert_eq!(relay.ask(false).await.status(), 200);
    relay.host.redis.as_mut().unwrap().stop();
    // A key that nobody here has seen: only the store could tell.
    let stranger = format!("cr_{}", "0".repeat(64));
    let post = relay.http.post(relay.url("/v1/messages")).bearer_auth(stranger).json(&message(true));
    let response = post.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    assert_error(status, &headers, &response.json().await.unwrap(), 503, "api_error");
    assert_eq!(headers["retry-after"], "1");
    assert!(!headers.contains_key("x-should-retry"));
    relay.host.redis.as_mut().unwrap().start_again();
    let back = async |_: &_| relay.ask(true).await.status() == 200;
    relay.host.client.until("it serves again", back).await;
    relay.host.stop().await;
}
