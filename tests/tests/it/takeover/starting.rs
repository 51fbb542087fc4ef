//! How soon a host serves what Claude Relay Service has left.

use std::time::Duration;

use switchyard_tests::host::Client;
use switchyard_tests::proxy::{Fault, Proxy};
use switchyard_tests::relay_database::RelayDatabase;
use switchyard_tests::servers::{Postgres, Redis, Switchyard};

/// Of keys, accounts and sessions, each: more than PostgreSQL takes while a start waits.
const OF_EACH: usize = 20_000;
const SLOW: Fault = Fault::Delay(Duration::from_millis(15), Duration::ZERO);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_does_not_wait_until_postgres_has_everything() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let proxy = Proxy::start(postgres.port()).await.unwrap();
    let to_postgres = postgres.url().replace(&postgres.port().to_string(), &proxy.port().to_string());
    let flags = ["--redis-url", &redis.url(), "--postgres-url", &to_postgres];
    let mut node = tokio::task::block_in_place(|| Switchyard::start(&flags));
    let client = node.client();
    client.until_ready().await;
    tokio::task::block_in_place(|| node.stop());

    RelayDatabase::open(&redis.url()).await.fill(OF_EACH).await;
    proxy.set(SLOW);
    tokio::task::block_in_place(|| node.start_again());
    let events = client.get("/admin/strategies/events").await.expect(200)["events"].take();
    let details = events.as_array().unwrap().iter().filter_map(|event| event["detail"].as_str());
    assert_eq!(details.filter(|detail| detail.contains("the rest follows")).count(), 1, "{events}");
    let last = format!("/store/v1/records/api_key/key-{}", OF_EACH - 1);
    client.until("the last key is served", async |client| client.get(&last).await.status == 200).await;
    proxy.set(Fault::Pass);
    client.until("PostgreSQL has everything", owes_nothing).await;
}

async fn owes_nothing(client: &Client) -> bool {
    let health = client.get("/admin/database/health").await.expect(200);
    let stores = health["data"]["stores"].as_array().cloned().unwrap_or_default();
    stores.len() == 2 && stores.iter().all(|store| store["backlog"]["records"] == 0)
}
