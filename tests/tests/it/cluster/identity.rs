//! Who a node is, and that no two are the same.

use serde_json::json;
use switchyard::server::Server;
use switchyard_tests::host::{Behind, Host, config};
use switchyard_tests::servers::Switchyard;

use super::{Shared, activate, node, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_with_an_id_that_is_in_use_is_refused() {
    let shared = Shared::start().await;
    let a = shared.node("same", &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let start = async || {
        let urls =
            ["--node-id", "same", "--redis-url", &shared.redis.url(), "--postgres-url", &shared.postgres];
        Server::start(config(folder.path(), &urls)).await
    };
    let refusal = format!("{:#}", start().await.err().expect("a refusal"));
    assert!(refusal.contains("\"same\" is in use") && refusal.contains("--node-id"), "{refusal}");
    // Either store alone is enough to know.
    let other = ["--node-id", "same", "--redis-url", "off", "--postgres-url", &shared.postgres];
    assert!(Server::start(config(folder.path(), &other)).await.is_err());
    a.client.get("/readyz").await.expect(200);
    a.stop().await;
    start().await.expect("the id is free once its node has ended in order").shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_secret_of_the_others_is_refused() {
    let shared = Shared::start().await;
    let (ours, theirs) = ("o".repeat(32), "t".repeat(32));
    let a = shared.node("a", &["--secret", &ours]).await;
    let folder = tempfile::tempdir().unwrap();
    let start = async |postgres: &str, redis: &str, secrets: &[&str]| {
        let stores = ["--node-id", "b", "--redis-url", redis, "--postgres-url", postgres];
        Server::start(config(folder.path(), &[&stores[..], secrets].concat())).await
    };
    let redis = shared.redis.url();
    // Either store alone is enough to know.
    for (postgres, redis) in [(&*shared.postgres, &*redis), ("off", &redis), (&shared.postgres, "off")] {
        let refusal = start(postgres, redis, &["--secret", &theirs]).await.err().expect("a refusal");
        let refusal = format!("{refusal:#}");
        let says = ["\"a\" has another secret", "SWITCHYARD_SECRET"];
        assert!(says.iter().all(|part| refusal.contains(part)), "{refusal}");
        assert!(!refusal.contains(&ours) && !refusal.contains(&theirs));
    }
    // One in common is enough while the secret is changed node by node.
    let changing = ["--secret", &theirs, "--old-secrets", &ours];
    start(&shared.postgres, &redis, &changing).await.expect("it knows the old one").shutdown().await;
    a.client.get("/readyz").await.expect(200);
    a.stop().await;
    let alone = start(&shared.postgres, &redis, &["--secret", &theirs]).await;
    alone.expect("the other node has ended").shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_starts_again_at_once_as_itself() {
    let shared = Shared::start().await;
    let b = shared.node("b", &[]).await;
    let redis = shared.redis.url();
    let mut a = Switchyard::start(&["--redis-url", &redis, "--postgres-url", &shared.postgres]);
    let id = a.client().get("/healthz").await.expect(200)["node"].as_str().unwrap().to_owned();
    let seen = async || node(&b.client, &id).await["state"] == "in-force";
    soon("the other node sees it", seen).await;
    a.kill();
    a.start_again();
    assert_eq!(a.client().get("/healthz").await.expect(200)["node"], id);
    soon("the other node sees it again", seen).await;
    let answer = activate(&b.client, "cache_first").await;
    assert_eq!(super::states(&answer).len(), 2, "{answer}");
    b.stop().await;
}

#[tokio::test]
async fn a_node_on_embedded_stores_is_alone() {
    let host = Host::start(Behind::Embedded, &["--node-id", "only"]).await;
    let nodes = host.client.get("/admin/nodes").await.expect(200);
    assert_eq!((&nodes["node"], nodes["nodes"].as_array().unwrap().len()), (&json!("only"), 1));
    assert_eq!(
        (&nodes["nodes"][0]["state"], &nodes["nodes"][0]["mode"]),
        (&json!("in-force"), &json!("normal"))
    );
    host.stop().await;
}
