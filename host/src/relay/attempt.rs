//! One attempt at one upstream: up to its whole answer, or to the first bytes of its stream.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::headers;
use super::judge::{self, Failed};
use super::refusal;
use super::upstream::{NoAnswer, Upstreams};
use super::{Call, Options, Wants};
use crate::accounts::{Credential, Upstream};
use crate::usage::{Meter, Metered, OpenAttempt};

/// The largest plain answer, and the largest error, in bytes.
const MAX_ANSWER: usize = 32 << 20;
const MAX_ERROR: usize = 256 << 10;
/// How long an error may take to arrive once its head has.
const ERROR: Duration = Duration::from_secs(10);
/// How often a request is sent that nobody reads: more than one pooled connection may be closing.
const SENDS: usize = 3;
/// What a stream of events may begin with.
const BEGINNINGS: [&[u8]; 6] = [b"event:", b"data:", b"id:", b"retry:", b":", b"\n"];

/// An answer.
pub(super) enum Answer {
    Plain { headers: HeaderMap, body: Bytes, seen: Metered },
    Stream { headers: HeaderMap, first: Bytes, rest: Incoming },
}

/// Tries one upstream. Nothing has gone to the client when this returns. `usage`: what is recorded of it; one that the
/// upstream has begun to answer and not refused is, however it ends.
pub(super) async fn attempt(
    upstreams: &Upstreams,
    options: &Options,
    call: &Call,
    upstream: &Upstream,
    usage: &mut Option<OpenAttempt>,
) -> Result<Answer, Failed> {
    let deadline = Instant::now() + options.answer;
    let response = send(upstreams, deadline, call, upstream).await?;
    if response.status() != StatusCode::OK {
        return Err(error(response, call.wants, secret(upstream)).await);
    }
    if let Some(usage) = usage {
        usage.begun();
    }
    let answer = if is_encoded(response.headers()) {
        Err(Failed::unreadable())
    } else if is_of(response.headers(), b"text/event-stream") {
        stream(response, deadline, upstream).await
    } else {
        plain(response, deadline, call, upstream).await
    };
    if answer.as_ref().is_err_and(|failed| !failed.unfinished)
        && let Some(usage) = usage.take()
    {
        usage.forget();
    }
    answer
}

/// Encoded, although it was asked not to be.
fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_ENCODING)
        .is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn is_of(headers: &HeaderMap, kind: &[u8]) -> bool {
    let said = headers.get(CONTENT_TYPE).and_then(|said| said.as_bytes().get(..kind.len()));
    said.is_some_and(|said| said.eq_ignore_ascii_case(kind))
}

/// The head of the answer. What was sent over a connection that was closing, and read by nobody, is sent again.
async fn send(
    upstreams: &Upstreams,
    deadline: Instant,
    call: &Call,
    upstream: &Upstream,
) -> Result<Response<Incoming>, Failed> {
    let mut left = SENDS;
    loop {
        left -= 1;
        let request = request(call, upstream).ok_or_else(Failed::garbage)?;
        let wait = deadline.saturating_duration_since(Instant::now());
        match upstreams.send(upstream.proxy.as_ref(), request, wait).await {
            Err(NoAnswer::Unread) if left > 0 => {}
            sent => return sent.map_err(Failed::no_answer),
        }
    }
}

fn secret(upstream: &Upstream) -> &str {
    let (Credential::ApiKey(secret) | Credential::Bearer(secret)) = &upstream.credential;
    secret
}

/// None when the upstream's address or credential cannot be sent.
fn request(call: &Call, upstream: &Upstream) -> Option<Request<Full<Bytes>>> {
    let uri = address(&upstream.base_url, call.wants.path(), call.query.as_deref())?;
    let mut headers = call.headers.clone();
    match &upstream.credential {
        Credential::ApiKey(key) => headers::sign_with_key(&mut headers, HeaderValue::from_str(key).ok()?),
        Credential::Bearer(token) => {
            let bearer = zeroize::Zeroizing::new(format!("Bearer {}", token.as_str()));
            headers::sign_with_token(&mut headers, HeaderValue::from_str(&bearer).ok()?);
        }
    }
    if let Some(agent) = upstream.user_agent.as_deref().and_then(|agent| HeaderValue::from_str(agent).ok()) {
        headers.insert(USER_AGENT, agent);
    }
    let mut request = Request::new(Full::new(body(call, upstream.model.as_deref())));
    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (Method::POST, uri, headers);
    Some(request)
}

/// The client's, byte for byte; only the model has the name that the account has for it.
fn body(call: &Call, model: Option<&str>) -> Bytes {
    let Some(model) = model else { return call.body.clone() };
    let at = call.asked.model_at.clone();
    let (Some(before), Some(after)) = (call.body.get(..at.start), call.body.get(at.end..)) else {
        return call.body.clone();
    };
    [before, serde_json::Value::from(model).to_string().as_bytes(), after].concat().into()
}

/// Claude Relay Service's accounts may name the whole path of messages.
fn address(base: &Url, path: &str, query: Option<&str>) -> Option<Uri> {
    let base = base.as_str().trim_end_matches('/');
    let base = ["/v1/messages", "/v1"].into_iter().find_map(|end| base.strip_suffix(end)).unwrap_or(base);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{base}{path}{query}").parse().ok()
}

/// What an error says. One that does not arrive whole still has its status.
async fn error(response: Response<Incoming>, wants: Wants, secret: &str) -> Failed {
    let (head, body) = response.into_parts();
    let read = tokio::time::timeout(ERROR, Limited::new(body, MAX_ERROR).collect()).await;
    let body = read.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    // Not every upstream counts tokens.
    let misplaced = (wants == Wants::Message).then(|| Failed::misplaced(head.status, &body)).flatten();
    misplaced.unwrap_or_else(|| Failed::error(head.status, &head.headers, body, secret))
}

async fn plain(
    response: Response<Incoming>,
    deadline: Instant,
    call: &Call,
    upstream: &Upstream,
) -> Result<Answer, Failed> {
    let (head, body) = response.into_parts();
    let read = timeout_at(deadline, Limited::new(body, MAX_ANSWER).collect()).await;
    let read = read.map_err(|_| Failed::no_answer(NoAnswer::Silent))?;
    let body = read.map_err(|_| Failed::no_answer(NoAnswer::Broken))?.to_bytes();
    let seen = match call.wants {
        Wants::Message => Meter::plain(&body),
        Wants::Count => Metered::default(),
    };
    if let Some(kind) = judge::error_type(&body) {
        return Err(disguised(&kind, &head.headers, body, upstream));
    }
    let is_object = body.trim_ascii_start().first() == Some(&b'{');
    let is_json = || serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok();
    let is_readable = seen.began || (is_object && is_json());
    if !is_readable {
        // A page for people comes from somebody else than who is paid.
        let is_page = is_of(&head.headers, b"text/html");
        return Err(if is_page { Failed::garbage() } else { Failed::unreadable() });
    }
    Ok(Answer::Plain { headers: headers::back(&head.headers), body, seen })
}

/// An error under status 200 gets the status that its type has.
fn disguised(kind: &str, headers: &HeaderMap, body: Bytes, upstream: &Upstream) -> Failed {
    let status = StatusCode::from_u16(refusal::status(kind)).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut headers = headers.clone();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Failed::error(status, &headers, body, secret(upstream))
}

/// Waits for the first bytes: until then another account may still be tried.
async fn stream(
    response: Response<Incoming>,
    deadline: Instant,
    upstream: &Upstream,
) -> Result<Answer, Failed> {
    let (head, mut rest) = response.into_parts();
    let first = loop {
        let frame = timeout_at(deadline, rest.frame()).await;
        match frame.map_err(|_| Failed::no_answer(NoAnswer::Silent))? {
            None | Some(Err(_)) => return Err(Failed::no_answer(NoAnswer::Broken)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) if !bytes.is_empty() => break bytes,
                _ => {}
            },
        }
    };
    if !BEGINNINGS.iter().any(|beginning| begins(&first, beginning)) {
        return Err(Failed::unreadable());
    }
    if let Some((kind, body)) = first_error(&first) {
        return Err(disguised(&kind, &head.headers, body, upstream));
    }
    Ok(Answer::Stream { headers: headers::back(&head.headers), first, rest })
}

/// Also when only a part of the beginning is there yet.
fn begins(bytes: &[u8], beginning: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let length = bytes.len().min(beginning.len());
    bytes[..length] == beginning[..length]
}

/// The error that a stream begins with, if its first event is one and has come whole.
fn first_error(first: &Bytes) -> Option<(String, Bytes)> {
    let rest = first.strip_prefix(b"event: error\n")?.strip_prefix(b"data: ")?;
    let length = rest.iter().position(|byte| *byte == b'\n')?;
    let data = first.slice_ref(&rest[..length]);
    Some((judge::error_type(&data)?, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_put_together_from_any_base() {
        for base in ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/messages"] {
            let base = Url::parse(base).unwrap();
            let address = |query| address(&base, "/v1/messages", query).unwrap().to_string();
            assert_eq!(address(Some("beta=true")), "http://h:1/v1/messages?beta=true");
            assert_eq!(address(None), "http://h:1/v1/messages");
        }
        let below = Url::parse("https://h/anthropic/").unwrap();
        let address = address(&below, "/v1/messages", None).unwrap();
        assert_eq!(address.to_string(), "https://h/anthropic/v1/messages");
    }

    #[test]
    fn events_are_told_from_anything_else_by_their_first_bytes() {
        for good in ["event: message_start\n", "ev", "data: 1", ": comment", "\n", "\u{feff}event"] {
            assert!(BEGINNINGS.iter().any(|beginning| begins(good.as_bytes(), beginning)), "{good}");
        }
        for bad in ["<html>", "{\"type\"", "eventually", "HTTP/1.1"] {
            assert!(!BEGINNINGS.iter().any(|beginning| begins(bad.as_bytes(), beginning)), "{bad}");
        }
    }

    #[test]
    fn an_error_is_seen_as_the_first_event_only() {
        let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#;
        let (kind, body) = first_error(&format!("event: error\ndata: {error}\n\n").into()).unwrap();
        assert_eq!((kind.as_str(), &*body), ("overloaded_error", error.as_bytes()));
        assert!(first_error(&"event: message_start\ndata: {}\n\n".into()).is_none());
        assert!(first_error(&"event: error\ndata: {}\n\n".into()).is_none());
    }
}
