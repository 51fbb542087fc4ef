//! Records of the store API.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::ETAG;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::answer::{Listing, View, acknowledged, found, json};
use super::error::{Asked, Problem, Result};
use super::{App, body, edge, precondition};
use crate::accounts::plain_credential;
use crate::store::kind::{ACCOUNT, Visibility};
use crate::store::{Expect, Fields, Key, Kind, MAX_PAGE};
use crate::strategy::records::{Change, Written};
use content::Content;

mod content;

/// How many records a page has unless asked otherwise.
const PAGE: u32 = 100;

type Named = Result<Path<(String, String)>, PathRejection>;

/// A record, or no content when the caller has this version already.
#[utoipa::path(
    get,
    path = "/store/v1/records/{kind}/{id}",
    tag = "Store",
    params(("kind" = String, Path, description = "api_key, account or session"), ("id" = String, Path, description = "Its id"), ("if-none-match" = Option<String>, Header, description = "The version that is known already")),
    responses(
        (status = 200, description = "The record; its version is the etag. With `x-switchyard-stale: true` it may be old: the store that decides could not be asked", body = View<'static>, headers(("etag" = String, description = "Its version"))),
        (status = 304, description = "The version that is known already is the one there is", headers(("etag" = String, description = "Its version"))),
    ),
)]
pub(super) async fn get(State(app): State<Arc<App>>, path: Named, headers: HeaderMap) -> Result<Response> {
    let key = key(path)?;
    let read = app.records.get(&key).await.map_err(|error| Problem::store(error, Asked::Read))?;
    let mut response = match &read.value {
        None => not_found(&key).into_response(),
        Some(record) if precondition::has_already(&headers, record.version) => {
            (StatusCode::NOT_MODIFIED, [(ETAG, precondition::etag(record.version))]).into_response()
        }
        Some(record) => found(record),
    };
    edge::label_read(&mut response, &read);
    Ok(response)
}

/// Creates or replaces a record.
#[utoipa::path(
    put,
    path = "/store/v1/records/{kind}/{id}",
    tag = "Store",
    params(("kind" = String, Path, description = "api_key, account or session"), ("id" = String, Path, description = "Its id"), ("if-match" = Option<String>, Header, description = "The version that is to be replaced")),
    request_body(content = serde_json::Value, description = "fields: an object of strings; ttl_seconds: the life of a session", example = json!({"fields": {"name": "n"}})),
    responses((status = 200, description = "Its version, and what the acknowledgement is worth", body = super::answer::Acknowledged)),
)]
pub(super) async fn put(
    State(app): State<Arc<App>>,
    path: Named,
    headers: HeaderMap,
    content: Body,
) -> Result<Response> {
    let key = key(path)?;
    let expect = precondition::put(&headers)?;
    let change = body::json::<Content>(content).await?.change()?;
    check_sealed(key.kind, &change.fields)?;
    let status = if expect == Expect::Absent { StatusCode::CREATED } else { StatusCode::OK };
    write(&app, &key, change, expect, status).await
}

/// Removes a record. Removing it again is no error.
#[utoipa::path(
    delete,
    path = "/store/v1/records/{kind}/{id}",
    tag = "Store",
    params(("kind" = String, Path, description = "api_key, account or session"), ("id" = String, Path, description = "Its id"), ("if-match" = Option<String>, Header, description = "The version that is to be removed")),
    responses((status = 200, description = "The version of its tombstone", body = super::answer::Acknowledged)),
)]
pub(super) async fn delete(State(app): State<Arc<App>>, path: Named, headers: HeaderMap) -> Result<Response> {
    let key = key(path)?;
    let expect = precondition::delete(&headers)?;
    write(&app, &key, Change::delete(), expect, StatusCode::OK).await
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    index: Option<String>,
    value: Option<String>,
    cursor: Option<String>,
    limit: Option<u32>,
}

/// One record by an index, or a page of all.
#[utoipa::path(
    get,
    path = "/store/v1/records/{kind}",
    tag = "Store",
    params(("kind" = String, Path, description = "api_key, account or session"), Search),
    responses((status = 200, description = "The record, or a page and the cursor of the next one", body = super::openapi::shapes::Found)),
)]
pub(super) async fn find_or_scan(
    State(app): State<Arc<App>>,
    kind: Result<Path<String>, PathRejection>,
    search: Result<Query<Search>, QueryRejection>,
) -> Result<Response> {
    let Path(kind) = kind.map_err(|_| unknown_kind(""))?;
    let kind = public(&kind)?;
    let Query(search) = search.map_err(|error| invalid_query(error.body_text()))?;
    match search {
        Search { index: Some(index), value: Some(value), cursor: None, limit: None } => {
            find(&app, kind, &index, &value).await
        }
        Search { index: None, value: None, cursor, limit } => scan(&app, kind, cursor, limit).await,
        _ => Err(invalid_query("send index and value, or cursor and limit")),
    }
}

/// The path ends where the id should be.
pub(super) async fn without_id() -> Problem {
    crate::store::InvalidKey::Length(0).into()
}

async fn find(app: &App, kind: &'static Kind, index: &str, value: &str) -> Result<Response> {
    kind.index_named(index).map_err(|error| Problem::bad("unknown-index", error.to_string()))?;
    let read = app.records.find(kind, index, value).await;
    let read = read.map_err(|error| Problem::store(error, Asked::Read))?;
    let mut response = match &read.value {
        Some(record) => found(record),
        None => {
            let detail = format!("no {} has this value in the index {index:?}", kind.name);
            Problem::new(StatusCode::NOT_FOUND, "record-not-found", detail).into_response()
        }
    };
    edge::label_read(&mut response, &read);
    Ok(response)
}

async fn scan(
    app: &App,
    kind: &'static Kind,
    cursor: Option<String>,
    limit: Option<u32>,
) -> Result<Response> {
    let limit = limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(invalid_query(format!("limit is 1 to {MAX_PAGE}")));
    }
    let cursor = cursor.as_deref();
    if let Some(Err(_)) = cursor.map(|cursor| Key::new(kind, cursor)) {
        return Err(invalid_query("the cursor is not one that `next` has named"));
    }
    let read = app.records.scan(kind, cursor, limit).await;
    let read = read.map_err(|error| Problem::store(error, Asked::Read))?;
    let records = read.value.records.iter().map(|record| View::of(record)).collect();
    let mut response = json(StatusCode::OK, &Listing { records, next: read.value.next.as_deref() }, 4_096);
    edge::label_read(&mut response, &read);
    Ok(response)
}

async fn write(app: &App, key: &Key, change: Change, expect: Expect, status: StatusCode) -> Result<Response> {
    let written = app.records.put(key, change, expect).await;
    let Written { value: version, durability, generation } =
        written.map_err(|error| Problem::store(error, Asked::Write(expect)))?;
    Ok(acknowledged(status, version, durability, &generation))
}

fn key(path: Named) -> Result<Key> {
    let Path((kind, id)) =
        path.map_err(|_| Problem::bad("invalid-id", "a kind and an id are UTF-8, percent-encoded"))?;
    Ok(Key::new(public(&kind)?, &id)?)
}

fn public(name: &str) -> Result<&'static Kind> {
    Kind::named(name)
        .ok()
        .filter(|kind| kind.visibility == Visibility::Public)
        .ok_or_else(|| unknown_kind(name))
}

/// No credential is stored in plain text.
fn check_sealed(kind: &'static Kind, fields: &Fields) -> Result<()> {
    let plain = if *kind == ACCOUNT { plain_credential(fields) } else { None };
    match plain {
        Some(field) => {
            let detail = format!("{field:?} is to be sealed; POST /admin/accounts does so");
            Err(Problem::bad("plain-credential", detail))
        }
        None => Ok(()),
    }
}

fn unknown_kind(name: &str) -> Problem {
    let known: Vec<_> = Kind::public().map(|kind| kind.name).collect();
    let name: String = name.chars().take(80).collect();
    let detail = format!("there is no kind {name:?} of records; there are {}", known.join(", "));
    Problem::new(StatusCode::NOT_FOUND, "unknown-kind", detail)
}

fn not_found(key: &Key) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "record-not-found", format!("there is no record {key}"))
}

fn invalid_query(detail: impl Into<String>) -> Problem {
    Problem::bad("invalid-query", detail)
}
