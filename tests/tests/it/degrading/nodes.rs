//! Two nodes, of which one loses a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::{Client, Servers, get, in_both_stores, put, status, until_in_force};

/// Passes connections on to a port, until it is cut.
struct Forwarder {
    port: u16,
    cut: Arc<AtomicBool>,
    changed: Arc<Notify>,
    _tasks: JoinSet<()>,
}

impl Forwarder {
    async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("the port").port();
        let (cut, changed) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(Self::forward(listener, target, cut.clone(), changed.clone()));
        Self { port, cut, changed, _tasks: tasks }
    }

    async fn forward(listener: TcpListener, target: u16, cut: Arc<AtomicBool>, changed: Arc<Notify>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (mut near, _) = accepted.expect("a connection");
                    if !cut.load(Ordering::Acquire) {
                        connections.spawn(async move {
                            if let Ok(mut far) = TcpStream::connect(("127.0.0.1", target)).await {
                                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                            }
                        });
                    }
                }
                () = changed.notified() => connections.abort_all(),
            }
        }
    }

    fn set_cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Release);
        self.changed.notify_one();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_that_loses_postgres_moves_the_others_too() {
    let servers = Servers::start();
    let line = Forwarder::to(servers.postgres.port()).await;
    let through =
        servers.postgres.url().replace(&servers.postgres.port().to_string(), &line.port.to_string());
    let (_cut_off, cut_off) = servers.node_on("cut-off", &through, &[]).await;
    let (_other, other) = servers.node("other", &[]).await;
    put(&other, "before", 1).await.expect(200);
    line.set_cut(true);
    until_in_force(&cut_off, "redis_only").await;
    until_in_force(&other, "redis_only").await;
    let now = status(&other).await;
    assert_eq!(now["mode"], json!("postgres-lost"));
    assert!(now["cause"].as_str().unwrap().contains("node cut-off has lost PostgreSQL"), "{now}");
    let mut written = vec![("before".to_owned(), 1)];
    for (n, client) in [&cut_off, &other, &cut_off, &other].into_iter().enumerate() {
        let id = format!("r{n}");
        assert_eq!(put(client, &id, n as u64).await.expect(200)["durability"], "redis");
        written.push((id, n as u64));
    }
    line.set_cut(false);
    until_in_force(&cut_off, "dual_write").await;
    until_in_force(&other, "dual_write").await;
    assert_eq!(servers.appendfsync().await, "everysec");
    in_both_stores(&other, &written).await;
}

/// Reads until it is told to stop, and some times more. Answers the first numbers that were shown, and then a lower one.
async fn read_on(reader: &Client, id: &str, over: &AtomicBool) -> Vec<(u64, u64)> {
    let (mut seen, mut taken_back, mut left) = (0, Vec::new(), 500);
    while left > 0 {
        left -= u32::from(over.load(Ordering::Acquire));
        let answer = get(reader, id).await;
        if answer.status == 503 {
            continue;
        }
        let version =
            answer.expect(200)["fields"]["n"].as_str().and_then(|n| n.parse().ok()).expect("a number");
        if version < seen && taken_back.len() < 5 {
            taken_back.push((seen, version));
        }
        seen = seen.max(version);
    }
    taken_back
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_returns_to_redis_takes_back_nothing_that_it_has_shown() {
    let servers = Servers::start();
    let (mut nodes, mut lines) = (Vec::new(), Vec::new());
    for name in ["writer", "reader"] {
        let line = Forwarder::to(servers.redis.port()).await;
        let redis = servers.redis.url().replace(&servers.redis.port().to_string(), &line.port.to_string());
        nodes.push(servers.node_at(name, &redis, &servers.postgres.url(), &[]).await);
        lines.push(line);
    }
    let [(_writer, writer), (_reader, reader)] = &nodes[..] else { unreachable!() };
    put(writer, "k", 0).await.expect(200);
    lines.iter().for_each(|line| line.set_cut(true));
    until_in_force(writer, "postgres_only").await;
    until_in_force(reader, "postgres_only").await;
    let (written, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let writes = async {
        let mut n = 0;
        while !written.load(Ordering::Acquire) {
            n += 1;
            put(writer, "k", n).await.expect(200);
        }
    };
    let returns = async {
        lines[1].set_cut(false);
        until_in_force(reader, "dual_write").await;
        over.store(true, Ordering::Release);
    };
    let reads = async {
        let taken_back = read_on(reader, "k", &over).await;
        written.store(true, Ordering::Release);
        taken_back
    };
    let (taken_back, ..) = tokio::join!(reads, writes, returns);
    assert_eq!(taken_back, [], "(shown, and then)");
}
