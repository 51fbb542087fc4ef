//! Groups of accounts: a key that is bound to one is served by its members alone.
//!
//! Claude Relay Service keeps the members beside the group, in a set; here they are the field `memberIds`, so that
//! a group is one record in every store. Its sets are taken in with the groups.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::draft::{checked_name, checked_text};
use super::edit::{EditError, Listed};
use super::{Accounts, GROUP};
use crate::store::kind::{ACCOUNT, ACCOUNT_GROUP};
use crate::store::{Expect, Fields, Key, Record};
use crate::strategy::records::Change;

/// The field that holds the members: a JSON array of ids.
const MEMBERS: &str = "memberIds";
/// The most members of a group.
const MOST: usize = 1_000;
/// How often a change is tried that others come before.
const ATTEMPTS: usize = 4;

/// What is to be of a group. What is absent stays as it is.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupDraft {
    name: Option<String>,
    description: Option<String>,
    /// `claude`, the only one there is here.
    platform: Option<String>,
    member_ids: Option<Vec<String>>,
}

/// A group as people see it.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = AccountGroup)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    id: String,
    name: Option<String>,
    description: Option<String>,
    platform: Option<String>,
    member_ids: Vec<String>,
    member_count: usize,
    created_at: Option<String>,
    updated_at: Option<String>,
    version: u64,
}

/// The id of a group and those of its members. A list that cannot be read has none.
pub(super) fn members(record: &Record) -> (Arc<str>, Vec<String>) {
    let listed = record.fields.get(MEMBERS).and_then(|list| serde_json::from_str(list).ok());
    (record.key.id.clone(), listed.unwrap_or_default())
}

impl Accounts {
    /// The groups in order of id, and after which one it goes on if there are very many.
    ///
    /// # Errors
    /// When the stores do not answer; `Invalid` for what names no group.
    pub async fn groups(&self, after: Option<&str>) -> Result<Listed<Group>, EditError> {
        self.listed(&ACCOUNT_GROUP, after, view).await
    }

    /// # Errors
    /// `NotFound`, or when the stores do not answer.
    pub async fn group(&self, id: &str) -> Result<Group, EditError> {
        let key = Key::new(&ACCOUNT_GROUP, id).map_err(|_| EditError::NotFound)?;
        self.live(&key).await.map(|record| view(&record))
    }

    /// Whether there is what a key may be bound to: the account of an id, or the group of `group:` and an id.
    ///
    /// # Errors
    /// When the stores do not answer.
    pub async fn has(&self, bound: &str) -> Result<bool, EditError> {
        let found = match bound.strip_prefix(GROUP) {
            Some(group) => self.group(group).await.map(drop),
            None => self.get(bound).await.map(drop),
        };
        match found {
            Ok(()) => Ok(true),
            Err(EditError::NotFound | EditError::Invalid { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// # Errors
    /// `Invalid` names the field.
    pub async fn create_group(&self, draft: GroupDraft) -> Result<Group, EditError> {
        if draft.name.is_none() {
            return Err(EditError::invalid("name", "is missing"));
        }
        let id = Uuid::now_v7().to_string();
        let key =
            Key::new(&ACCOUNT_GROUP, &id).map_err(|error| EditError::invalid("id", error.to_string()))?;
        let now = Timestamp::now().to_string();
        let fixed = [("id", id), ("platform", "claude".into()), ("createdAt", now), (MEMBERS, "[]".into())];
        let mut fields: Fields = fixed.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        draft.apply(&mut fields)?;
        self.write(&key, fields, Expect::Absent, None).await.map(|record| view(&record))
    }

    /// # Errors
    /// `NotFound`; `Invalid` names the field.
    pub async fn update_group(&self, id: &str, draft: GroupDraft) -> Result<Group, EditError> {
        let key = Key::new(&ACCOUNT_GROUP, id).map_err(|_| EditError::NotFound)?;
        for _ in 0..ATTEMPTS {
            let record = self.live(&key).await?;
            let mut fields = record.fields.clone();
            draft.apply(&mut fields)?;
            match self.write(&key, fields, Expect::AtMost(record.version), record.expires_at).await {
                Err(EditError::Conflict) => {}
                answer => return answer.map(|record| view(&record)),
            }
        }
        Err(EditError::Conflict)
    }

    /// # Errors
    /// `NotFound`; `NotEmpty` while it has members.
    pub async fn delete_group(&self, id: &str) -> Result<(), EditError> {
        let key = Key::new(&ACCOUNT_GROUP, id).map_err(|_| EditError::NotFound)?;
        let record = self.live(&key).await?;
        if !members(&record).1.is_empty() {
            return Err(EditError::NotEmpty);
        }
        let deleted = self.records.put(&key, Change::delete(), Expect::AtMost(record.version)).await;
        deleted?;
        self.snapshots.changed();
        Ok(())
    }
}

impl GroupDraft {
    fn apply(&self, fields: &mut Fields) -> Result<(), EditError> {
        if let Some(name) = &self.name {
            fields.insert("name".into(), checked_name(name)?);
        }
        if let Some(description) = &self.description {
            fields.insert("description".into(), checked_text("description", description)?);
        }
        if self.platform.as_deref().is_some_and(|platform| platform != "claude") {
            return Err(EditError::invalid("platform", "is claude"));
        }
        if let Some(ids) = &self.member_ids {
            if ids.len() > MOST || ids.iter().any(|id| Key::new(&ACCOUNT, id).is_err()) {
                return Err(EditError::invalid(
                    "memberIds",
                    format!("is a list of at most {MOST} ids of accounts"),
                ));
            }
            fields.insert(MEMBERS.into(), json!(ids).to_string());
        }
        fields.insert("updatedAt".into(), Timestamp::now().to_string());
        Ok(())
    }
}

fn view(record: &Record) -> Group {
    let (id, member_ids) = members(record);
    let field = |name: &str| record.fields.get(name).cloned();
    Group {
        id: id.to_string(),
        name: field("name"),
        description: field("description"),
        platform: field("platform"),
        member_count: member_ids.len(),
        member_ids,
        created_at: field("createdAt"),
        updated_at: field("updatedAt"),
        version: record.version,
    }
}
