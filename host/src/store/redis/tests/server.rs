//! A Redis server of a test's own.

use std::net::TcpListener;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::eventually;

pub(super) struct Server {
    port: u16,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
    process: Child,
}

impl Server {
    /// A server with these arguments, in which `{port}` and `{folder}` stand for its own.
    pub(super) async fn start(arguments: &[&str]) -> Self {
        let usual = ["--port", "{port}", "--bind", "127.0.0.1", "--save", "", "--dir", "{folder}"];
        Self::start_in(tempfile::tempdir().unwrap(), &[&usual, arguments].concat()).await
    }

    /// A sentinel that watches this server under the name `main`.
    pub(super) async fn start_sentinel(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let watched = format!("sentinel monitor main 127.0.0.1 {} 1\n", self.port);
        std::fs::write(folder.path().join("sentinel.conf"), watched).unwrap();
        let arguments = ["{folder}/sentinel.conf", "--sentinel", "--port", "{port}", "--bind", "127.0.0.1"];
        Self::start_in(folder, &arguments).await
    }

    /// The same as [`start`](Self::start) with files in the folder that the arguments name.
    pub(super) async fn start_in(folder: tempfile::TempDir, arguments: &[&str]) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let port = free_port();
        let process = spawn(port, &folder, &arguments);
        let mut server = Self { port, arguments, folder, process };
        while !server.is_ready().await {
            server.port = free_port();
            server.process = spawn(server.port, &server.folder, &server.arguments);
        }
        server
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// A connection of another program.
    pub(super) async fn other(&self) -> Other {
        let client = redis::Client::open(self.url()).unwrap();
        Other(client.get_multiplexed_async_connection().await.unwrap())
    }

    pub(super) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// The same server with the same files.
    pub(super) async fn start_again(&mut self) {
        self.process = spawn(self.port, &self.folder, &self.arguments);
        assert!(self.is_ready().await, "another server has taken the port");
    }

    pub(super) fn pause(&self) {
        self.signal("STOP");
    }

    pub(super) fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    /// Whether it serves, or has given up: the port may be another's.
    async fn is_ready(&mut self) -> bool {
        eventually("the server says what became of it", async || {
            let log = std::fs::read_to_string(self.folder.path().join(LOG)).unwrap();
            let ready = ["Ready to accept connections", "+monitor master"];
            if ready.iter().any(|line| log.contains(line)) {
                return Some(true);
            }
            self.process.try_wait().unwrap().map(|_| false)
        })
        .await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already, or stopped: neither keeps a kill from ending it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const LOG: &str = "server.log";

fn spawn(port: u16, folder: &tempfile::TempDir, arguments: &[String]) -> Child {
    let path = folder.path();
    let own =
        |text: &String| text.replace("{port}", &port.to_string()).replace("{folder}", path.to_str().unwrap());
    Command::new("redis-server")
        .args(arguments.iter().map(own))
        .stdout(std::fs::File::create(path.join(LOG)).unwrap())
        .spawn()
        .expect("redis-server does not start; install it with: apt-get install redis-server")
}

/// A port below those that the system gives to outgoing connections: one that connects to a port on which
/// nobody listens could otherwise meet itself there.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + (number % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Another program on the same server.
pub(super) struct Other(MultiplexedConnection);

impl Other {
    /// Runs a command of words without spaces in them.
    pub(super) async fn run(&mut self, command: &str) -> Value {
        let mut words = command.split_whitespace();
        let mut cmd = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            cmd.arg(word);
        });
        self.send(&cmd).await
    }

    pub(super) async fn send(&mut self, cmd: &redis::Cmd) -> Value {
        cmd.query_async(&mut self.0).await.unwrap()
    }

    pub(super) async fn text(&mut self, command: &str) -> Option<String> {
        redis::from_redis_value(self.run(command).await).unwrap()
    }

    pub(super) async fn number(&mut self, command: &str) -> i64 {
        redis::from_redis_value(self.run(command).await).unwrap()
    }
}
