//! Whether the account that a key is to be bound to is there: bound to none, it could not be used.

use super::App;
use super::error::{Problem, Result};
use crate::accounts::edit::EditError;
use crate::keys::Content;

/// Of a change of the key of this id, or of a new one. A key may be sent back as it is.
pub(super) async fn check(app: &App, key: Option<&str>, content: &Content) -> Result<()> {
    for (field, bound) in content.bindings() {
        let found = match bound.strip_prefix("group:") {
            Some(group) => app.accounts.group(group).await.map(drop),
            None => app.accounts.get(bound).await.map(drop),
        };
        match found {
            Err(EditError::NotFound | EditError::Invalid { .. })
                if !is_held(app, key, field, bound).await =>
            {
                let detail = format!(
                    "{field:?} names {bound:?}, which there is not; /admin/accounts and /admin/account-groups have \
                     what there is"
                );
                return Err(Problem::bad("invalid-field", detail));
            }
            Ok(()) | Err(EditError::NotFound | EditError::Invalid { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn is_held(app: &App, key: Option<&str>, field: &str, bound: &str) -> bool {
    let Some(id) = key else { return false };
    let held = app.keys.get(id).await;
    held.is_ok_and(|key| key.record().fields.get(field).is_some_and(|held| held == bound))
}
