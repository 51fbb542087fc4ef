//! What an admin does with a key while a store is away.

use serde_json::json;
use switchyard::keys::Refusal;
use switchyard_tests::host::{Behind, Client, Host};

use super::{act, issue, refusal};
use crate::syncing::sync;

/// Redis comes back with the key as it was, active, and is copied from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_disabled_without_redis_stays_so_after_a_sync_from_redis() {
    let mut host = Host::start(Behind::RealServers, &[]).await;
    let (id, key) = issue(&host.client, json!({ "name": "Anna" })).await;
    host.keys().authenticate(&key).await.expect("a key that lets in");
    host.redis.as_mut().unwrap().kill();
    act(&host.client, &id, "disable").await;
    assert_eq!(refusal(&host, &key).await, Refusal::Disabled);
    host.redis.as_mut().unwrap().restart();
    let up = async |client: &Client| {
        let stores = client.get("/healthz").await.body["stores"].clone();
        stores.as_array().is_some_and(|stores| stores.iter().all(|store| store["up"] == true))
    };
    host.client.until("Redis is up", up).await;
    sync(&host.client, "redis-to-postgres").await;
    for strategy in ["dual_write", "redis_only", "postgres_only"] {
        host.client.activate(strategy).await;
        // A store that came back is not read before it was compared. Nobody is let in meanwhile.
        let disabled = async |_: &Client| match refusal(&host, &key).await {
            Refusal::Store(_) => false,
            refused => {
                assert_eq!(refused, Refusal::Disabled, "{strategy}");
                true
            }
        };
        host.client.until(strategy, disabled).await;
    }
    host.stop().await;
}
