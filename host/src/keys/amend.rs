//! Changes that depend on what is there: read, change, and write if nothing came in between.

use std::time::Duration;

use super::{ApiKey, KeyError};
use crate::store::{Expect, Fields, Key, Record, StoreError, Version, kind};
use crate::strategy::records::{Change, Records};

/// How often a change is tried while others change the same key.
const ATTEMPTS: u32 = 6;
/// How long the first of them waits for the next: a copy nearby may be older than what refused it.
const PAUSE: Duration = Duration::from_millis(5);

/// A key after a change, and what the acknowledgement is worth; none when nothing had to be changed.
pub(super) type Amended = (ApiKey, Option<&'static str>);

/// The key of this id.
pub(super) fn name(id: &str) -> Result<Key, KeyError> {
    Key::new(&kind::API_KEY, id).map_err(|_| KeyError::NotFound)
}

/// Changes a key's fields. `change` answers whether there is anything to write, and is asked again when somebody
/// else was faster. `seen`: the version that it is a change of; none for any.
///
/// # Errors
/// Those of `change`; `NotFound`; `Conflict` when it is another version, or others are always faster; what a write may answer.
pub(super) async fn amend(
    records: &Records,
    key: &Key,
    seen: Option<Version>,
    mut change: impl FnMut(&mut Fields) -> Result<bool, KeyError>,
) -> Result<Amended, KeyError> {
    let mut pause = PAUSE;
    for attempt in 1.. {
        let held = records.get(key).await?.value.ok_or(KeyError::NotFound)?;
        if seen.is_some_and(|seen| seen != held.version) {
            return Err(StoreError::Conflict(held.version).into());
        }
        let mut fields = held.fields.clone();
        if !change(&mut fields)? {
            return Ok((ApiKey::new(held), None));
        }
        let (expires_at, expect) = (held.expires_at, Expect::AtMost(held.version));
        let wanted = Change { fields: fields.clone(), deleted: false, expires_at };
        match records.put(key, wanted, expect).await {
            Ok(written) => {
                let (version, deleted, cached_at) = (written.value, false, None);
                let record = Record { key: key.clone(), version, deleted, fields, expires_at, cached_at };
                return Ok((ApiKey::new(record.into()), Some(written.durability)));
            }
            Err(StoreError::Conflict(_)) if attempt < ATTEMPTS => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(KeyError::NotFound)
}
