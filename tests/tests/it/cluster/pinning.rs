//! A pin on what is in force is a switch of its own on the other nodes.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Shared, activate, active, chosen, soon};

/// What is promised is a second, and a drain that does not end takes ten.
const PROMPTLY: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pin_on_what_is_in_force_holds_up_no_later_switch() {
    let shared = Shared::start().await;
    // The first node's generation has the lower number, so that the other one's choice is a new one there.
    let (b, a) = (shared.node("b", &[]).await, shared.node("a", &[]).await);
    let pin = json!({ "pin": true });
    a.client.post("/admin/strategies/dual_write/activate", pin).await.expect(200);
    soon("pinned on the other node", async || chosen(&b.client).await["pinned"] == true).await;
    // The answer waits for the other nodes.
    let began = Instant::now();
    activate(&a.client, "cache_first").await;
    soon("in force there", async || active(&b.client).await == "cache_first").await;
    assert!(began.elapsed() < PROMPTLY, "{:?}", began.elapsed());
    a.stop().await;
    b.stop().await;
}
