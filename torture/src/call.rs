//! One call of the store API, and which of the three outcomes it had.

use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use switchyard_tests::host::TOKEN;

use crate::history::{At, Durability, Entry, KeyIndex, Op, Outcome};
use crate::keys;

/// How long a client waits. The host answers within its own deadlines, unless it is stopped.
const DEADLINE: Duration = Duration::from_secs(4);
/// How long a connection is kept that is not used: less than the host keeps it, which may close it as it is used.
const IDLE: Duration = Duration::from_secs(3);

/// Calls the hosts, and knows the time of the run.
#[derive(Clone)]
pub struct Caller {
    http: reqwest::Client,
    bases: Vec<String>,
    start: Instant,
}

impl Caller {
    /// # Errors
    /// When there can be no client.
    pub fn new(bases: Vec<String>) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(DEADLINE).pool_idle_timeout(IDLE).no_proxy().build()?;
        Ok(Self { http, bases, start: Instant::now() })
    }

    pub fn now(&self) -> At {
        self.start.elapsed().as_micros() as At
    }

    pub fn hosts(&self) -> usize {
        self.bases.len()
    }

    /// A request with the admin token and the deadline.
    pub fn request(&self, host: u8, method: Method, path: &str) -> RequestBuilder {
        let base = &self.bases[usize::from(host) % self.bases.len()];
        self.http.request(method, format!("{base}{path}")).bearer_auth(TOKEN)
    }

    pub async fn call(&self, host: u8, client: u16, key: KeyIndex, op: Op) -> Entry {
        let request = self.request_of(host, key, &op);
        let began = self.now();
        let answer = answer(request).await;
        let ended = self.now();
        let detail = answer.as_ref().map(Answer::detail).unwrap_or_default();
        let (outcome, strategy) = match answer {
            Ok(answer) => (outcome(&op, key, &answer), answer.strategy()),
            // It was never sent.
            Err(error) if error.is_connect() => (Outcome::Failed("not connected".into()), String::new()),
            Err(error) if error.is_timeout() => (Outcome::Unknown("no answer".into()), String::new()),
            Err(_) => (Outcome::Unknown("the connection broke".into()), String::new()),
        };
        Entry { key, client, host, op, began, ended, outcome, strategy, detail }
    }

    fn request_of(&self, host: u8, key: KeyIndex, op: &Op) -> RequestBuilder {
        let path = format!("/store/v1/records/{}", keys::name(key));
        match op {
            Op::Get => self.request(host, Method::GET, &path),
            Op::Find => {
                let path = format!("/store/v1/records/api_key?index=hash&value={}", keys::hash(key));
                self.request(host, Method::GET, &path)
            }
            Op::Put(write) => {
                let mut fields = json!({"key": keys::name(key), "w": write.to_string()});
                if keys::has_index(key) {
                    fields["apiKey"] = keys::hash(key).into();
                }
                self.request(host, Method::PUT, &path).json(&json!({ "fields": fields }))
            }
            Op::Delete => self.request(host, Method::DELETE, &path),
            Op::Add(events) => {
                let events: Vec<_> = events.iter().map(|event| usage(*event, key)).collect();
                self.request(host, Method::POST, "/store/v1/usage").json(&json!({ "events": events }))
            }
        }
    }
}

/// Always the same for one number, so that it may be repeated.
fn usage(event: u64, subject: KeyIndex) -> Value {
    json!({
        "id": keys::event(event), "key_id": keys::id(subject), "model": "torture",
        "at": "2026-01-02T03:04:05Z", "input_tokens": keys::tokens(event),
    })
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn strategy(&self) -> String {
        let value = self.headers.get("x-switchyard-strategy").and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    }

    fn detail(&self) -> String {
        self.body["detail"].as_str().unwrap_or_default().to_owned()
    }

    fn code(&self) -> String {
        format!("{} {}", self.status.as_u16(), self.body["code"].as_str().unwrap_or_default())
    }
}

async fn answer(request: RequestBuilder) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = serde_json::from_slice(&response.bytes().await?).unwrap_or(Value::Null);
    Ok(Answer { status, headers, body })
}

fn outcome(op: &Op, key: KeyIndex, answer: &Answer) -> Outcome {
    let reads = matches!(op, Op::Get | Op::Find);
    let code = answer.body["code"].as_str().unwrap_or_default();
    match answer.status.as_u16() {
        200 | 201 if reads => found(key, &answer.body),
        200 | 201 => acknowledged(&answer.body),
        404 if reads && code == "record-not-found" => Outcome::Absent,
        status if !REFUSALS.contains(&status) || code.is_empty() => {
            Outcome::Wrong(format!("{}: {}", answer.status, answer.body))
        }
        _ if reads || is_certain(code) => Outcome::Failed(answer.code()),
        _ => Outcome::Unknown(answer.code()),
    }
}

/// What may be answered under a fault, each time with a code: try again, for another write came in between, too
/// much is asked at once, or no store can answer. All else is a defect, whatever was inflicted.
const REFUSALS: [u16; 4] = [409, 412, 429, 503];

/// Refusals of a write that say that nothing was written.
fn is_certain(code: &str) -> bool {
    ["overloaded", "busy", "clock-skewed", "fenced"].contains(&code)
}

fn found(key: KeyIndex, body: &Value) -> Outcome {
    let fields = &body["fields"];
    let write = fields["w"].as_str().and_then(|write| write.parse().ok());
    match (body["version"].as_u64(), write, fields["key"].as_str() == Some(&keys::name(key))) {
        (Some(version), Some(write), true) => Outcome::Found { version, write },
        _ => Outcome::Wrong(format!("asked for {}, got {body}", keys::name(key))),
    }
}

fn acknowledged(body: &Value) -> Outcome {
    let durability = body["durability"].as_str().and_then(Durability::named);
    match durability {
        Some(durability) => {
            Outcome::Acknowledged { version: body["version"].as_u64().unwrap_or(0), durability }
        }
        None => Outcome::Wrong(format!("an acknowledgement without a class: {body}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(op: &Op, status: u16, body: Value) -> Outcome {
        let status = StatusCode::from_u16(status).unwrap();
        outcome(op, 0, &Answer { status, headers: HeaderMap::new(), body })
    }

    #[test]
    fn no_fault_excuses_an_answer_that_cannot_be() {
        let code = |code: &str| json!({ "code": code });
        for (status, body) in [
            (500, code("internal")),
            (502, code("strategy-failed")),
            (503, Value::Null),
            (404, code("unknown-kind")),
            (200, Value::Null),
            (400, code("invalid-id")),
        ] {
            for op in [Op::Get, Op::Put(1)] {
                let outcome = of(&op, status, body.clone());
                assert!(matches!(outcome, Outcome::Wrong(_)), "{status} {body}: {outcome:?}");
            }
        }
        assert_eq!(of(&Op::Get, 404, code("record-not-found")), Outcome::Absent);
        let unavailable = || code("store-unavailable");
        assert!(matches!(of(&Op::Get, 503, unavailable()), Outcome::Failed(_)));
        assert!(matches!(of(&Op::Put(1), 503, unavailable()), Outcome::Unknown(_)));
        assert!(matches!(of(&Op::Put(1), 503, code("clock-skewed")), Outcome::Failed(_)));
    }
}
