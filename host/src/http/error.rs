//! Every error answer: problem details (RFC 9457) with a stable code. The one place that maps errors to them.

use axum::http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tracing::error;

use crate::store::{Expect, InvalidKey, StoreError};
use crate::strategy::StrategyError;

/// An error answer. `code` is stable between releases; `detail` is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    detail: String,
    /// Seconds after which to repeat.
    retry_after: Option<u16>,
    /// What follows on the connection cannot be trusted to be a request.
    closes: bool,
}

pub(crate) type Result<T, E = Problem> = std::result::Result<T, E>;

/// What was asked of a store: it decides what a conflict and a silence mean to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Read,
    Write(Expect),
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after: None, closes: false }
    }

    pub(super) fn bad(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    }

    /// A problem that passes by itself.
    pub(super) fn passing(code: &'static str, detail: impl Into<String>) -> Self {
        Self { retry_after: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail) }
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    pub(super) fn retry_after(&self) -> Option<u16> {
        self.retry_after
    }

    pub(super) fn closes(&self) -> bool {
        self.closes
    }

    pub(super) fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    /// The answer, once it is known which request it belongs to. `enveloped` adds the fields that clients
    /// of the older `/admin/database` routes look for.
    pub(super) fn answer(&self, request_id: &str, enveloped: bool) -> Response {
        let mut body = json!({
            "type": format!("urn:switchyard:problem:{}", self.code),
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
            "request_id": request_id,
        });
        if enveloped {
            body["success"] = false.into();
            body["error"] = self.code.into();
            body["message"] = self.detail.clone().into();
        }
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"switchyard\""));
        }
        if self.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    pub(super) fn store(error: StoreError, asked: Asked) -> Self {
        match error {
            StoreError::Conflict(held) => conflict(held, asked),
            StoreError::Unavailable(why) => {
                Self::passing("store-unavailable", format!("no store can answer now: {why}"))
            }
            StoreError::Timeout if asked == Asked::Read => {
                Self::passing("store-timeout", "no store answered in time; repeat the request")
            }
            StoreError::Timeout => Self::passing(
                "outcome-unknown",
                "no store has confirmed in time; it may have happened; repeat it, repeating is harmless",
            ),
            StoreError::Fenced(_) => Self::passing(
                "store-unavailable",
                "the nodes are moving from one store to the other; repeat the request",
            ),
            StoreError::Overloaded => {
                Self::passing("overloaded", "too many requests in flight; repeat later")
            }
            StoreError::Strategy(why) => Self::new(
                StatusCode::BAD_GATEWAY,
                "strategy-failed",
                format!("the active strategy failed: {why}; activate another one or roll back"),
            ),
            StoreError::Paused(why) => Self::passing("store-unavailable", why),
            StoreError::ClockSkewed(why) => Self::passing("clock-skewed", why),
            StoreError::Unsupported(why) => Self::bad("unsupported", why),
            StoreError::Other(why) => {
                error!(why, "a store failed");
                let detail = "a store failed in an unexpected way; the log has the reason";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
            }
        }
    }
}

fn conflict(held: u64, asked: Asked) -> Problem {
    let (status, detail) = match asked {
        Asked::Write(Expect::Absent) => (StatusCode::PRECONDITION_FAILED, "the record exists".into()),
        Asked::Write(Expect::AtMost(_)) if held == 0 => {
            (StatusCode::PRECONDITION_FAILED, "there is no such record any more".into())
        }
        Asked::Write(Expect::AtMost(_)) => {
            let detail = format!("the record has version {held}; read it again and repeat");
            (StatusCode::PRECONDITION_FAILED, detail)
        }
        _ => (StatusCode::CONFLICT, format!("version {held} came in between; repeat the request")),
    };
    Problem::new(status, "version-conflict", detail)
}

impl From<StrategyError> for Problem {
    fn from(error: StrategyError) -> Self {
        let detail = error.to_string();
        let (status, code) = match error {
            StrategyError::Store(error) => return Self::store(error, Asked::Write(Expect::Anything)),
            StrategyError::Refused(refusal) => match refusal.code {
                "too-large" => return Self::too_large(detail),
                "busy" => return Self::passing("busy", detail),
                code => (StatusCode::UNPROCESSABLE_ENTITY, code),
            },
            StrategyError::InvalidName(_) => (StatusCode::BAD_REQUEST, "invalid-name"),
            StrategyError::UnknownStrategy(_) => (StatusCode::NOT_FOUND, "unknown-strategy"),
            StrategyError::UnknownVersion(..) => (StatusCode::NOT_FOUND, "unknown-version"),
            StrategyError::Raced(_) => (StatusCode::PRECONDITION_FAILED, "generation-changed"),
            StrategyError::Busy => (StatusCode::CONFLICT, "switch-under-way"),
            StrategyError::StoreDown(..) => (StatusCode::CONFLICT, "store-down"),
            StrategyError::Pinned(_) => (StatusCode::CONFLICT, "pinned"),
            StrategyError::InUse(_) => (StatusCode::CONFLICT, "version-in-use"),
            StrategyError::BuiltIn(_) => (StatusCode::CONFLICT, "built-in"),
            StrategyError::NothingBefore => (StatusCode::CONFLICT, "nothing-before"),
            StrategyError::Full => (StatusCode::CONFLICT, "catalogue-full"),
        };
        Self::new(status, code, detail)
    }
}

impl From<InvalidKey> for Problem {
    fn from(error: InvalidKey) -> Self {
        Self::bad("invalid-id", error.to_string())
    }
}

/// Leaves the problem for [`super::edge`], which knows the request and writes the answer.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_store_means_less_for_a_read_than_for_a_write() {
        let read = Problem::store(StoreError::Timeout, Asked::Read);
        let write = Problem::store(StoreError::Timeout, Asked::Write(Expect::Anything));
        assert_eq!((read.code, write.code), ("store-timeout", "outcome-unknown"));
        assert!(read.retry_after.is_some() && write.retry_after.is_some());
    }

    #[test]
    fn a_conflict_fails_a_precondition_only_where_there_was_one() {
        let of = |expect| Problem::store(StoreError::Conflict(7), Asked::Write(expect)).status.as_u16();
        assert_eq!(of(Expect::Anything), 409);
        assert_eq!([of(Expect::AtMost(5)), of(Expect::Absent)], [412, 412]);
    }

    #[test]
    fn the_reason_of_an_unexpected_failure_stays_in_the_log() {
        let problem = Problem::store(StoreError::Other("password=hunter2".into()), Asked::Read);
        assert_eq!(problem.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!problem.detail.contains("hunter2"));
    }
}
