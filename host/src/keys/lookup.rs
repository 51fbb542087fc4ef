//! From what a client presents to its key.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ApiKey, Keys, Refusal};
use crate::store::kind::{API_KEY, SESSION};
use crate::store::{Fields, Key, StoreError};

/// How long a presented key may be, in bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 10..=512;
/// The field that lists the keys that were replaced and have their grace.
pub(super) const PREVIOUS: &str = "previousKeys";

/// When the graces end, as an admin sees it; kept nowhere.
pub(super) const UNTIL: &str = "previousKeysUntil";

/// A key that was replaced, by its hash, and until when it still lets in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Previous {
    pub(super) hash: String,
    pub(super) until: Timestamp,
}

/// Those of a record whose grace has not ended.
pub(super) fn previous(fields: &Fields, now: Timestamp) -> Vec<Previous> {
    listed(fields).into_iter().filter(|previous| now < previous.until).collect()
}

/// All of a record, ended or not.
pub(super) fn listed(fields: &Fields) -> Vec<Previous> {
    let listed = fields.get(PREVIOUS).and_then(|json| serde_json::from_str(json).ok());
    listed.unwrap_or_default()
}

/// The record that leads from the hash of a replaced key to the key in its place. It has no say: the key's own
/// record decides whether the grace holds.
pub(super) fn signpost(hash: &str) -> Result<Key, StoreError> {
    Key::new(&SESSION, &format!("grace.{hash}")).map_err(|error| StoreError::Unsupported(error.to_string()))
}

impl Keys {
    /// The key that a client presents, if it lets anybody in now. One read through the strategy, which a copy
    /// nearby answers when the key was used lately; the first use of a key may write.
    ///
    /// # Errors
    /// Why not, in a sentence for the person in front of the client.
    pub async fn authenticate(&self, presented: &str) -> Result<ApiKey, Refusal> {
        if presented.is_empty() {
            return Err(Refusal::Missing);
        }
        let is_legible = presented.bytes().all(|byte| byte.is_ascii_graphic());
        if !LENGTHS.contains(&presented.len()) || !is_legible {
            return Err(Refusal::Malformed);
        }
        let key = match self.current(presented).await? {
            Some(key) => key,
            None => self.replaced(presented).await?.ok_or(Refusal::Unknown)?,
        };
        key.check(Timestamp::now())?;
        if key.awaits_activation() { self.activate(key).await } else { Ok(key) }
    }

    /// By the index of hashes.
    async fn current(&self, presented: &str) -> Result<Option<ApiKey>, Refusal> {
        for (age, hash) in self.hashes.all(presented).enumerate() {
            let found = self.records.find(&API_KEY, "hash", &hash).await.map_err(Refusal::Store)?;
            let Some(record) = found.value else { continue };
            let key = ApiKey::new(record);
            if age > 0 {
                self.upgrade(&key, hash, self.hashes.newest(presented));
            }
            return Ok(Some(key));
        }
        Ok(None)
    }

    /// By the signposts of keys that were replaced.
    async fn replaced(&self, presented: &str) -> Result<Option<ApiKey>, Refusal> {
        for hash in self.hashes.all(presented) {
            let at = signpost(&hash).map_err(Refusal::Store)?;
            let Some(signpost) = self.records.get(&at).await.map_err(Refusal::Store)?.value else { continue };
            let id = signpost.fields.get("keyId").and_then(|id| Key::new(&API_KEY, id).ok());
            let Some(id) = id else { continue };
            let key = self.records.get(&id).await.map_err(Refusal::Store)?.value;
            let has_grace =
                |fields: &Fields| previous(fields, Timestamp::now()).iter().any(|p| p.hash == hash);
            if let Some(record) = key.filter(|record| has_grace(&record.fields)) {
                return Ok(Some(ApiKey::new(record)));
            }
        }
        Ok(None)
    }
}
