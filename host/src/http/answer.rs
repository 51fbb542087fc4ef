//! What is answered: records as the outside sees them.

use axum::body::Body;
use axum::http::header::{AGE, CONTENT_TYPE, ETAG};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::error::{Asked, Problem};
use super::{edge, precondition};
use crate::store::clock::now_ms;
use crate::store::{Record, StoreError, Version, secret};
use crate::strategy::generation::Generation;

/// What a write is answered.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Acknowledged {
    #[schema(value_type = u64)]
    version: Version,
    durability: &'static str,
}

/// The answer to a write.
pub(super) fn acknowledged(
    status: StatusCode,
    version: Version,
    durability: &'static str,
    generation: &Generation,
) -> Response {
    let mut response = json(status, &Acknowledged { version, durability }, 64);
    response.headers_mut().insert(ETAG, precondition::etag(version));
    edge::label(&mut response, generation);
    response
}

/// The envelope of Claude Relay Service.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Enveloped<T> {
    success: bool,
    data: T,
    #[schema(value_type = String)]
    timestamp: jiff::Timestamp,
    /// What the acknowledgement of a write is worth.
    #[serde(skip_serializing_if = "Option::is_none")]
    durability: Option<&'static str>,
    /// Where a list goes on that is not the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl<T> Enveloped<T> {
    pub(super) fn new(data: T) -> Self {
        Self { success: true, data, timestamp: jiff::Timestamp::now(), durability: None, next: None }
    }

    pub(super) fn next(self, next: Option<String>) -> Self {
        Self { next, ..self }
    }

    pub(super) fn durable(self, durability: Option<&'static str>) -> Self {
        Self { durability, ..self }
    }
}

/// A record as the outside sees it.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Record)]
pub(super) struct View<'a> {
    kind: &'static str,
    id: &'a str,
    #[schema(value_type = u64)]
    version: Version,
    #[schema(value_type = BTreeMap<String, String>)]
    fields: Shown<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    expires_at: Option<jiff::Timestamp>,
}

/// The fields of a record, without what is secret in them.
struct Shown<'a>(&'a Record);

impl Serialize for Shown<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Record { key, fields, .. } = self.0;
        serializer.collect_map(fields.iter().map(|(name, value)| (name, secret::shown(key, name, value))))
    }
}

/// A page of records.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = RecordPage)]
pub(super) struct Listing<'a> {
    pub(super) records: Vec<View<'a>>,
    /// The cursor of the next page, if there is one.
    #[schema(required)]
    pub(super) next: Option<&'a str>,
}

impl<'a> View<'a> {
    pub(super) fn of(record: &'a Record) -> Self {
        Self {
            kind: record.key.kind.name,
            id: &record.key.id,
            version: record.version,
            fields: Shown(record),
            expires_at: record.expires_at.and_then(|at| jiff::Timestamp::from_millisecond(at).ok()),
        }
    }
}

/// The answer that is a record.
pub(super) fn found(record: &Record) -> Response {
    let mut response = json(StatusCode::OK, &View::of(record), record.size());
    let headers = response.headers_mut();
    headers.insert(ETAG, precondition::etag(record.version));
    if let Some(at) = record.cached_at {
        headers.insert(AGE, ((now_ms() - at).max(0) / 1_000).into());
    }
    response
}

/// A JSON answer; `size` is about its length in bytes.
pub(super) fn json(status: StatusCode, answer: &impl Serialize, size: usize) -> Response {
    let mut bytes = Vec::with_capacity(size);
    if let Err(error) = serde_json::to_writer(&mut bytes, answer) {
        return Problem::store(StoreError::Other(error.to_string()), Asked::Read).into_response();
    }
    let mut response = (status, Body::from(bytes)).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
