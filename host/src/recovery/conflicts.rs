//! What two nodes wrote of one record while each saw only one of the stores. The greater version is kept; the other
//! one is listed, so that a person can look at it. The last thousand, in the durable store.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tracing::warn;

use crate::store::clock::now_ms;
use crate::store::kind::CONFLICT_EVENT;
use crate::store::side::Which;
use crate::store::{Backend, Fields, Key, MAX_PAGE, Record, Result, StoreError, Version, Write};
use crate::telemetry::Metrics;

/// Two versions younger than this may be one write on its way into both stores, in milliseconds.
pub(super) const SETTLED_MS: u64 = 2_000;
/// How many are forgotten at once when there are more than a page of them.
const FORGOTTEN: usize = 100;

/// One record of which two versions were written without each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// `KIND/ID`
    pub key: String,
    /// When it was found, in milliseconds since 1970.
    pub at: i64,
    pub kept: Kept,
    pub dropped: Dropped,
}

/// The version that both stores have now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// `redis` or `postgres`: where it was written.
    pub store: String,
    pub version: Version,
    pub deleted: bool,
}

/// The version that was overwritten, with its contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    pub store: String,
    pub version: Version,
    pub deleted: bool,
    pub fields: Fields,
}

/// The conflicts that were found, by whichever node.
pub struct Conflicts {
    durable: Arc<dyn Backend>,
    found: Counter,
}

impl Conflicts {
    pub fn new(durable: Arc<dyn Backend>, metrics: &Metrics) -> Self {
        let found = Counter::default();
        let help = "Records of which two versions were written without each other.";
        metrics.register("conflicts", help, found.clone());
        Self { durable, found }
    }

    /// Notes which of these marked records of two stores contradict each other. To be called before either is
    /// overwritten; repeating it changes nothing.
    ///
    /// # Errors
    /// When a conflict could not be kept durably: nothing of it may be overwritten then.
    pub async fn note(
        &self,
        (which, ours): (Which, &[Arc<Record>]),
        (other, theirs): (Which, &[Arc<Record>]),
    ) -> Result<()> {
        if theirs.is_empty() {
            return Ok(());
        }
        let theirs: HashMap<&Key, &Arc<Record>> = theirs.iter().map(|record| (&record.key, record)).collect();
        let settled = (now_ms() as u64).saturating_sub(SETTLED_MS) * 1_000;
        let mut any = false;
        for record in ours {
            let Some(their) = theirs.get(&record.key) else { continue };
            if record.version != their.version && record.version.max(their.version) < settled {
                let (our, their) = ((which, &**record), (other, &***their));
                let (kept, dropped) =
                    if our.1.version > their.1.version { (our, their) } else { (their, our) };
                self.keep(kept, dropped).await?;
                any = true;
            }
        }
        if any {
            self.forget_oldest().await?;
        }
        Ok(())
    }

    /// Newest first.
    pub async fn list(&self) -> Result<Vec<Conflict>> {
        let page = self.durable.scan(&CONFLICT_EVENT, None, MAX_PAGE).await?;
        let parse = |record: &Arc<Record>| serde_json::from_str(record.fields.get("conflict")?).ok();
        let mut conflicts: Vec<Conflict> = page.records.iter().filter_map(parse).collect();
        conflicts.sort_by_key(|conflict| std::cmp::Reverse(conflict.at));
        Ok(conflicts)
    }

    async fn keep(&self, kept: (Which, &Record), dropped: (Which, &Record)) -> Result<()> {
        let id = id(kept.1, dropped.1)?;
        if self.durable.get(&id).await?.is_some() {
            return Ok(());
        }
        let conflict = Conflict {
            key: kept.1.key.to_string(),
            at: now_ms(),
            kept: Kept { store: kept.0.name().into(), version: kept.1.version, deleted: kept.1.deleted },
            dropped: Dropped {
                store: dropped.0.name().into(),
                version: dropped.1.version,
                deleted: dropped.1.deleted,
                fields: dropped.1.fields.clone(),
            },
        };
        let json = serde_json::to_string(&conflict).map_err(|error| StoreError::Other(error.to_string()))?;
        self.write(id, Fields::from([("conflict".to_owned(), json)]), false).await?;
        self.found.inc();
        let Conflict { key, kept, dropped, .. } = &conflict;
        let (kept, dropped) = (kept.version, dropped.version);
        warn!(key, kept, dropped, "two versions were written without each other; the greater one is kept");
        Ok(())
    }

    /// Ids begin with the version kept: the first ones are the oldest.
    async fn forget_oldest(&self) -> Result<()> {
        let page = self.durable.scan(&CONFLICT_EVENT, None, MAX_PAGE).await?;
        if page.next.is_some() {
            for record in page.records.into_iter().take(FORGOTTEN) {
                self.write(record.key.clone(), Fields::new(), true).await?;
            }
        }
        Ok(())
    }

    async fn write(&self, key: Key, fields: Fields, deleted: bool) -> Result<()> {
        let version = if deleted { 2 } else { 1 };
        let expires_at = deleted.then(now_ms);
        let record = Record { key, version, deleted, fields, expires_at, cached_at: None };
        match self.durable.put(&Write::copy(Arc::new(record))).await {
            // Another node was first.
            Err(StoreError::Conflict(_)) => Ok(()),
            done => done,
        }
    }
}

/// The same on every node that finds the same conflict.
fn id(kept: &Record, dropped: &Record) -> Result<Key> {
    let named = Sha256::digest(kept.key.to_string());
    let id = format!("{:016}.{:016}.{}", kept.version, dropped.version, hex::encode(&named[..16]));
    Key::new(&CONFLICT_EVENT, &id).map_err(|error| StoreError::Other(error.to_string()))
}
