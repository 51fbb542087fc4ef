//! `/admin/accounts` and `/admin/account-groups`, in Claude Relay Service's envelope. Credentials go in and never
//! come out.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::answer::{Enveloped, json};
use super::error::{Asked, Problem, Result};
use super::openapi::shapes::Deleted;
use super::{App, body};
use crate::accounts::Shape;
use crate::accounts::edit::{Draft, EditError, Listed};
use crate::accounts::groups::{Group, GroupDraft};
use crate::accounts::rewrap::{Opener, Rewrapped};
use crate::store::{Expect, StoreError};

type Named = Result<Path<String>, PathRejection>;

/// Where a list goes on.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    /// `next` of the answer before.
    cursor: Option<String>,
}

/// The accounts: all, unless there are more than ten thousand.
#[utoipa::path(
    get,
    path = "/admin/accounts",
    tag = "Accounts",
    params(After),
    responses((status = 200, description = "The accounts, without their credentials; next names where it goes on if there are more", body = Enveloped<Vec<Shape>>)),
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    after: Result<Query<After>, QueryRejection>,
) -> Result<Response> {
    Ok(listed(app.accounts.list(cursor(after)?.as_deref()).await?))
}

/// Makes an account. It needs a name, an apiUrl and an apiKey.
#[utoipa::path(
    post,
    path = "/admin/accounts",
    tag = "Accounts",
    request_body(content = inline(Draft)),
    responses((status = 201, description = "The account, without its credential", body = Enveloped<Shape>)),
)]
pub(super) async fn create(State(app): State<Arc<App>>, content: Body) -> Result<Response> {
    let draft = body::json::<Draft>(content).await?;
    let accounts = app.accounts.clone();
    let created = undisturbed(async move { accounts.create(draft).await }).await?;
    Ok(data(StatusCode::CREATED, &created))
}

/// An account, and how its upstream has answered of late.
#[utoipa::path(
    get,
    path = "/admin/accounts/{id}",
    tag = "Accounts",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "The account, without its credential", body = Enveloped<Shape>)),
)]
pub(super) async fn get(State(app): State<Arc<App>>, id: Named) -> Result<Response> {
    Ok(data(StatusCode::OK, &app.accounts.get(&named(id)?).await?))
}

/// Changes what is named and leaves the rest.
#[utoipa::path(
    method(put, patch),
    path = "/admin/accounts/{id}",
    tag = "Accounts",
    params(("id" = String, Path, description = "Its id")),
    request_body(content = inline(Draft)),
    responses((status = 200, description = "The account, without its credential", body = Enveloped<Shape>)),
)]
pub(super) async fn update(State(app): State<Arc<App>>, id: Named, content: Body) -> Result<Response> {
    let id = named(id)?;
    let draft = body::json::<Draft>(content).await?;
    let accounts = app.accounts.clone();
    let updated = undisturbed(async move { accounts.update(&id, draft).await }).await?;
    Ok(data(StatusCode::OK, &updated))
}

/// Deletes an account.
#[utoipa::path(
    delete,
    path = "/admin/accounts/{id}",
    tag = "Accounts",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "It is deleted", body = Enveloped<Deleted>)),
)]
pub(super) async fn delete(State(app): State<Arc<App>>, id: Named) -> Result<Response> {
    let (id, accounts) = (named(id)?, app.accounts.clone());
    undisturbed(async move { accounts.delete(&id).await }).await?;
    Ok(data(StatusCode::OK, &json!({ "deleted": true })))
}

/// Lets an account be asked again that was found unwell.
#[utoipa::path(
    post,
    path = "/admin/accounts/{id}/reset-status",
    tag = "Accounts",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "The account", body = Enveloped<Shape>)),
)]
pub(super) async fn reset_status(State(app): State<Arc<App>>, id: Named) -> Result<Response> {
    let (id, accounts) = (named(id)?, app.accounts.clone());
    let reset = undisturbed(async move { accounts.reset_status(&id).await }).await?;
    Ok(data(StatusCode::OK, &reset))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Toward {
    /// `claude-relay-service`, so that it can open them; absent: this program.
    #[serde(rename = "for")]
    opener: Option<String>,
}

/// Seals every credential with the secret in use, or as Claude Relay Service does.
#[utoipa::path(
    post,
    path = "/admin/accounts/rewrap",
    tag = "Accounts",
    params(Toward),
    responses((status = 200, description = "How many were sealed anew, and which could not be", body = Enveloped<Rewrapped>)),
)]
pub(super) async fn rewrap(
    State(app): State<Arc<App>>,
    query: Result<Query<Toward>, QueryRejection>,
) -> Result<Response> {
    let invalid = || Problem::bad("invalid-query", "for is claude-relay-service, or absent");
    let Query(Toward { opener }) = query.map_err(|_| invalid())?;
    let opener = match opener.as_deref() {
        None => Opener::Switchyard,
        Some("claude-relay-service") => Opener::RelayService,
        Some(_) => return Err(invalid()),
    };
    let accounts = app.accounts.clone();
    let report = undisturbed(async move { accounts.rewrap(opener).await }).await?;
    Ok(data(StatusCode::OK, &report))
}

/// The groups of accounts: all, unless there are more than ten thousand.
#[utoipa::path(
    get,
    path = "/admin/account-groups",
    tag = "Accounts",
    params(After),
    responses((status = 200, description = "The groups, with their members; next names where it goes on if there are more", body = Enveloped<Vec<Group>>)),
)]
pub(super) async fn groups(
    State(app): State<Arc<App>>,
    after: Result<Query<After>, QueryRejection>,
) -> Result<Response> {
    Ok(listed(app.accounts.groups(cursor(after)?.as_deref()).await?))
}

/// Makes a group. It needs a name.
#[utoipa::path(
    post,
    path = "/admin/account-groups",
    tag = "Accounts",
    request_body(content = inline(GroupDraft)),
    responses((status = 201, description = "The group", body = Enveloped<Group>)),
)]
pub(super) async fn create_group(State(app): State<Arc<App>>, content: Body) -> Result<Response> {
    let draft = body::json::<GroupDraft>(content).await?;
    let accounts = app.accounts.clone();
    let created = undisturbed(async move { accounts.create_group(draft).await }).await?;
    Ok(data(StatusCode::CREATED, &created))
}

/// A group of accounts.
#[utoipa::path(
    get,
    path = "/admin/account-groups/{id}",
    tag = "Accounts",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "The group, with its members", body = Enveloped<Group>)),
)]
pub(super) async fn group(State(app): State<Arc<App>>, id: Named) -> Result<Response> {
    Ok(data(StatusCode::OK, &app.accounts.group(&named(id)?).await?))
}

/// Changes what is named and leaves the rest.
#[utoipa::path(
    method(put, patch),
    path = "/admin/account-groups/{id}",
    tag = "Accounts",
    params(("id" = String, Path, description = "Its id")),
    request_body(content = inline(GroupDraft)),
    responses((status = 200, description = "The group", body = Enveloped<Group>)),
)]
pub(super) async fn update_group(State(app): State<Arc<App>>, id: Named, content: Body) -> Result<Response> {
    let id = named(id)?;
    let draft = body::json::<GroupDraft>(content).await?;
    let accounts = app.accounts.clone();
    let updated = undisturbed(async move { accounts.update_group(&id, draft).await }).await?;
    Ok(data(StatusCode::OK, &updated))
}

/// Deletes a group that has no members.
#[utoipa::path(
    delete,
    path = "/admin/account-groups/{id}",
    tag = "Accounts",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "It is deleted", body = Enveloped<Deleted>)),
)]
pub(super) async fn delete_group(State(app): State<Arc<App>>, id: Named) -> Result<Response> {
    let (id, accounts) = (named(id)?, app.accounts.clone());
    undisturbed(async move { accounts.delete_group(&id).await }).await?;
    Ok(data(StatusCode::OK, &json!({ "deleted": true })))
}

/// Goes on to its end when the client goes away, so that this node knows of its own change.
async fn undisturbed<T: Send + 'static>(
    change: impl Future<Output = Result<T, EditError>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(change).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(Problem::store(StoreError::Other(error.to_string()), Asked::Read)),
    }
}

fn named(id: Named) -> Result<String> {
    id.map(|Path(id)| id).map_err(|_| Problem::bad("invalid-id", "an id is UTF-8, percent-encoded"))
}

fn cursor(after: Result<Query<After>, QueryRejection>) -> Result<Option<String>> {
    let after = after.map_err(|error| Problem::bad("invalid-query", error.body_text()))?;
    Ok(after.0.cursor)
}

fn listed<T: Serialize>((data, next): Listed<T>) -> Response {
    json(StatusCode::OK, &Enveloped::new(data).next(next), 1_024)
}

fn data(status: StatusCode, data: &impl Serialize) -> Response {
    json(status, &Enveloped::new(data), 1_024)
}

impl From<EditError> for Problem {
    fn from(error: EditError) -> Self {
        let detail = error.to_string();
        match error {
            EditError::NotFound => Self::new(StatusCode::NOT_FOUND, "not-found", detail),
            EditError::Invalid { .. } => Self::bad("invalid-field", detail),
            EditError::Conflict => Self::new(StatusCode::CONFLICT, "version-conflict", detail),
            EditError::NotEmpty => Self::new(StatusCode::CONFLICT, "not-empty", detail),
            EditError::Seal(_) | EditError::NotGiven(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "not-sealed", detail)
            }
            EditError::Store(error) => Self::store(error, Asked::Write(Expect::Anything)),
        }
    }
}
