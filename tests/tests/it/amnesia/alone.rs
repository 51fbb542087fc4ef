//! Redis comes back while PostgreSQL is away, so that there is nothing to compare it with.

use serde_json::json;
use switchyard::store::identity::Lineage as _;
use switchyard::store::redis::{Redis, RedisSettings};
use switchyard_tests::host::Client;

use super::{Stage, path};

/// Redis has forgotten everything and PostgreSQL is away: nobody knows what there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_redis_alone_answers_not_now_instead_of_absent() {
    let mut stage = Stage::start(&[]).await;
    stage.write(0..10, 1).await;
    stage.postgres.stop();
    stage.redis.kill();
    stage.redis.put_back(None);
    stage.redis.start_again();
    let cold = async |client: &Client| {
        let stores = client.get("/readyz").await.body["stores"].take();
        stores[0]["up"] == true && stores[0]["trusted"] == false && stores[1]["up"] == false
    };
    stage.client.until("Redis is up, and not believed", cold).await;
    assert_eq!(stage.client.get("/readyz").await.expect(503)["ready"], false);
    let health = stage.client.get("/admin/database/health").await.expect(200);
    assert_eq!(health["data"]["status"], "unhealthy", "{health}");
    let status = stage.client.get("/admin/database/status").await.expect(200)["data"].take();
    let redis = &status["stores"][0];
    assert_eq!((&redis["up"], &redis["trusted"]), (&json!(true), &json!(false)), "{status}");
    for id in (0..10).chain(500..510) {
        stage.client.get(&path(id)).await.expect(503);
        let absent = [("if-none-match", "*")];
        let body = switchyard_tests::host::Body::Json(json!({"fields": {"n": "9"}}));
        let refused = stage.client.send(reqwest::Method::PUT, &path(id), &absent, body).await;
        assert_eq!(refused.status, 503, "a duplicate: {}", refused.body);
    }
    stage.postgres.start_again();
    stage.until_whole(1).await;
    let well = async |client: &Client| client.get("/healthz").await.body["status"] == "healthy";
    stage.client.until("all is well again", well).await;
    stage.each_store_has(0..10, |_| Some(1)).await;
    stage.host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_redis_is_believed_alone_only_if_it_wrote_through() {
    for writes_through in [false, true] {
        let mut stage = Stage::start(&[]).await;
        stage.write(0..10, 1).await;
        let redis = Redis::connect(RedisSettings::new(stage.redis.url())).await.expect("a Redis");
        if writes_through {
            let server = redis::Client::open(stage.redis.url()).expect("a URL");
            let mut connection = server.get_multiplexed_async_connection().await.expect("a connection");
            let set = ["CONFIG", "SET", "appendfsync", "always"];
            redis::cmd(set[0]).arg(&set[1..]).exec_async(&mut connection).await.expect("set");
            redis::cmd("SET").arg(&["barrier", "1"]).exec_async(&mut connection).await.expect("set");
            redis.note_synced(true).await.expect("noted");
        }
        stage.postgres.stop();
        stage.redis.kill();
        stage.redis.start_again();
        if writes_through {
            let read = async |client: &Client| client.get(&path(1)).await.status == 200;
            stage.client.until("Redis is believed", read).await;
            stage.client.get(&path(500)).await.expect(404);
            // Nobody has made it write through since: the next restart is another matter.
            stage.redis.kill();
            stage.redis.start_again();
        }
        let up = async |client: &Client| client.get("/readyz").await.body["stores"][0]["up"] == true;
        stage.client.until("Redis is up", up).await;
        for id in 0..10 {
            stage.client.get(&path(id)).await.expect(503);
        }
        stage.host.stop().await;
    }
}

/// The only copy of a record has two seconds to live, and PostgreSQL is away for longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_only_redis_has_does_not_expire_before_it_is_carried_over() {
    let mut stage = Stage::start(&[]).await;
    stage.postgres.stop();
    let session = json!({"fields": {"user": "u"}, "ttl_seconds": 2});
    let put = async |client: &Client| {
        let answer = client.put("/store/v1/records/session/s", session.clone()).await;
        answer.body["durability"] == "redis"
    };
    stage.client.until("a write to Redis alone", put).await;
    let began = std::time::Instant::now();
    let over = async |_: &Client| began.elapsed().as_secs() >= 10;
    stage.client.until("ten seconds of outage", over).await;
    let exists = stage.in_redis(redis::cmd("EXISTS").arg("session:s")).await;
    assert_eq!(exists, 1, "the only copy is gone");
    stage.postgres.start_again();
    let carried =
        async |_: &Client| stage.in_postgres("select count(*) from session where id = 's'").await == Some(1);
    stage.client.until("PostgreSQL has it", carried).await;
    stage.host.stop().await;
}
