//! What an admin does with accounts. Credentials go in and never come out.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

pub use super::draft::Draft;
use super::handing::{self, NotGiven};
use super::seal::SealError;
use super::{Accounts, status, view};
use crate::store::kind::ACCOUNT;
use crate::store::{Expect, Fields, Key, Kind, MAX_PAGE, Page, Record, StoreError};
use crate::strategy::records::Change;

/// How often a change is tried that others come before.
const ATTEMPTS: usize = 4;
/// The most records of a kind that are listed at once.
const MOST: usize = 10_000;
/// What Claude Relay Service sets while it thinks that an account is not well.
const TEMPORARY: [&str; 12] = [
    "errorMessage",
    "rateLimitedAt",
    "rateLimitStatus",
    "rateLimitAutoStopped",
    "overloadedAt",
    "overloadStatus",
    "blockedAt",
    "blockedStatus",
    "blockedAutoStopped",
    "unauthorizedAt",
    "quotaStoppedAt",
    "quotaAutoStopped",
];

/// Some of a kind, and after which id it goes on if there are more.
pub type Listed<T> = (Vec<T>, Option<String>);

/// Why an account or a group was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    #[error("there is none of this id")]
    NotFound,
    #[error("{field} {why}")]
    Invalid { field: &'static str, why: String },
    #[error("it was changed several times meanwhile; read it again and repeat")]
    Conflict,
    #[error("it still has members; remove them first")]
    NotEmpty,
    #[error("sealing: {0}")]
    Seal(#[from] SealError),
    #[error(transparent)]
    NotGiven(#[from] NotGiven),
    #[error(transparent)]
    Store(StoreError),
}

impl EditError {
    pub(super) fn invalid(field: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid { field, why: why.into() }
    }
}

impl From<StoreError> for EditError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(_) => Self::Conflict,
            error => Self::Store(error),
        }
    }
}

impl Accounts {
    /// The accounts in order of id, as people may see them, and after which one it goes on if there are very many.
    ///
    /// # Errors
    /// When the stores do not answer; `Invalid` for what names no account.
    pub async fn list(&self, after: Option<&str>) -> Result<Listed<Value>, EditError> {
        self.listed(&ACCOUNT, after, |record| self.view(record)).await
    }

    /// # Errors
    /// `NotFound`, or when the stores do not answer.
    pub async fn get(&self, id: &str) -> Result<Value, EditError> {
        self.live(&key_of(id)?).await.map(|record| self.view(&record))
    }

    /// # Errors
    /// `Invalid` names the field.
    pub async fn create(&self, draft: Draft) -> Result<Value, EditError> {
        draft.check_complete()?;
        let id = Uuid::now_v7().to_string();
        let key = key_of(&id)?;
        let fixed = [
            ("id", id.as_str()),
            ("platform", "claude-console"),
            ("description", ""),
            ("priority", "50"),
            ("supportedModels", "{}"),
            ("proxy", ""),
            ("isActive", "true"),
            ("schedulable", "true"),
            ("accountType", "shared"),
            ("status", "active"),
            ("createdAt", &Timestamp::now().to_string()),
        ];
        let mut fields = fixed.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
        draft.apply(&key, &self.seals, &mut fields)?;
        self.write(&key, fields, Expect::Absent, None).await.map(|record| self.view(&record))
    }

    /// # Errors
    /// `NotFound`; `Invalid` names the field.
    pub async fn update(&self, id: &str, draft: Draft) -> Result<Value, EditError> {
        self.change(id, |key, fields| draft.apply(key, &self.seals, fields)).await
    }

    /// Forgets that it was not well, on every node: it is asked again at once.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn reset_status(&self, id: &str) -> Result<Value, EditError> {
        let reset = |_: &Key, fields: &mut Fields| {
            for stopped in ["rateLimitAutoStopped", "blockedAutoStopped", "quotaAutoStopped"] {
                if fields.get(stopped).is_some_and(|stopped| stopped == "true") {
                    fields.insert("isActive".into(), "true".into());
                    fields.insert("schedulable".into(), "true".into());
                }
            }
            for name in TEMPORARY.into_iter().chain([status::STATUS, status::UNTIL]) {
                fields.remove(name);
            }
            fields.insert("status".into(), "active".into());
            fields.insert("statusResetAt".into(), Timestamp::now().to_string());
            Ok(())
        };
        if let Some(account) = self.snapshots.last(id) {
            account.health.reset();
        }
        self.change(id, reset).await
    }

    /// # Errors
    /// `NotFound`.
    pub async fn delete(&self, id: &str) -> Result<(), EditError> {
        let key = key_of(id)?;
        self.live(&key).await?;
        let deleted = self.records.put(&key, Change::delete(), Expect::Anything).await;
        self.snapshots.changed();
        deleted.map(drop).map_err(EditError::from)
    }

    async fn change(
        &self,
        id: &str,
        edit: impl Fn(&Key, &mut Fields) -> Result<(), EditError>,
    ) -> Result<Value, EditError> {
        let key = key_of(id)?;
        for _ in 0..ATTEMPTS {
            let record = self.live(&key).await?;
            let mut fields = record.fields.clone();
            edit(&key, &mut fields)?;
            fields.insert("updatedAt".into(), Timestamp::now().to_string());
            match self.write(&key, fields, Expect::AtMost(record.version), record.expires_at).await {
                Err(EditError::Conflict) => {}
                answer => return answer.map(|record| self.view(&record)),
            }
        }
        Err(EditError::Conflict)
    }

    pub(super) async fn live(&self, key: &Key) -> Result<Arc<Record>, EditError> {
        self.records.get(key).await?.value.ok_or(EditError::NotFound)
    }

    /// Leaves nothing in plain text.
    pub(super) async fn write(
        &self,
        key: &Key,
        mut fields: Fields,
        expect: Expect,
        expires_at: Option<i64>,
    ) -> Result<Record, EditError> {
        handing::seal_plain(key, &self.seals, &mut fields)?;
        self.put(key, fields, expect, expires_at).await
    }

    pub(super) async fn put(
        &self,
        key: &Key,
        fields: Fields,
        expect: Expect,
        expires_at: Option<i64>,
    ) -> Result<Record, EditError> {
        let change = Change { fields: fields.clone(), deleted: false, expires_at };
        let written = self.records.put(key, change, expect).await;
        // Also when it may have happened.
        self.snapshots.changed();
        let version = written?.value;
        Ok(Record { key: key.clone(), version, deleted: false, fields, expires_at, cached_at: None })
    }

    pub(super) async fn listed<T>(
        &self,
        kind: &'static Kind,
        after: Option<&str>,
        view: impl Fn(&Record) -> T,
    ) -> Result<Listed<T>, EditError> {
        if after.is_some_and(|after| Key::new(kind, after).is_err()) {
            return Err(EditError::invalid("cursor", "is none that `next` has named"));
        }
        let (mut views, mut next) = (Vec::new(), after.map(str::to_owned));
        while views.len() < MOST {
            let page = self.page(kind, next.as_deref()).await?;
            views.extend(page.records.iter().map(|record| view(record)));
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        Ok((views, next))
    }

    pub(super) async fn page(&self, kind: &'static Kind, after: Option<&str>) -> Result<Page, EditError> {
        Ok(self.records.scan(kind, after, MAX_PAGE).await?.value)
    }

    fn view(&self, record: &Record) -> Value {
        view::of(record, &self.seals, self.snapshots.last(&record.key.id).as_deref())
    }
}

pub(super) fn key_of(id: &str) -> Result<Key, EditError> {
    Key::new(&ACCOUNT, id).map_err(|_| EditError::NotFound)
}
