//! What this node knows of an account's health, written into its record for people: seldom, and behind the answer.
//!
//! It decides nothing. Claude Relay Service's own fields stay as they are, so that no account is left switched off
//! when it takes over again.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::account::Account;
use super::handing;
use super::health::Status;
use super::seal::Seals;
use super::snapshot::Snapshots;
use crate::store::clock::now_ms;
use crate::store::{Expect, Fields, Record, StoreError};
use crate::strategy::records::{Change, Records};

/// The field that says how its upstream has answered of late.
pub(super) const STATUS: &str = "upstreamStatus";
/// The field that says when it will be asked again.
pub(super) const UNTIL: &str = "upstreamStatusUntil";
/// How often an account's record is written at most.
const EVERY: Duration = Duration::from_secs(10);
/// How old `lastUsedAt` may be of an account that is in use, in milliseconds.
const USED_MS: i64 = 60_000;
/// How often a write is tried that others come before.
const ATTEMPTS: usize = 3;

/// Whether its record says too little of when it was last used.
pub(super) fn is_use_due(account: &Account) -> bool {
    now_ms() - account.health.used_ms.load(Relaxed) >= USED_MS
}

/// Writes what is known then, unless a write is on its way already.
pub(super) fn write_soon(
    records: &Arc<Records>,
    snapshots: &Arc<Snapshots>,
    seals: &Arc<Seals>,
    account: &Arc<Account>,
) {
    if account.health.writing.swap(true, AcqRel) {
        return;
    }
    account.health.used_ms.store(now_ms(), Relaxed);
    // What waits here is no reason to keep the stores of a server that ends.
    let (records, snapshots) = (Arc::downgrade(records), Arc::downgrade(snapshots));
    let (account, seals) = (account.clone(), seals.clone());
    tokio::spawn(async move {
        let last = *account.health.written.lock();
        if let Some(last) = last {
            sleep_until(last + EVERY).await;
        }
        let (Some(records), Some(snapshots)) = (records.upgrade(), snapshots.upgrade()) else { return };
        *account.health.written.lock() = Some(Instant::now());
        account.health.writing.store(false, Release);
        let settings = snapshots.last(account.id()).map_or(account.settings, |account| account.settings);
        if let Err(error) = write(&records, &seals, &account, settings).await {
            debug!(account = account.id(), %error, "the status of an account was not written");
        }
    });
}

/// Changes nothing but the status, of the very record that was read: a record that was changed or deleted in
/// between is left alone. What Claude Relay Service left in plain text is sealed with that.
async fn write(records: &Records, seals: &Seals, account: &Account, settings: u64) -> Result<(), StoreError> {
    for _ in 0..ATTEMPTS {
        let Some(record) = records.get(&account.record.key).await?.value else { return Ok(()) };
        let mut fields = with_status(&record, account, settings);
        let sealed = handing::seal_plain(&record.key, seals, &mut fields);
        sealed.map_err(|error| StoreError::Other(error.to_string()))?;
        let change = Change { fields, deleted: false, expires_at: record.expires_at };
        match records.put(&record.key, change, Expect::AtMost(record.version)).await {
            Err(StoreError::Conflict(_)) => {}
            answer => return answer.map(drop),
        }
    }
    Ok(())
}

fn with_status(record: &Record, account: &Account, settings: u64) -> Fields {
    let mut fields = record.fields.clone();
    let was_well = fields.get(STATUS).is_none_or(|status| status == Status::Active.name());
    let (status, left) = account.health.status(settings, Instant::now());
    let until = left.and_then(|left| Timestamp::now().checked_add(left).ok());
    let mut set = |name: &str, value: String| fields.insert(name.to_owned(), value);
    if !was_well || status != Status::Active {
        set(STATUS, status.name().into());
        set(UNTIL, until.map_or_else(String::new, |until| until.to_string()));
        set("errorMessage", status.sentence().into());
    }
    set("lastUsedAt", Timestamp::now().to_string());
    fields
}
