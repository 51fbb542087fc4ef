//! `/admin/api-keys`: the keys of clients, in the envelope of Claude Relay Service. A key itself is answered once, to
//! whoever has it issued.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, ETAG, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Enveloped, json};
use super::error::{Asked, Problem, Result};
use super::openapi::shapes::{Erased, KeyPage};
use super::{App, body, bound, precondition};
use crate::keys::{Changed, Content, Issued, KeyError, Shape, view};
use crate::store::list::{Filter, ListQuery, Place, Sort, State as Of};
use crate::store::{Expect, MAX_PAGE};

/// How many keys a page has unless asked otherwise.
const PAGE: u32 = 50;
/// The longest text that is looked for, in bytes.
const MAX_TEXT: usize = 256;

type Named = Result<Path<String>, PathRejection>;

/// What to list, and in which order.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    /// From the page before.
    cursor: Option<String>,
    /// 1 to 1000; 50 unless asked otherwise.
    limit: Option<u32>,
    /// `createdAt` (default), `lastUsedAt` or `name`.
    #[param(value_type = Option<String>)]
    sort: Option<Sort>,
    /// `desc` (default) or `asc`.
    #[param(value_type = Option<String>)]
    order: Option<Order>,
    /// `present` (default: all that are not deleted), `active`, `disabled`, `deleted` or `all`.
    #[param(value_type = Option<String>)]
    status: Option<Of>,
    tag: Option<String>,
    /// A part of the name.
    search: Option<String>,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Order {
    Asc,
    #[default]
    Desc,
}

impl Search {
    fn query(self) -> Result<ListQuery> {
        let invalid = |detail: &str| Problem::bad("invalid-query", detail);
        let limit = self.limit.unwrap_or(PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(invalid("limit is 1 to 1000"));
        }
        let fits = |text: &String| text.len() <= MAX_TEXT && !text.contains('\0');
        if !self.tag.iter().chain(&self.search).all(fits) {
            return Err(invalid("tag and search have at most 256 bytes, and no NUL"));
        }
        let place = |cursor: String| Place::parse(&cursor);
        let wrong = || invalid("the cursor is none that a page has answered");
        let after = self.cursor.map(|cursor| place(cursor).ok_or_else(wrong)).transpose()?;
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let state = self.status.unwrap_or_default();
        let filter = Filter { state, tag: filled(self.tag), search: filled(self.search) };
        let (sort, order) = (self.sort.unwrap_or_default(), self.order.unwrap_or_default());
        Ok(ListQuery { filter, sort, descending: order == Order::Desc, after, limit })
    }
}

/// A page of keys.
#[utoipa::path(
    get,
    path = "/admin/api-keys",
    tag = "API keys",
    params(Search),
    responses((status = 200, description = "items, and in pagination.next the cursor of the next page", body = Enveloped<KeyPage>)),
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    search: Result<Query<Search>, QueryRejection>,
) -> Result<Response> {
    let Query(search) = search.map_err(|error| Problem::bad("invalid-query", error.body_text()))?;
    let query = search.query()?;
    let page = app.keys.list(&query).await;
    let (keys, next) = page.map_err(|error| Problem::store(error, Asked::Read))?;
    let items: Vec<_> = keys.iter().map(view).collect();
    let data = json!({ "items": items, "pagination": { "limit": query.limit, "next": next } });
    Ok(json(StatusCode::OK, &Enveloped::new(data), keys.len() * 1_600))
}

/// Issues a key. The answer is the only one that has it.
#[utoipa::path(
    post,
    path = "/admin/api-keys",
    tag = "API keys",
    request_body(content = serde_json::Value, description = "name, and any other field of a key", example = json!({"name": "Anna", "concurrencyLimit": 5, "dailyCostLimit": 10})),
    responses((status = 201, description = "The key in data.apiKey, and its fields", body = Enveloped<Shape>)),
)]
pub(super) async fn create(State(app): State<Arc<App>>, content: Body) -> Result<Response> {
    let content: Content = body::json(content).await?;
    bound::check(&app, None, &content).await?;
    Ok(issued(StatusCode::CREATED, &app.keys.create(&content).await.map_err(write)?))
}

/// One key.
#[utoipa::path(
    get,
    path = "/admin/api-keys/{id}",
    tag = "API keys",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "Its fields; its version is the etag", body = Enveloped<Shape>)),
)]
pub(super) async fn get(State(app): State<Arc<App>>, id: Named) -> Result<Response> {
    let key = app.keys.get(&path(id)?).await;
    let key = key.map_err(|error| refused(error, Asked::Read))?;
    let mut response = json(StatusCode::OK, &Enveloped::new(view(&key)), 2_048);
    response.headers_mut().insert(ETAG, precondition::etag(key.record().version));
    Ok(response)
}

/// Changes the fields that are sent; others stay.
#[utoipa::path(
    method(put, patch),
    path = "/admin/api-keys/{id}",
    tag = "API keys",
    params(("id" = String, Path, description = "Its id"), ("if-match" = Option<String>, Header, description = "The version that is to be changed")),
    request_body(content = serde_json::Value, description = "Any fields of a key", example = json!({"name": "Anna", "tags": ["team"]})),
    responses((status = 200, description = "All its fields", body = Enveloped<Shape>)),
)]
pub(super) async fn update(
    State(app): State<Arc<App>>,
    id: Named,
    headers: HeaderMap,
    content: Body,
) -> Result<Response> {
    let (id, seen) = (path(id)?, precondition::if_match(&headers)?);
    let content: Content = body::json(content).await?;
    bound::check(&app, Some(&id), &content).await?;
    let updated = app.keys.update(&id, seen, &content).await;
    let expect = seen.map_or(Expect::Anything, Expect::AtMost);
    Ok(answered(updated.map_err(|error| refused(error, Asked::Write(expect)))?))
}

#[derive(Deserialize, Default, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Deletion {
    /// For good: it cannot be restored.
    #[serde(default)]
    hard: bool,
}

/// Deletes a key, so that it can be restored unless that is asked for.
#[utoipa::path(
    delete,
    path = "/admin/api-keys/{id}",
    tag = "API keys",
    params(("id" = String, Path, description = "Its id"), Deletion),
    responses((status = 200, description = "It lets nobody in any more: the key, or its id when it is gone for good", body = Enveloped<Erased>)),
)]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    id: Named,
    query: Result<Query<Deletion>, QueryRejection>,
) -> Result<Response> {
    let (id, query) = (path(id)?, query.map_err(|error| Problem::bad("invalid-query", error.body_text()))?);
    if !query.hard {
        return changed(app.keys.delete(&id).await);
    }
    let durability = app.keys.erase(&id).await.map_err(write)?;
    Ok(enveloped(StatusCode::OK, json!({ "id": id }), Some(durability)))
}

/// How a key is to be replaced. No body means: at once.
#[derive(Deserialize, Default, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Replacement {
    /// For how long the old key still lets in; at most thirty days.
    grace_seconds: Option<u64>,
}

/// Issues a new key in place of the old one. The answer is the only one that has it.
#[utoipa::path(
    post,
    path = "/admin/api-keys/{id}/regenerate",
    tag = "API keys",
    params(("id" = String, Path, description = "Its id")),
    request_body(content = inline(Option<Replacement>)),
    responses((status = 200, description = "The key in data.apiKey, and its fields", body = Enveloped<Shape>)),
)]
pub(super) async fn regenerate(State(app): State<Arc<App>>, id: Named, content: Body) -> Result<Response> {
    let id = path(id)?;
    let bytes = body::read(content, body::MAX_BODY, body::WHOLE).await?;
    let Replacement { grace_seconds } = match bytes.trim_ascii() {
        b"" => Replacement::default(),
        json => body::parse(json)?,
    };
    let grace = grace_seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs);
    Ok(issued(StatusCode::OK, &app.keys.regenerate(&id, grace).await.map_err(write)?))
}

/// Lets nobody in with a key.
#[utoipa::path(
    post,
    path = "/admin/api-keys/{id}/disable",
    tag = "API keys",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "It lets nobody in, on any node", body = Enveloped<Shape>)),
)]
pub(super) async fn disable(State(app): State<Arc<App>>, id: Named) -> Result<Response> {
    changed(app.keys.set_active(&path(id)?, false).await)
}

/// Lets in with a key again.
#[utoipa::path(
    post,
    path = "/admin/api-keys/{id}/enable",
    tag = "API keys",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "It lets in again", body = Enveloped<Shape>)),
)]
pub(super) async fn enable(State(app): State<Arc<App>>, id: Named) -> Result<Response> {
    changed(app.keys.set_active(&path(id)?, true).await)
}

/// Makes a deleted key what it was.
#[utoipa::path(
    post,
    path = "/admin/api-keys/{id}/restore",
    tag = "API keys",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "It is what it was before it was deleted", body = Enveloped<Shape>)),
)]
pub(super) async fn restore(State(app): State<Arc<App>>, id: Named) -> Result<Response> {
    changed(app.keys.restore(&path(id)?).await)
}

fn path(id: Named) -> Result<String> {
    let Ok(Path(id)) = id else { return Err(refused(KeyError::NotFound, Asked::Read)) };
    Ok(id)
}

fn changed(changed: Result<Changed, KeyError>) -> Result<Response> {
    Ok(answered(changed.map_err(write)?))
}

fn answered(Changed { key, durability }: Changed) -> Response {
    let mut response = enveloped(StatusCode::OK, view(&key), durability);
    response.headers_mut().insert(ETAG, precondition::etag(key.record().version));
    response
}

/// The one answer that has the key itself. Nobody on the way is to keep it.
fn issued(status: StatusCode, issued: &Issued) -> Response {
    let mut data = view(&issued.key);
    data["apiKey"] = issued.plain.as_str().into();
    let mut response = enveloped(status, data, Some(issued.durability));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn enveloped(status: StatusCode, data: Value, durability: Option<&'static str>) -> Response {
    json(status, &Enveloped::new(data).durable(durability), 2_048)
}

fn write(error: KeyError) -> Problem {
    refused(error, Asked::Write(Expect::Anything))
}

pub(super) fn refused(error: KeyError, asked: Asked) -> Problem {
    let detail = error.to_string();
    let (status, code) = match error {
        KeyError::Store(error) => return Problem::store(error, asked),
        KeyError::NotFound => (StatusCode::NOT_FOUND, "key-not-found"),
        KeyError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid-field"),
        KeyError::Deleted => (StatusCode::CONFLICT, "key-deleted"),
        KeyError::NotDeleted => (StatusCode::CONFLICT, "key-not-deleted"),
        KeyError::Graces(_) => (StatusCode::CONFLICT, "too-many-graces"),
    };
    Problem::new(status, code, detail)
}
