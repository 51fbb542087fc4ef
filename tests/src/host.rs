//! A Switchyard server in this process, and a client of its API.

use std::time::Duration;

use clap::Parser;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchyard::config::Config;
use switchyard::limits::Limits;
use switchyard::server::Server;

use crate::servers;

/// The token of every test server.
pub const TOKEN: &str = "sy_0123456789abcdef0123456789abcdef0123456789abcdef";

/// The secret of all nodes that are not given another one.
const SECRET: &str = "the secret of every node of a test";

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    config: Config,
}

/// Puts the secret of all nodes into a data folder, as if this one had made it.
pub fn share_secret(data: &std::path::Path) {
    std::fs::create_dir_all(data).expect("a data folder");
    std::fs::write(data.join("secret"), SECRET).expect("a secret in the data folder");
}

/// Settings as the command line would give them, with a free port and this data folder.
pub fn config(data: &std::path::Path, flags: &[&str]) -> Config {
    share_secret(data);
    let data = data.to_str().expect("a path in UTF-8");
    let fixed = ["switchyard", "--listen", "127.0.0.1:0", "--admin-token", TOKEN, "--data", data];
    Line::try_parse_from(fixed.iter().chain(flags)).expect("settings").config
}

/// What stands behind the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    Embedded,
    RealServers,
}

/// A server, what it stands on, and a client.
pub struct Host {
    server: Option<Server>,
    pub client: Client,
    pub redis: Option<servers::Redis>,
    pub data: tempfile::TempDir,
    postgres: Option<String>,
}

impl Host {
    pub async fn start(behind: Behind, flags: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        if behind == Behind::Embedded {
            return Self::start_in(data, None, flags).await;
        }
        let redis = servers::Redis::start();
        let postgres = servers::Postgres::shared().database().await;
        let redis_url = redis.url();
        let urls = ["--redis-url", &redis_url, "--postgres-url", &postgres];
        let flags: Vec<&str> = urls.iter().chain(flags).copied().collect();
        Self::start_in(data, Some(redis), &flags).await
    }

    pub async fn start_in(data: tempfile::TempDir, redis: Option<servers::Redis>, flags: &[&str]) -> Self {
        let server = Server::start(config(data.path(), flags)).await.expect("the server starts");
        let client = Client::new(format!("http://{}", server.addr()));
        client.until_ready().await;
        let postgres =
            flags.iter().position(|flag| *flag == "--postgres-url").map(|at| flags[at + 1].to_owned());
        Self { server: Some(server), client, redis, data, postgres }
    }

    /// The server itself, for what has no surface of its own.
    ///
    /// # Panics
    /// After it was stopped.
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("a server")
    }

    /// The limits of its keys.
    pub fn limits(&self) -> &Limits {
        self.server.as_ref().expect("a server that runs").limits()
    }

    /// The server's keys, for what no request of an admin does.
    pub fn keys(&self) -> &std::sync::Arc<switchyard::keys::Keys> {
        self.server.as_ref().expect("a server").keys()
    }

    pub fn postgres_url(&self) -> Option<String> {
        self.postgres.clone()
    }

    /// Ends the server and gives back what it stood on: its data folder and its Redis.
    pub async fn stop_all(mut self) -> (tempfile::TempDir, servers::Redis) {
        let redis = self.redis.take().expect("a Redis");
        (self.stop().await, redis)
    }

    /// Ends the server and gives back its data folder.
    pub async fn stop(mut self) -> tempfile::TempDir {
        if let Some(server) = self.server.take() {
            server.shutdown().await;
        }
        self.data
    }
}

/// A client with the admin token. Every request has a deadline.
#[derive(Clone)]
pub struct Client {
    pub base: String,
    http: reqwest::Client,
}

/// What a request was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body, if the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self.body
    }
}

impl Client {
    pub fn new(base: String) -> Self {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().expect("a client");
        Self { base, http }
    }

    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Body) -> Answer {
        self.try_send(method, path, headers, body).await.expect("an answer")
    }

    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> reqwest::Result<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(TOKEN);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = match body {
            Body::None => request,
            Body::Json(body) => request.json(&body),
            Body::Bytes(bytes) => request.body(bytes),
        };
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await?;
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Ok(Answer { status, headers, body })
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Body::None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, &[], Body::Json(body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, &[], Body::Json(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], Body::None).await
    }

    /// Makes a strategy active and answers the report.
    pub async fn activate(&self, name: &str) -> Value {
        self.post(&format!("/admin/strategies/{name}/activate"), json!({})).await.expect(200)
    }

    pub async fn upload(&self, name: &str, component: &[u8]) -> Answer {
        let body = Body::Bytes(component.to_vec());
        self.send(Method::PUT, &format!("/admin/strategies/{name}"), &[], body).await
    }

    /// Waits until the server can serve; a minute at most.
    pub async fn until_ready(&self) {
        self.until("ready", async |client| client.get("/readyz").await.status == 200).await;
    }

    /// Asks until something holds; a minute at most.
    pub async fn until(&self, what: &str, holds: impl AsyncFn(&Self) -> bool) {
        for _ in 0..1_200 {
            if holds(self).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not within a minute: {what}");
    }
}

pub enum Body {
    None,
    Json(Value),
    Bytes(Vec<u8>),
}
