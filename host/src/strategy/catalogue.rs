//! The versions of every strategy, by digest, kept in the durable store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;

use crate::engine::Digest;
use crate::store::kind::{STRATEGY_STATE, STRATEGY_VERSION};
use crate::store::{Backend, Clock, Expect, Fields, Key, Record, Result, Store, StoreError, Version, Write};

/// How many versions the catalogue holds. One more is refused until an old one is deleted.
pub const MAX_VERSIONS: usize = 200;

/// How often, and how long, a write waits for this node to follow the others into their epoch.
const FOLLOWING: usize = 8;
const FOLLOWS_WITHIN: Duration = Duration::from_millis(100);

/// The strategies that come with the host, by name.
pub static BUILT_IN: [(&str, &[u8]); 5] = [
    ("dual_write", include_bytes!(concat!(env!("OUT_DIR"), "/dual_write.wasm"))),
    ("cache_first", include_bytes!(concat!(env!("OUT_DIR"), "/cache_first.wasm"))),
    ("database_first", include_bytes!(concat!(env!("OUT_DIR"), "/database_first.wasm"))),
    ("redis_only", include_bytes!(concat!(env!("OUT_DIR"), "/redis_only.wasm"))),
    ("postgres_only", include_bytes!(concat!(env!("OUT_DIR"), "/postgres_only.wasm"))),
];

/// One version of a strategy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct StrategyVersion {
    pub name: String,
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Bytes of the component.
    pub size: usize,
    /// Milliseconds since 1970; 0 for a built-in version.
    pub uploaded_at: i64,
    pub uploaded_by: String,
}

/// What an admin chose last, and what before it, so that both survive a restart. What is in force may be
/// another strategy, while a store is lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct ActiveState {
    /// Rises with each choice, on all nodes. A node's own generations are never below it once it follows.
    pub generation: u64,
    pub name: String,
    pub digest: String,
    pub previous: Option<(String, String)>,
    /// Nothing but an admin changes what is in force.
    #[serde(default)]
    pub pinned: bool,
}

impl ActiveState {
    /// Whether this was chosen after the other. Of two choices made at once every node prefers the same one.
    pub fn is_after(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }

    fn rank(&self) -> (u64, &str, &str, bool) {
        (self.generation, &self.name, &self.digest, self.pinned)
    }

    /// Whether it is this version of this strategy.
    pub fn is(&self, name: &str, digest: &Digest) -> bool {
        self.name == name && self.digest == digest.to_string()
    }
}

/// The catalogue in the durable store. Every call is one of that store's calls and can fail as they do.
///
/// Components are also kept in a folder, by digest: a start does not wait for the durable store.
pub struct Catalogue {
    store: Arc<dyn Backend>,
    clock: Arc<Clock>,
    folder: PathBuf,
}

impl Catalogue {
    pub fn new(store: Arc<dyn Backend>, clock: Arc<Clock>, folder: PathBuf) -> Self {
        Self { store, clock, folder }
    }

    /// All versions: the built-in ones, then the uploaded ones from old to new, by name.
    pub async fn versions(&self) -> Result<BTreeMap<String, Vec<StrategyVersion>>> {
        let mut versions: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for (name, bytes) in BUILT_IN {
            versions.entry(name.into()).or_default().push(built_in(name, bytes));
        }
        let uploaded = self.store.scan(&STRATEGY_VERSION, None, MAX_VERSIONS as u32).await?.records;
        let mut uploaded: Vec<_> = uploaded.iter().filter_map(|record| version_of(record)).collect();
        uploaded.sort_by_key(|version| version.uploaded_at);
        for version in uploaded {
            let of_name = versions.entry(version.name.clone()).or_default();
            if !of_name.iter().any(|known| known.digest == version.digest) {
                of_name.push(version);
            }
        }
        Ok(versions)
    }

    /// The component of a version.
    pub async fn component(&self, digest: &Digest) -> Result<Option<Bytes>> {
        if let Some((_, bytes)) = BUILT_IN.iter().find(|(_, bytes)| Digest::of(bytes) == *digest) {
            return Ok(Some(Bytes::from_static(bytes)));
        }
        if let Ok(bytes) = tokio::fs::read(self.path(digest)).await
            && Digest::of(&bytes) == *digest
        {
            return Ok(Some(bytes.into()));
        }
        let stored = self.store.get(&component_key(digest)?).await?.filter(|record| !record.deleted);
        let Some(encoded) = stored.as_ref().and_then(|record| record.fields.get("component")) else {
            return Ok(None);
        };
        let bytes = STANDARD.decode(encoded).map_err(|_| StoreError::Other("a damaged component".into()))?;
        match Digest::of(&bytes) == *digest {
            true => {
                self.keep_copy(digest, &bytes).await;
                Ok(Some(bytes.into()))
            }
            false => Err(StoreError::Other("a component that does not match its digest".into())),
        }
    }

    /// Keeps a version: first its bytes, then its name.
    pub async fn add(&self, version: &StrategyVersion, bytes: &[u8]) -> Result<()> {
        let component = Fields::from([("component".to_owned(), STANDARD.encode(bytes))]);
        self.write(component_key(&version.digest)?, component, false).await?;
        self.keep_copy(&version.digest, bytes).await;
        let fields = Fields::from([
            ("name".to_owned(), version.name.clone()),
            ("digest".to_owned(), version.digest.to_string()),
            ("size".to_owned(), version.size.to_string()),
            ("uploaded_at".to_owned(), version.uploaded_at.to_string()),
            ("uploaded_by".to_owned(), version.uploaded_by.clone()),
        ]);
        self.write(version_key(&version.name, &version.digest)?, fields, false).await
    }

    /// Forgets a version; its bytes too, unless another name has them.
    pub async fn remove(&self, name: &str, digest: &Digest) -> Result<()> {
        self.write(version_key(name, digest)?, Fields::new(), true).await?;
        let versions = self.versions().await?;
        if !versions.values().flatten().any(|version| version.digest == *digest) {
            self.write(component_key(digest)?, Fields::new(), true).await?;
            // A copy that stays costs disk only.
            let _ = tokio::fs::remove_file(self.path(digest)).await;
        }
        Ok(())
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }

    async fn keep_copy(&self, digest: &Digest, bytes: &[u8]) {
        let path = self.path(digest);
        let draft = path.with_extension("new");
        let written = async {
            tokio::fs::create_dir_all(&self.folder).await?;
            tokio::fs::write(&draft, bytes).await?;
            tokio::fs::rename(&draft, &path).await
        };
        if let Err(error) = written.await {
            tracing::warn!(%error, path = %path.display(), "no copy of the component in the data folder");
        }
    }

    pub async fn active(&self) -> Result<Option<ActiveState>> {
        let record = self.store.get(&active_key()?).await?;
        Ok(record.as_deref().and_then(state_of))
    }

    /// Keeps a choice in place of an earlier one. `Conflict` when a later one is kept, or another one came
    /// in between: several nodes may choose at once.
    pub async fn set_active(&self, state: &ActiveState) -> Result<()> {
        let json = serde_json::to_string(state).map_err(|error| StoreError::Other(error.to_string()))?;
        let held = self.store.get(&active_key()?).await?;
        let expect = match &held {
            Some(held) if state_of(held).is_some_and(|held| held.is_after(state)) => {
                return Err(StoreError::Conflict(held.version));
            }
            Some(held) => Expect::AtMost(held.version),
            None => Expect::Absent,
        };
        let version = held.map_or(0, |held| held.version);
        self.put(active_key()?, Fields::from([("state".to_owned(), json)]), false, version, expect).await
    }

    pub(super) async fn write(&self, key: Key, fields: Fields, deleted: bool) -> Result<()> {
        let first = self.put(key.clone(), fields.clone(), deleted, 0, Expect::Anything).await;
        match first {
            // Another node's clock was ahead.
            Err(StoreError::Conflict(held)) => self.put(key, fields, deleted, held, Expect::Anything).await,
            done => done,
        }
    }

    /// Removes a record of this store.
    ///
    /// # Errors
    /// `Conflict` when it has changed since it was read.
    pub(super) async fn forget(&self, seen: &Record) -> Result<()> {
        let (key, held) = (seen.key.clone(), seen.version);
        self.put(key, Fields::new(), true, held, Expect::AtMost(held)).await
    }

    async fn put(
        &self,
        key: Key,
        fields: Fields,
        deleted: bool,
        held: Version,
        expect: Expect,
    ) -> Result<()> {
        self.clock.check()?;
        let version = self.clock.after(held);
        let record = Record { key, version, deleted, fields, expires_at: None, cached_at: None };
        let mut write = Write::new(Arc::new(record), expect);
        // There is no other store that it could be owed to.
        write.mark = crate::store::Mark::Clean;
        for _ in 0..FOLLOWING {
            match self.store.put(&write).await {
                // This node is about to follow the others into their epoch.
                Err(StoreError::Fenced(_)) => tokio::time::sleep(FOLLOWS_WITHIN).await,
                done => return done,
            }
        }
        self.store.put(&write).await
    }

    pub(super) fn store(&self) -> &dyn Store {
        &*self.store
    }
}

fn built_in(name: &str, bytes: &[u8]) -> StrategyVersion {
    let digest = Digest::of(bytes);
    let uploaded_by = "built-in".into();
    StrategyVersion { name: name.into(), digest, size: bytes.len(), uploaded_at: 0, uploaded_by }
}

fn state_of(record: &Record) -> Option<ActiveState> {
    serde_json::from_str(record.fields.get("state")?).ok()
}

fn version_of(record: &Record) -> Option<StrategyVersion> {
    let field = |name: &str| record.fields.get(name);
    Some(StrategyVersion {
        name: field("name")?.clone(),
        digest: Digest::parse(field("digest")?)?,
        size: field("size")?.parse().ok()?,
        uploaded_at: field("uploaded_at")?.parse().ok()?,
        uploaded_by: field("uploaded_by")?.clone(),
    })
}

fn invalid(error: crate::store::InvalidKey) -> StoreError {
    StoreError::Unsupported(error.to_string())
}

fn version_key(name: &str, digest: &Digest) -> Result<Key> {
    Key::new(&STRATEGY_VERSION, &format!("{name}@{digest}")).map_err(invalid)
}

fn component_key(digest: &Digest) -> Result<Key> {
    Key::new(&STRATEGY_STATE, &format!("component.{digest}")).map_err(invalid)
}

fn active_key() -> Result<Key> {
    Key::new(&STRATEGY_STATE, "active").map_err(invalid)
}
