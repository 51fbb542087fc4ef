//! What two nodes wrote of one record while each saw only one of the stores. The greater version is kept; the other
//! one is listed, so that a person can look at it. The last thousand, in the durable store.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tracing::warn;

use crate::store::clock::now_ms;
use crate::store::kind::CONFLICT_EVENT;
use crate::store::side::{Side, Which};
use crate::store::{Backend, Fields, Key, Record, Result, StoreError, Version, Write, secret};
use crate::telemetry::Metrics;

/// Two versions younger than this may be one write on its way into both stores. They wait for so long: a revocation that
/// one store alone has must hold everywhere within a second.
const SETTLED: Duration = Duration::from_millis(400);
/// How many young pairs are remembered. Others wait until they are old.
const MOST_YOUNG: usize = 10_000;
/// How many conflicts are kept.
const KEPT: usize = 1_000;
/// How many are read at once, and how many are looked at: more than there are while the oldest are being forgotten.
const PAGE: u32 = 250;
const LOOKED_AT: usize = 20_000;
/// How many are forgotten after a batch of the drain, which finds fewer, and how many at once.
const FORGOTTEN: usize = 2_000;
const AT_ONCE: usize = 16;

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

/// A page of the conflicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// How many there are.
    pub total: usize,
    /// The greatest version kept first.
    pub conflicts: Vec<Conflict>,
    /// Where the next page begins; none after the last.
    pub next: Option<String>,
}

/// The conflicts that were found, by whichever node.
pub struct Conflicts {
    durable: Arc<dyn Backend>,
    found: Counter,
    /// Pairs that may be one write on its way: the smaller version, and since when it was seen beside a greater one.
    young: Mutex<HashMap<Key, (Version, Instant)>>,
}

impl Conflicts {
    pub fn new(durable: Arc<dyn Backend>, metrics: &Metrics) -> Self {
        let found = Counter::default();
        let help = "Records of which two versions were written without each other.";
        metrics.register("conflicts", help, found.clone());
        Self { durable, found, young: Mutex::default() }
    }

    /// Notes which of these marked records of two stores contradict each other. To be called before either is
    /// overwritten; repeating it changes nothing. Answers which records must not be overwritten yet, with the smaller
    /// version: it is not known before they have settled.
    ///
    /// # Errors
    /// When a conflict could not be kept durably: nothing of it may be overwritten then.
    pub async fn note(
        &self,
        (which, ours): (Which, &[Arc<Record>]),
        (other, theirs): (Which, &[Arc<Record>]),
    ) -> Result<HashMap<Key, Version>> {
        let mut unsettled = HashMap::new();
        if theirs.is_empty() {
            return Ok(unsettled);
        }
        let theirs: HashMap<&Key, &Arc<Record>> = theirs.iter().map(|record| (&record.key, record)).collect();
        let mut any = false;
        for record in ours {
            let Some(their) = theirs.get(&record.key).filter(|their| their.version != record.version) else {
                continue;
            };
            let (our, their) = ((which, &**record), (other, &***their));
            let (kept, dropped) = if our.1.version > their.1.version { (our, their) } else { (their, our) };
            if self.is_settled(kept.1, dropped.1.version) {
                self.keep(kept, dropped).await?;
                any = true;
            } else {
                unsettled.insert(record.key.clone(), dropped.1.version);
            }
        }
        if any {
            self.forget_oldest().await?;
        }
        Ok(unsettled)
    }

    /// As [`Self::note`], for records of one store that are about to be copied over what the other one holds.
    ///
    /// # Errors
    /// As [`Self::note`], or when a store cannot be reached: nothing may be copied then.
    pub async fn before_copies(
        &self,
        from: &Side,
        to: &Side,
        records: &[Arc<Record>],
    ) -> Result<HashSet<Key>> {
        let keys: Vec<_> = records.iter().map(|record| record.key.clone()).collect();
        let theirs = if keys.is_empty() { Vec::new() } else { to.backend.marked(&keys).await? };
        if theirs.is_empty() {
            return Ok(HashSet::new());
        }
        let contested: Vec<_> = theirs.iter().map(|record| record.key.clone()).collect();
        let ours = from.backend.marked(&contested).await?;
        let unsettled = self.note((from.which, &ours), (to.which, &theirs)).await?;
        Ok(unsettled.into_keys().collect())
    }

    /// Whether these two cannot be writes on their way into both stores: both are old, or the smaller one has stayed
    /// where it is although a greater one was in the other store all the while.
    fn is_settled(&self, kept: &Record, dropped: Version) -> bool {
        let (now, mut young) = (Instant::now(), self.young.lock());
        if kept.version < (now_ms() as u64).saturating_sub(SETTLED.as_millis() as u64) * 1_000 {
            young.remove(&kept.key);
            return true;
        }
        if young.len() >= MOST_YOUNG {
            young.retain(|_, (_, since)| now - *since < 2 * SETTLED);
        }
        if young.len() >= MOST_YOUNG && !young.contains_key(&kept.key) {
            return false;
        }
        let seen = young.entry(kept.key.clone()).or_insert((dropped, now));
        if seen.0 != dropped {
            *seen = (dropped, now);
        }
        now - seen.1 >= SETTLED
    }

    /// A page of at most `limit`, after the one that has answered this as `next`.
    ///
    /// # Errors
    /// When the durable store does not answer.
    pub async fn list(&self, cursor: Option<&str>, limit: usize) -> Result<Listed> {
        let (mut last, mut total) = (VecDeque::new(), 0);
        let mut before = 0;
        self.each(|record| {
            total += 1;
            if cursor.is_none_or(|cursor| *record.key.id < *cursor) {
                before += 1;
                last.push_back(record);
            }
            if last.len() > limit {
                last.pop_front();
            }
        })
        .await?;
        let parse = |record: &Arc<Record>| serde_json::from_str(record.fields.get("conflict")?).ok();
        let next = last.front().filter(|_| before > limit).map(|record| record.key.id.to_string());
        Ok(Listed { total, conflicts: last.iter().rev().filter_map(parse).collect(), next })
    }

    /// Goes through all of them. Ids begin with the version kept: the first ones are the oldest.
    async fn each(&self, mut with: impl FnMut(Arc<Record>)) -> Result<()> {
        let (mut cursor, mut seen) = (None::<String>, 0);
        while seen < LOOKED_AT {
            let page = self.durable.scan(&CONFLICT_EVENT, cursor.as_deref(), PAGE).await?;
            seen += page.records.len();
            page.records.into_iter().for_each(&mut with);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        Ok(())
    }

    async fn keep(&self, kept: (Which, &Record), dropped: (Which, &Record)) -> Result<()> {
        let id = id(kept.1, dropped.1)?;
        if self.durable.get(&id).await?.is_some() {
            return Ok(());
        }
        let shown = |(name, value): (&String, &String)| {
            (name.clone(), secret::shown(&dropped.1.key, name, value).into_owned())
        };
        let conflict = Conflict {
            key: kept.1.key.to_string(),
            at: now_ms(),
            kept: Kept { store: kept.0.name().into(), version: kept.1.version, deleted: kept.1.deleted },
            dropped: Dropped {
                store: dropped.0.name().into(),
                version: dropped.1.version,
                deleted: dropped.1.deleted,
                fields: dropped.1.fields.iter().map(shown).collect(),
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

    async fn forget_oldest(&self) -> Result<()> {
        let mut keys = Vec::new();
        self.each(|record| keys.push(record.key.clone())).await?;
        let too_many = keys.len().saturating_sub(KEPT).min(FORGOTTEN);
        let forgotten = keys.into_iter().take(too_many).map(|key| self.write(key, Fields::new(), true));
        stream::iter(forgotten).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await.map(drop)
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
