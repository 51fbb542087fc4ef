//! An operation outlives its node.

use serde_json::json;
use switchyard_tests::host::Host;

use super::{all, on_filled};

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_a_restart_interrupts_goes_on_by_itself() {
    const EACH: usize = 3_000;
    let (host, _database) = on_filled(EACH, false).await;
    let begun = host.client.post("/admin/database/sync/redis-to-postgres", json!({})).await;
    let begun = begun.expect(202)["data"].clone();
    let path = format!("/admin/operations/{}", begun["id"].as_str().unwrap());
    let postgres = host.postgres_url().unwrap();
    let (data, redis) = host.stop_all().await;

    let url = redis.url();
    let flags = ["--redis-url", &url, "--postgres-url", &postgres];
    let host = Host::start_in(data, Some(redis), &flags).await;
    host.client.until("done", async |client| client.get(&path).await.expect(200)["state"] == "done").await;
    let ended = host.client.get(&path).await.expect(200);
    assert_eq!(ended["started_at"], begun["started_at"]);
    assert_eq!(ended["result"]["usage_balances"], 4 * EACH + 1, "{ended}");
    host.client.activate("postgres_only").await;
    assert_eq!(all(&host.client, "api_key").await.len(), EACH);
    host.stop().await;
}
