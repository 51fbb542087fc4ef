//! What happened to strategies, on whichever node it happened.

use std::collections::BTreeSet;

use serde_json::Value;
use switchyard_tests::host::{Client, Host};

use super::{Shared, soon};

async fn events(client: &Client) -> Vec<Value> {
    let mut answer = client.get("/admin/strategies/events").await.expect(200);
    answer["events"].as_array_mut().map(std::mem::take).expect("events")
}

/// The refused uploads that a node lists, each with the node that refused it.
async fn refused(client: &Client) -> Vec<(String, String)> {
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let refused = events(client).await.into_iter().filter(|event| event["action"] == "refused");
    refused.map(|event| (text(&event, "node"), text(&event, "strategy"))).collect()
}

fn all() -> BTreeSet<(String, String)> {
    let of = |node: &'static str| (0..3).map(move |n| (node.to_owned(), format!("{node}{n}")));
    of("a").chain(of("b")).collect()
}

async fn lists_all(host: &Host) {
    soon("all are listed", async || {
        let listed = refused(&host.client).await;
        listed.len() == 6 && listed.into_iter().collect::<BTreeSet<_>>() == all()
    })
    .await;
    let listed = events(&host.client).await;
    assert!(listed.is_sorted_by(|one, other| one["at"].as_i64() >= other["at"].as_i64()), "{listed:?}");
    let mut known = BTreeSet::new();
    for event in &listed {
        let key = (event["node"].as_str().expect("a node").to_owned(), event["number"].as_u64());
        assert!(known.insert(key), "twice: {event}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_node_lists_the_events_of_all_also_after_a_restart() {
    let shared = Shared::start().await;
    let (a, b) = (shared.node("a", &[]).await, shared.node("b", &[]).await);
    for n in 0..3 {
        for (id, node) in [("a", &a), ("b", &b)] {
            node.client.upload(&format!("{id}{n}"), b"no component").await.expect(422);
        }
    }
    lists_all(&a).await;
    lists_all(&b).await;
    let urls = ["--node-id", "b", "--redis-url", &shared.redis.url(), "--postgres-url", &shared.postgres];
    let b = Host::start_in(b.stop().await, None, &urls).await;
    lists_all(&b).await;
    lists_all(&a).await;
    a.stop().await;
    b.stop().await;
}
