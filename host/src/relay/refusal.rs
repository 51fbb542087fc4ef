//! What a client is told that gets no answer: Anthropic's error object, with Claude Relay Service's fields beside it.

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::body::Body;
use crate::store::StoreError;

pub(super) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Shed load. Not among the statuses that have a name.
const OVERLOADED: u16 = 529;

/// A refusal. `code` is stable between releases; `message` is for the person in front of the client.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
    /// Seconds after which to repeat.
    pub retry_after: Option<u64>,
    /// Whether the client is told that repeating helps, or does not. None leaves it to the client.
    pub should_retry: Option<bool>,
    /// What Claude Relay Service answers beside the message.
    pub extra: Map<String, Value>,
}

impl Refusal {
    /// Of a status; 401, 402 and 403 say that repeating does not help.
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        let should_retry = [401, 402, 403].contains(&status).then_some(false);
        Self { status, code, message: message.into(), retry_after: None, should_retry, extra: Map::new() }
    }

    pub(super) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    /// The storage cannot answer now. It passes.
    pub(super) fn storage(error: &StoreError) -> Self {
        let message = match error {
            StoreError::Overloaded => "The relay is busy; this passes by itself.",
            _ => "The relay's storage does not answer at the moment; this passes by itself.",
        };
        Self::new(503, "storage_unavailable", message).after(1)
    }

    /// More than this relay can take now. It passes.
    pub(super) fn overloaded(message: impl Into<String>) -> Self {
        Self::new(OVERLOADED, "overloaded", message).after(1)
    }

    pub fn after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds.max(1)), ..self }
    }

    /// Repeating does not help until somebody has done something.
    pub(super) fn lasting(self) -> Self {
        Self { should_retry: Some(false), ..self }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// The body, once it is known which request it belongs to.
    pub fn body(&self, request_id: &str) -> Value {
        let mut body = Map::new();
        body.insert("type".into(), "error".into());
        let mut error = json!({ "type": kind(self.status), "message": self.message });
        if self.status == 402 {
            // Where Claude Relay Service has it, and its clients look for it.
            error["code"] = self.code.into();
        }
        body.insert("error".into(), error);
        body.insert("request_id".into(), request_id.into());
        body.insert("message".into(), self.message.as_str().into());
        body.insert("code".into(), self.code.into());
        body.extend(self.extra.clone());
        Value::Object(body)
    }

    /// The answer, once it is known which request it belongs to.
    pub fn answer(&self, request_id: &str) -> Response<Body> {
        let mut response = Response::new(Body::whole(self.body(request_id).to_string().into()));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(should) = self.should_retry {
            say_retry(headers, should);
        }
        response
    }
}

/// Tells a client whether repeating helps.
pub(super) fn say_retry(headers: &mut HeaderMap, should: bool) {
    headers.insert(SHOULD_RETRY, HeaderValue::from_static(if should { "true" } else { "false" }));
}

/// Anthropic's type of an error of this status.
pub fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        OVERLOADED => "overloaded_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    }
}

/// The status of an error of this type of Anthropic's, such as one inside a stream.
pub(super) fn status(kind: &str) -> u16 {
    match kind {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "conflict_error" => 409,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "timeout_error" => 504,
        "overloaded_error" => OVERLOADED,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_by_both_worlds() {
        let refusal = Refusal::new(402, "daily_cost_limit_exceeded", "Used up.").with("currentCost", 1.5);
        let body = refusal.body("r1");
        assert_eq!(body["type"], "error");
        let code = "daily_cost_limit_exceeded";
        assert_eq!(body["error"], json!({ "type": "billing_error", "message": "Used up.", "code": code }));
        assert_eq!((&body["request_id"], &body["message"]), (&json!("r1"), &json!("Used up.")));
        assert_eq!((&body["code"], &body["currentCost"]), (&json!("daily_cost_limit_exceeded"), &json!(1.5)));
        let answer = refusal.answer("r1");
        assert_eq!(answer.headers()["x-should-retry"], "false");
        let outage = Refusal::storage(&StoreError::Timeout).answer("r1");
        assert_eq!(
            (outage.status().as_u16(), &outage.headers()["retry-after"]),
            (503, &HeaderValue::from(1))
        );
        assert!(!outage.headers().contains_key("x-should-retry"));
    }

    #[test]
    fn every_type_has_its_status() {
        for expected in [400, 401, 402, 403, 404, 409, 413, 429, 500, 504, 529] {
            assert_eq!(status(kind(expected)), expected);
        }
        assert_eq!(
            (kind(422), kind(408), kind(503)),
            ("invalid_request_error", "timeout_error", "api_error")
        );
    }
}
