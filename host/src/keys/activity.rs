//! What use writes: when a key was last used, its activation, a newer hash.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use super::amend::{amend, name};
use super::api_key::time_text;
use super::{ApiKey, KeyError, Keys, Refusal};
use crate::store::Fields;
use crate::store::clock::now_ms;
use crate::store::takeover::parse_time;

/// How often the last use of a key is written at most, in milliseconds.
const EVERY_MS: i64 = 60_000;
/// Of how many keys this node remembers when it wrote that last.
const REMEMBERED: usize = 100_000;
/// How many such writes there are at once; more are left to the next use.
const AT_ONCE: usize = 16;
/// How long an activated key lives if nothing is said, as in Claude Relay Service.
const DAYS: i64 = 30;

/// What this node has written lately.
pub(super) struct Activity {
    noted: Cache<Arc<str>, Arc<AtomicI64>>,
    room: Arc<Semaphore>,
}

impl Default for Activity {
    fn default() -> Self {
        Self { noted: Cache::new(REMEMBERED), room: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Activity {
    /// Takes the right to write the use of a key; at most once in [`EVERY_MS`].
    fn claim(&self, key: &ApiKey, now: i64) -> bool {
        let id = &key.record().key.id;
        let noted = match self.noted.get(id) {
            Some(noted) => noted,
            None => {
                let fresh = || Ok::<_, std::convert::Infallible>(Arc::new(AtomicI64::new(0)));
                let Ok(noted) = self.noted.get_or_insert_with(id, fresh);
                noted
            }
        };
        let last = noted.load(Ordering::Acquire);
        let due = (now - last).abs() >= EVERY_MS;
        due && noted.compare_exchange(last, now, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Keys {
    /// Notes that a key was used, behind the request: at most once a minute and key. Never undoes what an admin
    /// did meanwhile; lost when the stores do not take it.
    pub fn used(&self, key: &ApiKey) {
        let now = now_ms();
        let is_noted = move |at: Timestamp| (now - at.as_millisecond()).abs() < EVERY_MS;
        if !self.activity.claim(key, now) || key.last_used_at().is_some_and(is_noted) {
            return;
        }
        self.behind(key, move |fields| {
            let noted = fields.get("lastUsedAt").and_then(|at| parse_time(at)).is_some_and(is_noted);
            if noted || !is_usable(fields) {
                return Ok(false);
            }
            fields.insert("lastUsedAt".into(), time_text(Timestamp::now()));
            Ok(true)
        });
    }

    /// Replaces the hash by which a key was found with the one that new keys get, behind the request.
    pub(super) fn upgrade(&self, key: &ApiKey, old: String, new: String) {
        self.behind(key, move |fields| {
            if fields.get("apiKey") != Some(&old) {
                return Ok(false);
            }
            fields.insert("apiKey".into(), new.clone());
            Ok(true)
        });
    }

    /// Changes a key without anybody waiting; not at all when there is too much of that.
    fn behind(
        &self,
        key: &ApiKey,
        change: impl FnMut(&mut Fields) -> Result<bool, KeyError> + Send + 'static,
    ) {
        let Ok(room) = self.activity.room.clone().try_acquire_owned() else { return };
        let (records, key) = (self.records.clone(), key.record().key.clone());
        tokio::spawn(async move {
            if let Err(error) = amend(&records, &key, None, change).await {
                tracing::debug!(%key, %error, "what its use had to say of an API key was not written");
            }
            drop(room);
        });
    }

    /// Lets the time of a key begin. When no store takes that, it begins with a later use.
    pub(super) async fn activate(&self, key: ApiKey) -> Result<ApiKey, Refusal> {
        let name = name(key.id()).map_err(|_| Refusal::Unknown)?;
        let activated = amend(&self.records, &name, None, |fields| {
            let awaits = fields.get("isActivated").is_none_or(|is| is != "true");
            let usable = awaits && is_usable(fields);
            if usable {
                begin(fields, Timestamp::now());
            }
            Ok(usable)
        });
        match activated.await {
            Ok((key, _)) => key.check(Timestamp::now()).map(|()| key),
            Err(KeyError::NotFound) => Err(Refusal::Unknown),
            Err(error) => {
                tracing::debug!(key = %key.id(), %error, "an API key was not activated");
                Ok(key)
            }
        }
    }
}

fn is_usable(fields: &Fields) -> bool {
    let is = |name: &str| fields.get(name).is_some_and(|value| value == "true");
    is("isActive") && !is("isDeleted")
}

/// Begins the time of a key.
fn begin(fields: &mut Fields, now: Timestamp) {
    let number = fields.get("activationDays").and_then(|days| days.parse::<i64>().ok()).filter(|n| *n > 0);
    let number = number.unwrap_or(DAYS).min(1_000_000);
    let hours = if fields.get("activationUnit").is_some_and(|unit| unit == "hours") { 1 } else { 24 };
    let until = now.checked_add(SignedDuration::from_hours(number * hours)).unwrap_or(Timestamp::MAX);
    fields.insert("isActivated".into(), "true".into());
    fields.insert("activatedAt".into(), time_text(now));
    fields.insert("expiresAt".into(), time_text(until));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_key_is_in_days_or_hours() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (number, unit, until) in [
            ("2", "days", "2026-01-03T00:00:00.000Z"),
            ("2", "hours", "2026-01-01T02:00:00.000Z"),
            ("0", "", "2026-01-31T00:00:00.000Z"),
        ] {
            let mut fields = Fields::from([
                ("activationDays".into(), number.into()),
                ("activationUnit".into(), unit.into()),
            ]);
            begin(&mut fields, now);
            assert_eq!((&*fields["expiresAt"], &*fields["isActivated"]), (until, "true"));
        }
    }
}
