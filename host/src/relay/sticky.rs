//! Which account a conversation stays with, so that its prompt is found in that account's cache.
//!
//! Kept as records of the kind `session`, so that all nodes and the next start know; known conversations are
//! remembered here, so that a request asks no store. It is a preference: nothing fails for want of it.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::debug;

use crate::store::clock::now_ms;
use crate::store::kind::SESSION;
use crate::store::{Expect, Fields, Key};
use crate::strategy::records::{Change, Records};

/// Conversations that are remembered here.
const KNOWN: usize = 16_384;
/// How long what is remembered is not held against the record, which another node may have changed: that costs the
/// conversation its cached prompt.
const TRUSTED: Duration = Duration::from_secs(3);
/// Conversations that are being written down at a time. One that finds no room is written at its next request.
const WRITING: usize = 64;
const ACCOUNT: &str = "accountId";

#[derive(Clone)]
struct Held {
    account: Arc<str>,
    /// Milliseconds since 1970.
    until: i64,
    /// When the record was read or written last.
    seen: Instant,
}

pub(super) struct Sticky {
    records: Arc<Records>,
    known: Cache<Arc<str>, Held>,
    writing: Arc<Semaphore>,
    /// How long after its last request a conversation is forgotten.
    lasts: Duration,
}

/// The record of a conversation of a key.
pub(super) fn id(key_id: &str, session: &str) -> Arc<str> {
    let hash = Sha256::new().chain_update(key_id).chain_update([0]).chain_update(session).finalize();
    format!("sticky.{}", hex::encode(&hash[..16])).into()
}

impl Sticky {
    pub(super) fn new(records: Arc<Records>, lasts: Duration) -> Self {
        Self { records, known: Cache::new(KNOWN), writing: Arc::new(Semaphore::new(WRITING)), lasts }
    }

    /// The account that the conversation was last with; none when there is none, or no store says so now.
    pub(super) async fn account(&self, id: &Arc<str>) -> Option<Arc<str>> {
        let held = self.known.get(id).filter(|held| held.until > now_ms());
        match held {
            Some(held) if held.seen.elapsed() < TRUSTED => Some(held.account),
            held => self.read(id).await.or_else(|| self.remembered(id, held?)),
        }
    }

    /// What is remembered of a conversation whose record is not there, or cannot be read now.
    fn remembered(&self, id: &Arc<str>, held: Held) -> Option<Arc<str>> {
        self.known.insert(id.clone(), Held { seen: Instant::now(), ..held.clone() });
        Some(held.account)
    }

    async fn read(&self, id: &Arc<str>) -> Option<Arc<str>> {
        let key = Key::new(&SESSION, id).ok()?;
        let record = self.records.get(&key).await.ok()?.value?;
        let account: Arc<str> = record.fields.get(ACCOUNT)?.as_str().into();
        let until = record.expires_at.unwrap_or_else(|| now_ms() + self.millis());
        self.known.insert(id.clone(), Held { account: account.clone(), until, seen: Instant::now() });
        Some(account)
    }

    /// Notes where the conversation is now. Written behind the answer, and not at all when it is known and has
    /// more than half of its time left.
    pub(super) fn keep(&self, id: &Arc<str>, account: &str) {
        let now = now_ms();
        let known = self.known.get(id);
        if known.is_some_and(|held| *held.account == *account && held.until - now > self.millis() / 2) {
            return;
        }
        let Ok(permit) = self.writing.clone().try_acquire_owned() else { return };
        let (until, records) = (now + self.millis(), self.records.clone());
        self.known.insert(id.clone(), Held { account: account.into(), until, seen: Instant::now() });
        let Ok(key) = Key::new(&SESSION, id) else { return };
        let fields = Fields::from([(ACCOUNT.to_owned(), account.to_owned())]);
        tokio::spawn(async move {
            let change = Change { fields, deleted: false, expires_at: Some(until) };
            if let Err(error) = records.put(&key, change, Expect::Anything).await {
                debug!(%error, "a conversation's account is not written down");
            }
            drop(permit);
        });
    }

    fn millis(&self) -> i64 {
        self.lasts.as_millis().min(i64::MAX as u128) as i64
    }
}
