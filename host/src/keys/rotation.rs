//! A new key in place of the old one, which may go on for a while.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::amend::name;
use super::lookup::{PREVIOUS, Previous, previous, signpost};
use super::{Issued, KeyError, Keys};
use crate::store::{Expect, Fields, StoreError};
use crate::strategy::records::Change;

/// Whether a deleted key was active.
pub(super) const BEFORE_DELETE: &str = "isActiveBeforeDelete";
/// The longest grace: thirty days.
const MAX_GRACE: Duration = Duration::from_secs(30 * 86_400);
/// How many replaced keys have a grace at most.
pub(super) const MAX_PREVIOUS: usize = 8;
/// How often it begins anew when the hash changes meanwhile.
const ATTEMPTS: u32 = 3;

impl Keys {
    /// Issues a new key in place of the one that there is. That one ends at once, and with it all that were before
    /// it; or after `grace`, at most thirty days, across restarts and changes of the strategy.
    ///
    /// # Errors
    /// `Invalid`; `Deleted`; `Graces` when as many as may be have one; those of any change. After a timeout the old key may have ended.
    pub async fn regenerate(&self, id: &str, grace: Option<Duration>) -> Result<Issued, KeyError> {
        if grace.is_some_and(|grace| grace > MAX_GRACE) {
            return Err(KeyError::Invalid(format!("a grace is at most {} seconds", MAX_GRACE.as_secs())));
        }
        let (plain, now) = (self.generate()?, Timestamp::now());
        let until = grace.map(SignedDuration::try_from).transpose().ok().flatten();
        let until = until.and_then(|grace| now.checked_add(grace).ok());
        let hash = self.hashes.newest(&plain);
        for _ in 0..ATTEMPTS {
            let held = self.get(id).await?;
            let old = held.field("apiKey").to_owned();
            if let Some(until) = until {
                room(&held.record().fields)?;
                self.point_from(&old, id, until).await?;
            }
            let mut moved = false;
            let replaced = self.change(id, None, |fields| {
                moved = fields.get("apiKey").is_some_and(|held| *held != old);
                if !moved {
                    replace(fields, &hash, until)?;
                }
                Ok(())
            });
            let replaced = replaced.await?;
            if !moved {
                let durability = replaced.durability.unwrap_or("none");
                return Ok(Issued { key: replaced.key, plain, durability });
            }
        }
        Err(StoreError::Conflict(0).into())
    }

    /// Leads from the hash of the old key to the key: before the old one is replaced, so that it is found at any
    /// moment. It decides nothing, and expires with the grace.
    async fn point_from(&self, old: &str, id: &str, until: Timestamp) -> Result<(), KeyError> {
        let fields = Fields::from([("keyId".into(), name(id)?.id.to_string())]);
        let change = Change { fields, deleted: false, expires_at: Some(until.as_millisecond()) };
        self.records.put(&signpost(old)?, change, Expect::Anything).await?;
        Ok(())
    }
}

/// # Errors
/// `Graces` when no other replaced key may have one.
fn room(fields: &Fields) -> Result<(), KeyError> {
    let kept = previous(fields, Timestamp::now());
    let first = kept.iter().map(|previous| previous.until).min();
    first.filter(|_| kept.len() >= MAX_PREVIOUS).map_or(Ok(()), |first| Err(KeyError::Graces(first)))
}

/// Puts a new hash in the place of the old one, which stays until then.
fn replace(fields: &mut Fields, hash: &str, until: Option<Timestamp>) -> Result<(), KeyError> {
    if until.is_some() {
        room(fields)?;
    }
    let old = fields.insert("apiKey".into(), hash.to_owned()).unwrap_or_default();
    let mut kept = match until {
        Some(_) => previous(fields, Timestamp::now()),
        None => Vec::new(),
    };
    kept.extend(until.filter(|_| !old.is_empty()).map(|until| Previous { hash: old, until }));
    if kept.is_empty() {
        fields.remove(PREVIOUS)
    } else {
        fields.insert(PREVIOUS.into(), serde_json::to_string(&kept).unwrap_or_default())
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_keys_are_kept_up_to_a_number_and_end_without_a_grace() {
        let (mut fields, later) = (Fields::new(), Timestamp::now() + SignedDuration::from_hours(1));
        for n in 0..=MAX_PREVIOUS {
            replace(&mut fields, &n.to_string(), Some(later)).unwrap();
        }
        let before = fields.clone();
        let refused = replace(&mut fields, "more", Some(later));
        assert_eq!(refused, Err(KeyError::Graces(later)), "none ends before its time");
        assert_eq!(fields, before);
        let kept: Vec<_> = previous(&fields, Timestamp::now()).into_iter().map(|p| p.hash).collect();
        assert_eq!(kept, ["0", "1", "2", "3", "4", "5", "6", "7"]);
        assert!(previous(&fields, later).is_empty());
        replace(&mut fields, "last", None).unwrap();
        assert!(!fields.contains_key(PREVIOUS) && fields["apiKey"] == "last");
    }
}
