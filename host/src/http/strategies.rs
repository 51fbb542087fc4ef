//! `/admin/strategies`: versions of strategies, and which one is active.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::Digest as _;

use super::answer::json;
use super::error::{Problem, Result};
use super::nodes::{OnNodes, settled};
use super::{App, body, precondition};
use crate::engine::Digest;
use crate::strategy::activation::Wish;
use crate::strategy::switch::Switched;
use crate::strategy::{Strategies, StrategyError, Uploaded};

/// Who acts, in the list of events.
pub(super) const BY: &str = "admin";

type Named = Result<Path<String>, PathRejection>;

pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Response> {
    let (active, chosen) = (active(&app.strategies), app.strategies.choice());
    let in_force = app.strategies.in_force();
    let watcher = app.watcher.as_ref().map(|status| status.lock().clone());
    // What is active, and the watcher, are known without the catalogue.
    let (strategies, error) = match app.strategies.list().await {
        Ok(strategies) => (Some(strategies), None),
        Err(StrategyError::Store(error)) => (None, Some(format!("the catalogue cannot be reached: {error}"))),
        Err(error) => return Err(error.into()),
    };
    let (watched, cause) = (watcher, in_force.cause);
    Ok(ok(&json!({
        "strategies": strategies,
        "chosen": chosen,
        "active": active,
        "cause": cause,
        "watcher": watched,
        "error": error,
    })))
}

pub(super) async fn get(State(app): State<Arc<App>>, name: Named) -> Result<Response> {
    Ok(ok(&app.strategies.get(&path(name)?).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upload {
    #[serde(default)]
    activate: bool,
}

/// The check report on an upload, and the switch if one was asked for.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    uploaded: Uploaded,
    #[serde(skip_serializing_if = "Option::is_none")]
    activation: Option<Switched>,
}

/// Checks a component and keeps it as a version.
pub(super) async fn upload(
    State(app): State<Arc<App>>,
    name: Named,
    query: Result<Query<Upload>, QueryRejection>,
    headers: HeaderMap,
    component: Body,
) -> Result<Response> {
    let name = path(name)?;
    let Query(Upload { activate }) =
        query.map_err(|error| Problem::bad("invalid-query", error.body_text()))?;
    let if_match = precondition::if_match(&headers)?;
    let limit = app.strategies.engine.limits().component_bytes;
    let bytes = body::read(component, limit, body::WHOLE_UPLOAD).await?;
    verify(&headers, &bytes)?;
    let strategies = app.strategies.clone();
    let report = undisturbed(async move {
        let uploaded = strategies.upload(&name, bytes, BY).await?;
        let activation = match activate {
            true => {
                let wish = Wish { digest: Some(uploaded.digest.clone()), if_match, ..Wish::default() };
                Some(strategies.activate(&name, wish, BY, "uploaded").await?)
            }
            false => None,
        };
        Ok(Report { uploaded, activation })
    });
    let report = report.await?;
    let status = if report.uploaded.created { StatusCode::CREATED } else { StatusCode::OK };
    let Some(switched) = &report.activation else { return Ok(json(status, &report, 512)) };
    let nodes = settled(&app, &switched.chosen).await?;
    Ok(json(status, &OnNodes { report, nodes }, 1_024))
}

/// How a strategy is to be activated. No body means: the newest version, not pinned.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Activation {
    digest: Option<String>,
    #[serde(default)]
    pin: bool,
    #[serde(default)]
    force: bool,
}

/// Reads the body of a switch, and its precondition.
pub(super) async fn wish(headers: &HeaderMap, body: Body) -> Result<Wish> {
    let if_match = precondition::if_match(headers)?;
    let bytes = body::read(body, body::MAX_BODY, body::WHOLE).await?;
    let Activation { digest, pin, force } = match bytes.trim_ascii() {
        b"" => Activation::default(),
        json => body::parse(json)?,
    };
    let digest = digest.map(|digest| parse_digest(&digest)).transpose()?;
    Ok(Wish { digest, if_match, pin, force })
}

/// Makes a version active: the newest, or the one the body names.
pub(super) async fn activate(
    State(app): State<Arc<App>>,
    name: Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let (name, wish) = (path(name)?, wish(&headers, body).await?);
    let strategies = app.strategies.clone();
    let report = undisturbed(async move { strategies.activate(&name, wish, BY, "asked for").await }).await?;
    let nodes = settled(&app, &report.chosen).await?;
    Ok(ok(&OnNodes { report, nodes }))
}

pub(super) async fn rollback(State(app): State<Arc<App>>) -> Result<Response> {
    let strategies = app.strategies.clone();
    let report = undisturbed(async move { strategies.rollback(BY).await }).await?;
    let nodes = settled(&app, &report.chosen).await?;
    Ok(ok(&OnNodes { report, nodes }))
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<StatusCode> {
    let Path((name, digest)) = path.map_err(|_| not_utf8())?;
    let digest = parse_digest(&digest)?;
    let strategies = app.strategies.clone();
    undisturbed(async move { strategies.delete(&name, &digest, BY).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Latest {
    limit: Option<usize>,
}

/// What happened, newest first.
pub(super) async fn events(
    State(app): State<Arc<App>>,
    query: Result<Query<Latest>, QueryRejection>,
) -> Result<Response> {
    let Query(Latest { limit }) = query.map_err(|error| Problem::bad("invalid-query", error.body_text()))?;
    let mut events = app.strategies.events.list();
    events.truncate(limit.unwrap_or(usize::MAX));
    Ok(ok(&json!({ "events": events })))
}

/// The active generation, as answers name it.
pub(super) fn active(strategies: &Strategies) -> serde_json::Value {
    let active = strategies.active.enter();
    json!({ "name": active.name, "digest": active.digest, "generation": active.number })
}

/// Runs to its end even when the client goes away: half a switch is none.
pub(super) async fn undisturbed<T: Send + 'static>(
    change: impl Future<Output = Result<T, StrategyError>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(change).await {
        Ok(done) => Ok(done?),
        Err(error) => {
            tracing::error!(%error, "a change of strategies ended unexpectedly");
            let detail = "the change ended unexpectedly; GET /admin/strategies shows what is active";
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail))
        }
    }
}

fn ok(answer: &impl Serialize) -> Response {
    json(StatusCode::OK, answer, 1_024)
}

fn path(name: Named) -> Result<String> {
    name.map(|Path(name)| name).map_err(|_| not_utf8())
}

fn not_utf8() -> Problem {
    Problem::bad("invalid-name", "a name is UTF-8, percent-encoded")
}

fn parse_digest(text: &str) -> Result<Digest> {
    let hexadecimal = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let digest = Digest::parse(text).filter(|_| hexadecimal);
    digest.ok_or_else(|| Problem::bad("invalid-digest", "a digest has 64 hexadecimal digits in lower case"))
}

/// Holds a body against `Content-Digest: sha-256=:BASE64:` (RFC 9530) when that was sent. What cannot be
/// verified is refused: who sends a digest relies on it.
fn verify(headers: &HeaderMap, bytes: &[u8]) -> Result<()> {
    let digests =
        headers.get_all("content-digest").iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    let actual = STANDARD.encode(sha2::Sha256::digest(bytes));
    let mismatch = |detail: String| Problem::bad("digest-mismatch", detail);
    let mut verified = !headers.contains_key("content-digest");
    for digest in digests {
        let (name, value) = digest.split_at(digest.iter().position(|b| *b == b'=').unwrap_or(0));
        if !name.trim_ascii().eq_ignore_ascii_case(b"sha-256") {
            // Other algorithms may be sent beside it; RFC 9530 lets a server ignore them.
            continue;
        }
        if value.trim_ascii() != format!("=:{actual}:").as_bytes() {
            let detail = format!("the body's digest is sha-256=:{actual}:, not the one in Content-Digest");
            return Err(mismatch(detail));
        }
        verified = true;
    }
    let lacking =
        || mismatch("Content-Digest has no sha-256=:BASE64:, which is what is verified here".into());
    verified.then_some(()).ok_or_else(lacking)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_that_was_sent_must_be_right() {
        let verified = |value: &str| {
            verify(
                &HeaderMap::from_iter([("content-digest".parse().unwrap(), value.parse().unwrap())]),
                b"abc",
            )
        };
        let right = format!("sha-256=:{}:", STANDARD.encode(sha2::Sha256::digest(b"abc")));
        assert!(verify(&HeaderMap::new(), b"abc").is_ok());
        assert!(verified(&right).is_ok());
        assert!(verified(&format!("sha-512=:AAAA:, {right}")).is_ok());
        let wrong_beside_right = format!("{right}, sha-256=:AAAA:");
        for wrong in [
            "sha-256=:AAAA:",
            "sha-256=",
            "sha-256=:",
            "SHA-256=:AAAA:",
            "garbage",
            "",
            "sha-512=:AAAA:",
            &wrong_beside_right,
        ] {
            assert_eq!(verified(wrong).unwrap_err().code, "digest-mismatch", "{wrong}");
        }
    }

    #[test]
    fn a_digest_is_hexadecimal() {
        assert!(parse_digest(&"a0".repeat(32)).is_ok());
        for wrong in ["", "a0", &"A0".repeat(32), &"é".repeat(32), &"a0".repeat(33)] {
            assert!(parse_digest(wrong).is_err(), "{wrong}");
        }
    }
}
