//! The program as a process: ended, killed, started without its stores, and with wrong settings.

mod crashes;
mod outages;
mod settings;

use reqwest::Method;
use serde_json::{Value, json};
use switchyard::strategy::catalogue::BUILT_IN;
use switchyard_tests::host::{Answer, Behind, Body, Client};
use switchyard_tests::servers::{Postgres, Redis, Switchyard};

/// The program and the servers behind it, which nobody else uses.
struct Stage {
    node: Switchyard,
    client: Client,
    redis: Option<Redis>,
    postgres: Option<Postgres>,
}

impl Stage {
    async fn start(behind: Behind, flags: &[&str]) -> Self {
        let servers = (behind == Behind::RealServers).then(|| (Redis::start(), Postgres::start()));
        let (redis, postgres) = servers.unzip();
        let urls = [redis.as_ref().map(Redis::url), postgres.as_ref().map(Postgres::url)];
        let named = ["--redis-url", "--postgres-url"].into_iter().zip(&urls);
        let mut all: Vec<&str> =
            named.filter_map(|(flag, url)| Some([flag, url.as_deref()?])).flatten().collect();
        all.extend(flags);
        let node = Switchyard::start(&all);
        let client = node.client();
        client.until_ready().await;
        Self { node, client, redis, postgres }
    }

    fn redis(&mut self) -> &mut Redis {
        self.redis.as_mut().expect("a real Redis")
    }

    fn postgres(&mut self) -> &mut Postgres {
        self.postgres.as_mut().expect("a real PostgreSQL")
    }
}

fn path(id: &str) -> String {
    format!("/store/v1/records/account/{id}")
}

async fn put(client: &Client, id: &str, n: u64) -> Answer {
    client.put(&path(id), json!({"fields": {"n": n.to_string()}})).await
}

/// The first answer that is not "not now"; asked again for a minute at most.
async fn eventually(client: &Client, method: Method, path: &str) -> Answer {
    let mut refused = None;
    for _ in 0..1_200 {
        match client.try_send(method.clone(), path, &[], Body::None).await {
            Ok(answer) if answer.status != 503 => return answer,
            Ok(answer) => {
                refused = Some(answer.body);
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            _ => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
    panic!("{method} {path}: no answer but 503 for a minute: {refused:?}");
}

async fn activate(client: &Client, name: &str) -> Value {
    eventually(client, Method::POST, &format!("/admin/strategies/{name}/activate")).await.expect(200)
}

/// What is active, from the one answer that needs no store. Asked again when the connection is one that the
/// last life of the program has left.
async fn active(client: &Client) -> Value {
    eventually(client, Method::GET, "/healthz").await.expect(200)["strategy"].clone()
}

/// Waits until nothing stands in for what was chosen.
async fn until_chosen_is_in_force(client: &Client) {
    let is_in_force = async |client: &Client| {
        let status = client.get("/admin/database/status").await.body["data"].take();
        status["health"]["status"] == "healthy"
            && status["mode"] == "normal"
            && status["chosen"]["digest"] == status["active"]["digest"]
    };
    client.until("what was chosen is in force", is_in_force).await;
}

async fn events(client: &Client) -> Vec<Value> {
    let events = client.get("/admin/strategies/events").await.expect(200)["events"].take();
    events.as_array().expect("events").clone()
}

async fn upload_and_activate_mine(client: &Client) {
    client.upload("mine", BUILT_IN[0].1).await.expect(201);
    activate(client, "mine").await;
}

/// The same strategy, under a number that has not fallen, with its history.
async fn resumed(client: &Client, before: &Value, history: &[Value]) {
    let now = active(client).await;
    assert_eq!((&now["name"], &now["digest"]), (&before["name"], &before["digest"]));
    assert!(now["generation"].as_u64() > before["generation"].as_u64(), "{before} {now}");
    let events = events(client).await;
    assert!(events.ends_with(history) && events.len() == history.len() + 1, "{history:?} {events:?}");
    assert_eq!((&events[0]["action"], &events[0]["by"]), (&json!("activated"), &json!("startup")));
}

async fn what_is_active_survives(behind: Behind) {
    let mut stage = Stage::start(behind, &[]).await;
    let client = stage.client.clone();
    upload_and_activate_mine(&client).await;
    put(&client, "a", 1).await.expect(200);
    let (before, history) = (active(&client).await, events(&client).await);
    assert!(stage.node.stop().is_some_and(|status| status.success()));
    stage.node.start_again();
    resumed(&client, &before, &history).await;
    let (before, history) = (active(&client).await, events(&client).await);
    stage.node.kill();
    stage.node.start_again();
    resumed(&client, &before, &history).await;
    assert_eq!(eventually(&client, Method::GET, &path("a")).await.expect(200)["fields"]["n"], "1");
    let back = client.post("/admin/strategies/rollback", Value::Null).await.expect(200);
    assert_eq!(back["strategy"], "dual_write");
}

#[tokio::test]
async fn what_is_active_survives_on_the_embedded_stores() {
    what_is_active_survives(Behind::Embedded).await;
}

#[tokio::test]
async fn what_is_active_survives_on_real_servers() {
    what_is_active_survives(Behind::RealServers).await;
}

#[tokio::test]
async fn an_uploaded_strategy_is_resumed_without_postgres() {
    let mut stage = Stage::start(Behind::RealServers, &[]).await;
    let client = stage.client.clone();
    upload_and_activate_mine(&client).await;
    put(&client, "before", 1).await.expect(200);
    let before = active(&client).await;
    stage.postgres().stop();
    stage.node.kill();
    stage.node.start_again();
    // Another may stand in for it by now.
    let now = eventually(&client, Method::GET, "/admin/database/status").await.expect(200)["data"].take();
    assert_eq!((&now["chosen"]["name"], &now["chosen"]["digest"]), (&before["name"], &before["digest"]));
    assert_eq!(eventually(&client, Method::GET, &path("before")).await.expect(200)["fields"]["n"], "1");
    let meanwhile = put(&client, "meanwhile", 2).await.expect(200);
    assert!(meanwhile["durability"].as_str().is_some_and(|class| class.starts_with("redis")), "{meanwhile}");
    stage.postgres().restart();
    client.until("an upload", async |client| client.get("/admin/strategies/mine").await.status == 200).await;
    until_chosen_is_in_force(&client).await;
    assert_eq!(activate(&client, "postgres_only").await["caught_up"].get("incomplete"), None);
    for (id, n) in [("before", "1"), ("meanwhile", "2")] {
        assert_eq!(eventually(&client, Method::GET, &path(id)).await.expect(200)["fields"]["n"], n);
    }
}

/// The store is silent for as long as it takes the program to begin to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_flight_end_before_the_program_does() {
    let flags = ["--strategy", "postgres_only", "--postgres-deadline-ms", "60000"];
    let mut stage = Stage::start(Behind::RealServers, &flags).await;
    let client = stage.client.clone();
    put(&client, "first", 0).await.expect(200);
    stage.postgres().pause();
    let requests: Vec<_> = (0..8)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { put(&client, &format!("flying-{n}"), n).await })
        })
        .collect();
    let lent = "switchyard_strategy_leases{strategy=\"postgres_only\",generation=\"1\"} 8\n";
    let in_flight = async |client: &Client| {
        client.get("/metrics").await.body.as_str().is_some_and(|metrics| metrics.contains(lent))
    };
    client.until("eight requests in flight", in_flight).await;
    stage.node.terminate();
    client.until("the program begins to end", async |_| stage.node.log().contains("ending")).await;
    stage.postgres().resume();
    for request in requests {
        request.await.expect("an answer").expect(200);
    }
    assert!(stage.node.stop().is_some_and(|status| status.success()));
    stage.node.start_again();
    for n in 0..8 {
        let read = eventually(&client, Method::GET, &path(&format!("flying-{n}"))).await;
        assert_eq!(read.expect(200)["fields"]["n"], n.to_string());
    }
}
