//! A component as a new version.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::{BY, Named, path, undisturbed};
use crate::http::answer::json;
use crate::http::error::{Problem, Result};
use crate::http::nodes::{OnNodes, settled};
use crate::http::openapi::shapes::Component;
use crate::http::{App, body, precondition};
use crate::strategy::Uploaded;
use crate::strategy::activation::Wish;
use crate::strategy::switch::Switched;

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Upload {
    #[serde(default)]
    activate: bool,
}

/// The check report on an upload, and the switch if one was asked for.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = UploadReport)]
struct Report {
    #[serde(flatten)]
    uploaded: Uploaded,
    #[serde(skip_serializing_if = "Option::is_none")]
    activation: Option<Switched>,
}

/// Checks a component and keeps it as a version.
#[utoipa::path(
    put,
    path = "/admin/strategies/{name}",
    tag = "Strategies",
    params(("name" = String, Path, description = "Name of the strategy"), Upload),
    request_body(content = inline(Component), content_type = "application/wasm", description = "The component"),
    responses((status = 200, description = "What the checks found, and the version", body = Report)),
)]
pub(in crate::http) async fn upload(
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
}
