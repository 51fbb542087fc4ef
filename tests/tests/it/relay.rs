//! The relay, as a Claude client sees it.

mod accounted;
mod bodies;
mod canary;
mod canned;
mod connections;
mod errors;
mod keys;
mod leaving;
mod outages;
mod proxies;
mod retries;
mod room;
mod routes;
mod streams;
mod verdicts;

use std::time::Duration;

use reqwest::Response;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use switchyard::demo::{Act, Demo, Options};
use switchyard_tests::host::{Behind, Host};

/// A relay with a client's key and accounts at a demo upstream.
struct Relay {
    host: Host,
    demo: Demo,
    key: String,
    http: reqwest::Client,
}

impl Relay {
    /// Accounts of these names; the first one is asked first. Their credentials are `sk-ant-NAME`.
    async fn start(accounts: &[&str]) -> Self {
        Self::start_with(accounts, &[]).await
    }

    async fn start_with(accounts: &[&str], flags: &[&str]) -> Self {
        let options = Options { keep: 16, ..Options::default() };
        let demo = Demo::start(([127, 0, 0, 1], 0).into(), options).await.expect("a demo upstream");
        let host = Host::start(Behind::Embedded, flags).await;
        let key = new_key(&host, json!({ "name": "Ada" })).await;
        for (at, name) in accounts.iter().enumerate() {
            new_account(&host, name, &demo.url(), json!({ "priority": at + 1 })).await;
        }
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().expect("a client");
        Self { host, demo, key, http }
    }

    fn script(&self, account: &str, act: Act) {
        self.demo.script(&format!("sk-ant-{account}"), [act]);
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.host.client.base)
    }

    async fn post(&self, path: &str, body: &Value) -> Response {
        let request = self.http.post(self.url(path)).header("x-api-key", &self.key);
        request.json(body).send().await.expect("an answer")
    }

    async fn ask(&self, stream: bool) -> Response {
        self.post("/v1/messages", &message(stream)).await
    }

    /// The accounts that the upstream was asked for messages with.
    fn asked(&self) -> Vec<String> {
        let signed = |seen: &switchyard::demo::Seen| {
            seen.headers["x-api-key"].to_str().unwrap().trim_start_matches("sk-ant-").to_owned()
        };
        self.demo.requests().iter().filter(|seen| seen.uri.path() == "/v1/messages").map(signed).collect()
    }
}

/// A new key for clients.
async fn new_key(host: &Host, content: Value) -> String {
    let created = host.client.post("/admin/api-keys", content).await.expect(201);
    created["data"]["apiKey"].as_str().expect("a key").to_owned()
}

/// A new account whose credential is `sk-ant-NAME`; answers its id.
async fn new_account(host: &Host, name: &str, url: &str, fields: Value) -> String {
    let mut draft = fields;
    draft["name"] = name.into();
    draft["apiUrl"] = url.into();
    draft["apiKey"] = format!("sk-ant-{name}").into();
    let created = host.client.post("/admin/accounts", draft).await.expect(201);
    created["data"]["id"].as_str().expect("an id").to_owned()
}

fn message(stream: bool) -> Value {
    json!({
        "model": "claude-sonnet-4-5",
        "max_tokens": 64,
        "stream": stream,
        "messages": [{ "role": "user", "content": "Say hi." }],
    })
}

/// An error, held against what each error has.
#[track_caller]
fn assert_error(status: u16, headers: &HeaderMap, body: &Value, expected: u16, kind: &str) {
    assert_eq!(status, expected, "{body}");
    assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!(kind)), "{body}");
    assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    assert_eq!(headers["request-id"].to_str().ok(), body["request_id"].as_str(), "{body}");
}
