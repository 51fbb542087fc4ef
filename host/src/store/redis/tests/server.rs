//! A Redis server of a test's own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::eventually;

pub(super) struct Server {
    port: u16,
    arguments: Vec<String>,
    _folder: tempfile::TempDir,
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
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let own = |argument: &&str| {
            argument.replace("{port}", &port.to_string()).replace("{folder}", folder.path().to_str().unwrap())
        };
        let arguments: Vec<_> = arguments.iter().map(own).collect();
        let server = Self { port, process: spawn(&arguments), arguments, _folder: folder };
        server.wait().await;
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
        self.process = spawn(&self.arguments);
        self.wait().await;
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

    async fn wait(&self) {
        let port = self.port;
        eventually("the server takes connections", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already, or stopped: neither keeps a kill from ending it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(arguments: &[String]) -> Child {
    Command::new("redis-server")
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server does not start; install it with: apt-get install redis-server")
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
