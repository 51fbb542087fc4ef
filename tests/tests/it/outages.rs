//! What is answered while a store is away, how soon that is known, and what becomes of it afterwards.

mod breaker;
mod late;
mod matrix;
mod stale;

use std::time::{Duration, Instant};

use switchyard::server::Server;
use switchyard::store::side::Side;
use switchyard_tests::host::{Client, config};
use switchyard_tests::servers::{Postgres, Redis};

/// A server in this process and the two servers behind it, which nobody else uses.
struct Stage {
    server: Server,
    client: Client,
    redis: Redis,
    postgres: Postgres,
    _data: tempfile::TempDir,
}

impl Stage {
    /// Without a near cache, whose answers would depend on the moment.
    async fn start() -> Self {
        Self::start_on(Redis::start(), Postgres::start()).await
    }

    async fn start_on(redis: Redis, postgres: Postgres) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let urls = (redis.url(), postgres.url());
        // Time enough for the store that is left, on a machine that is busy.
        let flags = ["--near-cache-mib", "0", "--redis-deadline-ms", "1000"];
        let urls = ["--redis-url", &urls.0, "--postgres-url", &urls.1];
        let flags: Vec<&str> = urls.into_iter().chain(flags).collect();
        let server = Server::start(config(data.path(), &flags)).await.expect("the server starts");
        let client = Client::new(format!("http://{}", server.addr()));
        let stage = Self { server, client, redis, postgres, _data: data };
        stage.until_up().await;
        stage
    }

    fn redis_side(&self) -> &Side {
        self.server.records().sides.redis.as_ref().expect("Redis")
    }

    fn postgres_side(&self) -> &Side {
        self.server.records().sides.postgres.as_ref().expect("PostgreSQL")
    }

    /// Until every circuit is closed and has been for a probe.
    async fn until_up(&self) {
        let up = async |client: &Client| {
            let stores = client.get("/healthz").await.body["stores"].clone();
            stores.as_array().is_some_and(|stores| stores.iter().all(|store| store["up"] == true))
        };
        self.client.until("both stores are up", up).await;
    }
}

/// How long it takes until something holds; looked at every 5 ms for a minute at most.
async fn until(what: &str, holds: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}

fn is_down(side: &Side) -> bool {
    !side.breaker().up_for_reads() && !side.breaker().up_for_writes()
}

fn is_up(side: &Side) -> bool {
    side.breaker().up_for_reads() && side.breaker().up_for_writes()
}
