//! A client of the relay, which reads what it is told by itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use reqwest::Response;
use serde_json::Value;

use super::ask::{Ask, End};
use super::judge::{Answer, Attempt, Saw};
use super::stage::Stage;
use crate::history::At;

/// How long a stream may take. Far more than any does.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long a client tries again that is refused, and how long it waits in between.
const TRIES: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

/// Sends streams, and knows the time of the run.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    key: String,
    seed: u64,
    start: Instant,
}

impl Client {
    /// # Errors
    /// When there can be no client.
    pub fn new(stage: &Stage, seed: u64) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build()?;
        let url = format!("{}/v1/messages", stage.url());
        Ok(Self { http, url, key: stage.key.clone(), seed, start: Instant::now() })
    }

    pub fn now(&self) -> At {
        self.start.elapsed().as_micros() as At
    }

    /// The n-th stream, tried again for as long as it is refused. `begun` counts those that go on after their first
    /// event.
    pub async fn stream(&self, number: u64, begun: &AtomicU64) -> Vec<Attempt> {
        let (mut attempts, first) = (Vec::new(), Instant::now());
        loop {
            let (ask, request_id) = (Ask::new(number, self.seed), format!("{number}.{}", attempts.len()));
            let began = self.now();
            let saw = self.once(&ask, &request_id, begun).await;
            let again = matches!(saw, Saw::NotConnected | Saw::Refused(_)) && first.elapsed() < TRIES;
            attempts.push(Attempt { request_id, ask, saw, began, ended: self.now() });
            if !again {
                return attempts;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn once(&self, ask: &Ask, request_id: &str, begun: &AtomicU64) -> Saw {
        let request = self.http.post(&self.url).header("x-api-key", &self.key);
        let request = request.header("x-request-id", request_id).header("content-type", "application/json");
        let sent = request.body(ask.body.clone()).send();
        let response = match ask.end {
            End::Leave(millis) => match tokio::time::timeout(Duration::from_millis(millis), sent).await {
                // Dropped, and with it the connection.
                Ok(Ok(response)) if response.status() == 200 => return Saw::Answer(Answer::hung_up()),
                Ok(sent) => sent,
                Err(_) => return Saw::Nothing { hung_up: true },
            },
            _ => sent.await,
        };
        match response {
            Ok(response) if response.status() == 200 => Saw::Answer(read(response, ask.end, begun).await),
            Ok(response) => refused(response).await,
            // It was never sent.
            Err(error) if error.is_connect() => Saw::NotConnected,
            Err(_) => Saw::Nothing { hung_up: false },
        }
    }
}

/// Counts for as long as it lives.
struct Begun<'a>(&'a AtomicU64);

impl<'a> Begun<'a> {
    fn new(begun: &'a AtomicU64) -> Self {
        begun.fetch_add(1, Ordering::Relaxed);
        Self(begun)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn refused(response: Response) -> Saw {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap_or_default();
    Saw::Refused(format!("{status} {}", body["code"].as_str().unwrap_or_default()))
}

/// Reads a stream to its end, or to where the client hangs up.
async fn read(mut response: Response, end: End, begun: &AtomicU64) -> Answer {
    let (mut answer, mut rest, mut bytes, mut counted) = (Answer::default(), Vec::new(), 0, None);
    loop {
        match response.chunk().await {
            Ok(Some(piece)) => {
                bytes += piece.len();
                rest.extend_from_slice(&piece);
                take_events(&mut rest, &mut answer);
            }
            Ok(None) => {
                answer.closed = true;
                return answer;
            }
            Err(_) => {
                answer.broken = true;
                return answer;
            }
        }
        if answer.told.is_some() && counted.is_none() {
            counted = Some(Begun::new(begun));
        }
        if matches!(end, End::HangUp(after) if bytes >= after) {
            return Answer { hung_up: true, ..answer };
        }
    }
}

/// Takes the events that are there whole.
fn take_events(rest: &mut Vec<u8>, answer: &mut Answer) {
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\n\n") {
        let event: Vec<u8> = rest.drain(..end + 2).collect();
        let data = event.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data: "));
        let data: Value = data.and_then(|data| serde_json::from_slice(data).ok()).unwrap_or_default();
        take(&data, answer);
    }
}

fn take(data: &Value, answer: &mut Answer) {
    let output = |usage: &Value| usage["output_tokens"].as_u64().unwrap_or(0);
    match data["type"].as_str().unwrap_or_default() {
        "message_start" => {
            let usage = &data["message"]["usage"];
            answer.told = Some((usage["input_tokens"].as_u64().unwrap_or(0), output(usage)));
        }
        "message_delta" => answer.told = answer.told.map(|(input, _)| (input, output(&data["usage"]))),
        "message_stop" => answer.stopped = true,
        "error" => answer.error = data["error"]["type"].as_str().map(str::to_owned),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_in_any_slicing() {
        let stream = b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7,\
            \"output_tokens\":1}}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":\
            {\"output_tokens\":9}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
        for size in [1, 5, 1_000] {
            let (mut rest, mut answer) = (Vec::new(), Answer::default());
            for piece in stream.chunks(size) {
                rest.extend_from_slice(piece);
                take_events(&mut rest, &mut answer);
            }
            assert_eq!((answer.told, answer.stopped), (Some((7, 9)), true), "{size}");
        }
        let (mut rest, mut answer) = (stream[..100].to_vec(), Answer::default());
        take_events(&mut rest, &mut answer);
        assert_eq!(answer.told, None, "a part of an event says nothing");
    }
}
