//! What an upstream's answer means: for its account, for another try, and for the client.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderMap, RETRY_AFTER};
use serde::Deserialize;

use super::headers;
use super::refusal::{self, Refusal};
use super::upstream::NoAnswer;
use crate::accounts::Outcome;

/// An attempt that came to nothing.
pub(super) struct Failed {
    pub(super) outcome: Outcome,
    /// Whether another account may do better.
    pub(super) elsewhere: bool,
    /// What it has said is not all that it was about to say, and what that costs is not known.
    pub(super) unfinished: bool,
    pub(super) told: Told,
}

/// What the client is told of it.
pub(super) enum Told {
    Refused(Refusal),
    /// What the upstream said, byte for byte.
    Forwarded {
        status: StatusCode,
        headers: HeaderMap,
        body: Bytes,
    },
}

impl Failed {
    pub(super) fn no_answer(why: NoAnswer) -> Self {
        let refusal = match why {
            NoAnswer::Unreachable => {
                Refusal::new(502, "upstream_unreachable", "The upstream cannot be reached.").after(1)
            }
            NoAnswer::Untrusted => {
                let message = "The upstream's TLS certificate is not one that this relay trusts. Nothing is wrong with \
                               your key; tell the operator of this relay.";
                Refusal::new(502, "upstream_untrusted", message).lasting()
            }
            NoAnswer::Broken | NoAnswer::Unread => Refusal::new(
                502,
                "upstream_broke_off",
                "The upstream closed the connection without a whole answer.",
            )
            .after(1),
            NoAnswer::Silent => Refusal::new(504, "upstream_timeout", "The upstream did not answer in time."),
        };
        // Who has waited that long is not made to wait as long again.
        let elsewhere = why != NoAnswer::Silent;
        Self { outcome: Outcome::Failed, elsewhere, unfinished: true, told: Told::Refused(refusal) }
    }

    /// It answered with something that is no answer.
    pub(super) fn garbage() -> Self {
        let message = "The upstream answered with something that cannot be read.";
        let refusal = Refusal::new(502, "upstream_garbage", message).after(1);
        Self { outcome: Outcome::Failed, elsewhere: true, unfinished: false, told: Told::Refused(refusal) }
    }

    /// It answered 200 with something that cannot be read. It has done the work and is paid for it, so that nobody
    /// is asked again.
    pub(super) fn unreadable() -> Self {
        let message = "The upstream answered with something that cannot be read; asking again costs again.";
        let refusal = Refusal::new(502, "upstream_garbage", message).lasting();
        Self { outcome: Outcome::Failed, elsewhere: false, unfinished: true, told: Told::Refused(refusal) }
    }

    /// None when this error is one of the API. Else there is no API at this address, whatever the client asks for.
    pub(super) fn misplaced(status: StatusCode, body: &[u8]) -> Option<Self> {
        if !matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) || is_error(body) {
            return None;
        }
        let message = format!(
            "The address of the relay's account has no such API (status {}). Nothing is wrong with your key; tell \
             the operator of this relay.",
            status.as_u16()
        );
        let told = Told::Refused(Refusal::new(502, "upstream_misplaced", message).lasting());
        Some(Self { outcome: Outcome::Failed, elsewhere: true, unfinished: false, told })
    }

    /// It answered with an error. `secret`: what must not be passed on, whatever the upstream repeats.
    pub(super) fn error(status: StatusCode, upstream: &HeaderMap, body: Bytes, secret: &str) -> Self {
        let (outcome, elsewhere) = judge(status.as_u16(), upstream);
        let told = if outcome == Outcome::Unauthorized {
            let message = "The upstream refuses the credential of the relay's account. Nothing is wrong with your \
                           key; tell the operator of this relay.";
            Told::Refused(Refusal::new(502, "upstream_refused_account", message).lasting())
        } else {
            tell(status, upstream, body, secret)
        };
        Self { outcome, elsewhere, unfinished: false, told }
    }
}

/// What a status says of the account, and whether another may do better.
fn judge(status: u16, headers: &HeaderMap) -> (Outcome, bool) {
    match status {
        429 => (Outcome::RateLimited { retry_after: retry_after(headers) }, true),
        529 => (Outcome::Overloaded, true),
        401 => (Outcome::Unauthorized, true),
        // What this account may not, another may.
        402 | 403 => (Outcome::Refused, true),
        408 => (Outcome::Failed, true),
        400..500 => (Outcome::Ok, false),
        _ => (Outcome::Failed, true),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// Anthropic's errors as they are; others in that shape.
fn tell(status: StatusCode, upstream: &HeaderMap, body: Bytes, secret: &str) -> Told {
    let (mut back, code) = (headers::back(upstream), status.as_u16());
    back.retain_without(secret);
    // A success that is not 200 has no message in it either.
    if code < 400 {
        return Failed::garbage().told;
    }
    let leaks = headers::contains(&body, secret);
    if !leaks && is_error(&body) {
        if [401, 402, 403].contains(&code) {
            refusal::say_retry(&mut back, false);
        }
        return Told::Forwarded { status, headers: back, body };
    }
    let said = (!leaks).then(|| sentence(&body)).flatten();
    let message = said.unwrap_or_else(|| format!("The upstream answered with status {code}."));
    let refusal = Refusal::new(code, "upstream_error", message);
    let refusal = match retry_after(upstream) {
        Some(after) => refusal.after(after.as_secs()),
        None => refusal,
    };
    let should_retry = refusal.should_retry.or_else(|| says_retry(upstream));
    Told::Refused(Refusal { should_retry, ..refusal })
}

/// Whether it says that repeating helps, or does not.
fn says_retry(headers: &HeaderMap) -> Option<bool> {
    headers.get(refusal::SHOULD_RETRY)?.to_str().ok()?.parse().ok()
}

impl Told {
    /// That of the two which is over sooner: who is told to give up does not come back when another account is
    /// ready. The earlier one when there is no difference.
    pub(super) fn or(self, earlier: Option<Self>) -> Self {
        match earlier {
            Some(earlier) if earlier.lasts() <= self.lasts() => earlier,
            _ => self,
        }
    }

    /// For how many seconds, as far as is known; for ever when somebody has to do something.
    fn lasts(&self) -> u64 {
        let (should_retry, after) = match self {
            Self::Refused(refusal) => (refusal.should_retry, refusal.retry_after),
            Self::Forwarded { headers, .. } => {
                (says_retry(headers), retry_after(headers).map(|after| after.as_secs()))
            }
        };
        if should_retry == Some(false) { u64::MAX } else { after.unwrap_or_default() }
    }
}

/// Drops what repeats a secret.
trait Without {
    fn retain_without(&mut self, secret: &str);
}

impl Without for HeaderMap {
    fn retain_without(&mut self, secret: &str) {
        let kept = self.iter().filter(|(_, value)| !headers::holds(value, secret));
        *self = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    }
}

/// The type of an error in Anthropic's shape.
pub(super) fn error_type(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Outer {
        r#type: String,
        error: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        r#type: String,
        #[serde(rename = "message")]
        _message: String,
    }
    let Outer { r#type, error } = serde_json::from_slice(body).ok()?;
    (r#type == "error").then_some(error.r#type)
}

fn is_error(body: &[u8]) -> bool {
    error_type(body).is_some()
}

/// What another shape says for people: `error.message`, `message`, or an `error` that is text.
fn sentence(body: &[u8]) -> Option<String> {
    const LONGEST: usize = 500;
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let places = [&body["error"]["message"], &body["message"], &body["error"]];
    let text = places.into_iter().find_map(|place| place.as_str())?;
    Some(text.chars().filter(|c| !c.is_control()).take(LONGEST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, body: &'static str) -> Told {
        let status = StatusCode::from_u16(status).unwrap();
        Failed::error(status, &HeaderMap::new(), Bytes::from_static(body.as_bytes()), "sk-secret").told
    }

    #[test]
    fn an_error_of_anthropic_goes_through_as_it_is() {
        let body = r#"{"type":"error","error":{"type":"x","message":"y"},"request_id":"req_1"}"#;
        match told(403, body) {
            Told::Forwarded { status, headers, body: passed } => {
                assert_eq!(
                    (status.as_u16(), &headers["x-should-retry"], &*passed),
                    (403, &"false".parse().unwrap(), body.as_bytes())
                );
            }
            Told::Refused(refusal) => panic!("{refusal:?}"),
        }
    }

    #[test]
    fn another_error_is_put_into_shape_and_repeats_no_secret() {
        for (status, body, says) in [
            (500, r#"{"error":"broken"}"#, "broken"),
            (500, r#"{"error":{"message":"broken"}}"#, "broken"),
            (503, "<html>", "status 503"),
            (400, r#"{"type":"error","error":{"type":"x","message":"key sk-secret"}}"#, "status 400"),
            (302, "", "cannot be read"),
            (401, r#"{"type":"error","error":{"type":"x","message":"y"}}"#, "operator"),
        ] {
            match told(status, body) {
                Told::Refused(refusal) => {
                    assert!(refusal.message.contains(says), "{body}: {refusal:?}");
                    assert!(!refusal.message.contains("sk-secret"));
                }
                Told::Forwarded { body, .. } => panic!("{body:?}"),
            }
        }
    }
}
