//! Messages, plain and as events, and errors, in the shapes of the Anthropic API.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Options;
use super::act::Act;
use super::asked::Asked;
use super::play::{Reply, Step};

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream; charset=utf-8";
const GARBAGE: &str = "<html><body>Bad day at the upstream</body></html>";

/// What it says it can do.
const MODELS: [(&str, &str); 3] = [
    ("claude-opus-4-5-20251101", "Claude Opus 4.5"),
    ("claude-sonnet-4-5-20250929", "Claude Sonnet 4.5"),
    ("claude-haiku-4-5-20251001", "Claude Haiku 4.5"),
];

/// The answer to a request for a message; none when the connection is to be closed instead.
pub(super) fn message(asked: &Asked, act: Act, credential: &str, options: Options) -> Option<Reply> {
    let mut reply = match act {
        Act::Nothing => return None,
        Act::Status { status, retry_after } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            error(status, "the demo upstream was told to say this", retry_after)
        }
        Act::Echo => error(StatusCode::BAD_REQUEST, &format!("invalid x-api-key: {credential}"), None),
        Act::Garbage => Reply::new(StatusCode::OK, kind(asked), [piece(GARBAGE.to_owned())]),
        _ if asked.stream => streamed(asked, act, options),
        _ => plain(asked, act),
    };
    reply.silent = act == Act::Silent;
    reply.pause = options.first;
    Some(reply)
}

fn kind(asked: &Asked) -> &'static str {
    if asked.stream { EVENTS } else { JSON }
}

/// An error in Anthropic's shape.
pub(super) fn error(status: StatusCode, message: &str, retry_after: Option<u16>) -> Reply {
    let id = format!("req_demo_{}", Uuid::now_v7().simple());
    let kind = match status.as_u16() {
        400 => "invalid_request_error",
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    let error = json!({ "type": kind, "message": message });
    let body = json!({ "type": "error", "error": error, "request_id": id });
    let reply = Reply::json(status, &body);
    // Hexadecimal digits are always a header.
    let reply = match HeaderValue::try_from(id) {
        Ok(id) => reply.header("request-id", id),
        Err(_) => reply,
    };
    match retry_after {
        Some(seconds) => reply.header("retry-after", seconds.into()),
        None => reply,
    }
}

pub(super) fn models() -> Reply {
    let data = MODELS.map(|(id, name)| {
        json!({ "type": "model", "id": id, "display_name": name, "created_at": "2025-09-29T00:00:00Z" })
    });
    let (first, last) = (data[0]["id"].clone(), data[MODELS.len() - 1]["id"].clone());
    let body = json!({ "data": data, "has_more": false, "first_id": first, "last_id": last });
    Reply::json(StatusCode::OK, &body)
}

pub(super) fn count(asked: &Asked) -> Reply {
    Reply::json(StatusCode::OK, &json!({ "input_tokens": asked.tokens }))
}

/// The words that are answered, each with the space before it.
fn words(asked: &Asked) -> Vec<String> {
    let said = format!(
        "This is the demo upstream, and nobody has thought about this. You said: {}",
        asked.repeated()
    );
    let mut words: Vec<_> = said.split(' ').map(|word| format!(" {word}")).collect();
    words[0].remove(0);
    words
}

/// What the input comes to: half of what is marked for the cache was there before.
fn usage(asked: &Asked, output: u64) -> Value {
    let (total, (caches, hour)) = (asked.tokens, asked.caches);
    let (read, new) = if caches { (total / 2, total / 4) } else { (0, 0) };
    let one_hour = if hour { new / 2 } else { 0 };
    json!({
        "input_tokens": total - read - new,
        "cache_creation_input_tokens": new,
        "cache_read_input_tokens": read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": new - one_hour,
            "ephemeral_1h_input_tokens": one_hour,
        },
        "output_tokens": output,
        "service_tier": "standard",
    })
}

fn id() -> String {
    format!("msg_demo_{}", Uuid::now_v7().simple())
}

fn plain(asked: &Asked, act: Act) -> Reply {
    let words = words(asked);
    let message = json!({
        "id": id(),
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": [{ "type": "text", "text": words.concat() }],
        "stop_reason": "end_turn",
        "stop_sequence": null,
        "usage": usage(asked, words.len() as u64),
    });
    let text = message.to_string();
    let half = text[..text.len() / 2].to_owned();
    let steps = match act {
        Act::Cut | Act::HalfFrame => vec![piece(half), Step::Cut],
        Act::NoStop => vec![piece(half)],
        Act::Stall => vec![piece(half), Step::Silence],
        Act::Slow(pause) => vec![Step::Pause(pause), piece(text)],
        Act::ErrorEvent | Act::ErrorFirst => vec![piece(overloaded().to_string())],
        _ => vec![piece(text)],
    };
    Reply::new(StatusCode::OK, JSON, steps)
}

fn overloaded() -> Value {
    json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } })
}

fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
}

fn piece(text: String) -> Step {
    Step::Bytes(Bytes::from(text))
}

fn streamed(asked: &Asked, act: Act, options: Options) -> Reply {
    let words = words(asked);
    let mut events = vec![
        json!({ "type": "message_start", "message": {
            "id": id(), "type": "message", "role": "assistant", "model": asked.model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": usage(asked, 1),
        }}),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
        json!({ "type": "ping" }),
    ];
    events.extend(words.iter().map(|word| {
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": word } })
    }));
    events.extend([
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({
            "type": "message_delta",
            "delta": { "stop_reason": "end_turn", "stop_sequence": null },
            "usage": { "output_tokens": words.len() },
        }),
        json!({ "type": "message_stop" }),
    ]);
    let between = if let Act::Slow(pause) = act { pause } else { options.between };
    Reply::new(StatusCode::OK, EVENTS, steps(&events, act, between))
}

/// The events with what the act does to them.
fn steps(events: &[Value], act: Act, between: Duration) -> Vec<Step> {
    let half = events.len() / 2;
    let told = match act {
        Act::ErrorFirst => 0,
        Act::Cut | Act::HalfFrame | Act::ErrorEvent | Act::Stall => half,
        Act::NoStop => events.len() - 1,
        _ => events.len(),
    };
    let mut steps = Vec::new();
    for (at, told) in events[..told].iter().enumerate() {
        if at > 0 && !between.is_zero() {
            steps.push(Step::Pause(between));
        }
        steps.push(piece(event(told)));
    }
    match act {
        Act::Cut => steps.push(Step::Cut),
        Act::HalfFrame => {
            let next = event(&events[half]);
            steps.extend([piece(next[..next.len() / 2].to_owned()), Step::Cut]);
        }
        Act::ErrorEvent | Act::ErrorFirst => steps.push(piece(event(&overloaded()))),
        Act::Stall => steps.push(Step::Silence),
        _ => {}
    }
    steps
}
