//! Whether the account that a key is to be bound to is there: bound to none, it could not be used.

use super::App;
use super::error::{Asked, Problem, Result};
use super::keys::refused;
use crate::keys::Content;

/// Of a change of the key of this id, or of a new one. A key may be sent back as it is.
pub(super) async fn check(app: &App, key: Option<&str>, content: &Content) -> Result<()> {
    for (field, bound) in content.bindings() {
        if app.accounts.has(bound).await? || is_held(app, key, field, bound).await? {
            continue;
        }
        let detail = format!(
            "{field:?} names {bound:?}, which there is not; /admin/accounts and /admin/account-groups have what there is"
        );
        return Err(Problem::bad("invalid-field", detail));
    }
    Ok(())
}

async fn is_held(app: &App, key: Option<&str>, field: &str, bound: &str) -> Result<bool> {
    let Some(id) = key else { return Ok(false) };
    let key = app.keys.get(id).await.map_err(|error| refused(error, Asked::Read))?;
    Ok(key.record().fields.get(field).is_some_and(|held| held == bound))
}
