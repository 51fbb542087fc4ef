//! A key from its creation to its end.

use jiff::Timestamp;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::amend::{Amended, amend, name};
use super::api_key::time_text;
use super::content::{Content, FIELDS, Form};
use super::lookup::{PREVIOUS, UNTIL};
use super::rotation::BEFORE_DELETE;
use super::{ApiKey, KeyError, Keys};
use crate::store::kind::API_KEY;
use crate::store::list::ListQuery;
use crate::store::{Expect, Fields, StoreError, Version};
use crate::strategy::records::Change;

/// Who deletes and restores.
const BY: &str = "admin";
/// What deleting adds to a key.
const DELETION: [&str; 4] = ["isDeleted", "deletedAt", "deletedBy", "deletedByType"];

/// A key that was issued. The only time that it is there to be shown.
pub struct Issued {
    pub key: ApiKey,
    pub plain: Zeroizing<String>,
    /// What the acknowledgement is worth.
    pub durability: &'static str,
}

/// A key after a change, and what the acknowledgement is worth; none when nothing had to be changed.
pub struct Changed {
    pub key: ApiKey,
    pub durability: Option<&'static str>,
}

impl From<Amended> for Changed {
    fn from((key, durability): Amended) -> Self {
        Self { key, durability }
    }
}

impl Keys {
    /// A new key of `cr_` and 64 hex digits.
    ///
    /// # Errors
    /// `Invalid`; what a write may answer. After a timeout there may be a key that nobody knows.
    pub async fn create(&self, content: &Content) -> Result<Issued, KeyError> {
        let (id, plain, now) = (Uuid::now_v7().to_string(), self.generate()?, time_text(Timestamp::now()));
        let of = |(name, _, value): &(&str, Form, &str)| ((*name).to_owned(), (*value).to_owned());
        // Not what a deletion or a rotation would add.
        let plainly = |(name, ..): &&(&str, Form, &str)| {
            !DELETION.contains(name) && ![BEFORE_DELETE, PREVIOUS, UNTIL].contains(name)
        };
        let mut fields: Fields = FIELDS.iter().filter(plainly).map(of).collect();
        content.apply(&mut fields)?;
        for (name, value) in [("id", &id), ("createdAt", &now), ("activatedAt", &now), ("updatedAt", &now)] {
            fields.insert(name.into(), value.clone());
        }
        fields.insert("apiKey".into(), self.hashes.newest(&plain));
        if fields["name"].is_empty() {
            return Err(KeyError::Invalid("\"name\" is missing".into()));
        }
        await_activation(&mut fields, ("fixed", ""))?;
        let change = Change { fields: fields.clone(), deleted: false, expires_at: None };
        let key = name(&id)?;
        let written = self.records.put(&key, change, Expect::Anything).await?;
        let version = written.value;
        let record =
            crate::store::Record { key, version, deleted: false, fields, expires_at: None, cached_at: None };
        Ok(Issued { key: ApiKey::new(record.into()), plain, durability: written.durability })
    }

    /// # Errors
    /// `NotFound`; what a read may answer.
    pub async fn get(&self, id: &str) -> Result<ApiKey, KeyError> {
        let read = self.records.get(&name(id)?).await?;
        read.value.map(ApiKey::new).ok_or(KeyError::NotFound)
    }

    /// A page of keys, and the cursor of the next one.
    ///
    /// # Errors
    /// As [`crate::strategy::records::Records::list`].
    pub async fn list(&self, query: &ListQuery) -> Result<(Vec<ApiKey>, Option<String>), StoreError> {
        let page = self.records.list(&API_KEY, query).await?.value;
        Ok((page.records.into_iter().map(ApiKey::new).collect(), page.next))
    }

    /// Writes fields over those that the key has, if it is the version that was seen; others stay.
    ///
    /// # Errors
    /// `Invalid`; `Deleted`; those of any change.
    pub async fn update(
        &self,
        id: &str,
        seen: Option<Version>,
        content: &Content,
    ) -> Result<Changed, KeyError> {
        self.change(id, seen, |fields| {
            let [mode, expires] = ["expirationMode", "expiresAt"].map(|name| fields.get(name).cloned());
            content.apply(fields)?;
            await_activation(fields, (&mode.unwrap_or_default(), &expires.unwrap_or_default()))
        })
        .await
    }

    /// Lets nobody in with the key, on any node, from the acknowledgement on; or lets them in again.
    ///
    /// # Errors
    /// `Deleted`; those of any change.
    pub async fn set_active(&self, id: &str, active: bool) -> Result<Changed, KeyError> {
        self.change(id, None, |fields| {
            fields.insert("isActive".into(), active.to_string());
            Ok(())
        })
        .await
    }

    /// Deletes a key so that it can be restored.
    ///
    /// # Errors
    /// Those of any change. Deleting it again is none.
    pub async fn delete(&self, id: &str) -> Result<Changed, KeyError> {
        let key = name(id)?;
        let deleted = amend(&self.records, &key, None, |fields| {
            if fields.get("isDeleted").is_some_and(|is| is == "true") {
                return Ok(false);
            }
            let active = fields.insert("isActive".into(), "false".into()).unwrap_or_default();
            fields.insert(BEFORE_DELETE.into(), active);
            let now = time_text(Timestamp::now());
            for (field, value) in DELETION.into_iter().zip(["true", &now, BY, BY]) {
                fields.insert(field.into(), value.into());
            }
            Ok(true)
        });
        Ok(deleted.await?.into())
    }

    /// Makes a deleted key what it was.
    ///
    /// # Errors
    /// `NotDeleted`; those of any change.
    pub async fn restore(&self, id: &str) -> Result<Changed, KeyError> {
        let key = name(id)?;
        let restored = amend(&self.records, &key, None, |fields| {
            if fields.get("isDeleted").is_none_or(|is| is != "true") {
                return Err(KeyError::NotDeleted);
            }
            // Claude Relay Service does not say how it was, and lets restored keys in.
            let active = fields.remove(BEFORE_DELETE).unwrap_or_else(|| "true".into());
            fields.insert("isActive".into(), active);
            DELETION.iter().for_each(|field| drop(fields.remove(*field)));
            fields.insert("restoredAt".into(), time_text(Timestamp::now()));
            fields.insert("restoredBy".into(), BY.into());
            Ok(true)
        });
        Ok(restored.await?.into())
    }

    /// Deletes a key for good. What it used stays counted.
    ///
    /// # Errors
    /// `NotFound`; what a write may answer.
    pub async fn erase(&self, id: &str) -> Result<&'static str, KeyError> {
        let key = self.get(id).await?.record().key.clone();
        Ok(self.records.put(&key, Change::delete(), Expect::Anything).await?.durability)
    }

    /// Changes a key that is not deleted.
    pub(super) async fn change(
        &self,
        id: &str,
        seen: Option<Version>,
        mut change: impl FnMut(&mut Fields) -> Result<(), KeyError>,
    ) -> Result<Changed, KeyError> {
        let key = name(id)?;
        let changed = amend(&self.records, &key, seen, |fields| {
            if fields.get("isDeleted").is_some_and(|is| is == "true") {
                return Err(KeyError::Deleted);
            }
            let before = fields.clone();
            change(fields)?;
            let changed = *fields != before;
            if changed {
                fields.insert("updatedAt".into(), time_text(Timestamp::now()));
            }
            Ok(changed)
        });
        Ok(changed.await?.into())
    }

    /// A key that nobody has.
    pub(super) fn generate(&self) -> Result<Zeroizing<String>, KeyError> {
        let mut random = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *random)
            .map_err(|error| StoreError::Other(format!("no randomness for an API key: {error}")))?;
        let digits = Zeroizing::new(hex::encode(*random));
        Ok(Zeroizing::new(format!("{}{}", self.prefix, *digits)))
    }
}

/// When the way in which a key expires has changed: its time begins with its next use, or has begun. `before`: that way,
/// and the time at which it expired.
fn await_activation(fields: &mut Fields, before: (&str, &str)) -> Result<(), KeyError> {
    let field = |name| fields.get(name).map_or("", String::as_str);
    let awaits = field("expirationMode") == "activation";
    let (changed, expires) = (awaits != (before.0 == "activation"), field("expiresAt"));
    let not_begun = awaits && (changed || field("isActivated") != "true");
    if not_begun && !expires.is_empty() && (changed || expires != before.1) {
        let why = "\"expiresAt\" stays empty when the time begins with the first use";
        return Err(KeyError::Invalid(why.into()));
    }
    if changed {
        fields.insert("isActivated".into(), (!awaits).to_string());
        if awaits {
            fields.insert("activatedAt".into(), String::new());
        }
    }
    Ok(())
}
