//! What keys are bound to, and whether anything that is taken over will serve them.

use std::collections::HashMap;

use super::Looking;
use crate::store::kind::ACCOUNT_GROUP;
use crate::store::redis::layout;
use crate::store::{Fields, Result};

/// What a group is named by where an account could stand.
const GROUP: &str = "group:";

/// What was seen of bindings so far.
#[derive(Default)]
pub(super) struct Bound {
    /// The key, and the id of an account.
    to_accounts: Vec<(String, String)>,
    /// The key, and the id of a group.
    to_groups: Vec<(String, String)>,
    /// The members of each group.
    groups: HashMap<String, Vec<String>>,
}

impl Bound {
    /// A Claude Console account decides before one of Claude's own, as when a key is served.
    pub(super) fn key(&mut self, name: &str, console: &str, claude: &str) {
        let to = if console.is_empty() { claude } else { console };
        match to.strip_prefix(GROUP) {
            Some(group) => self.to_groups.push((name.to_owned(), group.to_owned())),
            // Shared accounts serve those that are bound to an account that is not taken over.
            None if console.is_empty() => {}
            None => self.to_accounts.push((name.to_owned(), to.to_owned())),
        }
    }
}

impl Looking<'_> {
    /// A group and its members, which that program keeps beside it, and we in it.
    pub(super) async fn group(&mut self, name: &str, fields: &Fields) -> Result<()> {
        let id = name.strip_prefix(ACCOUNT_GROUP.redis_prefix).unwrap_or(name);
        let members = match fields.get("memberIds") {
            Some(listed) => serde_json::from_str(listed).unwrap_or_default(),
            None => {
                let mut pipe = redis::pipe();
                pipe.cmd("SMEMBERS").arg(format!("account_group_members:{id}"));
                let answers = self.direct.ask_all(pipe).await?;
                let members = answers.into_iter().next().and_then(|answer| layout::list(answer).ok());
                members.unwrap_or_default().into_iter().filter_map(|id| layout::text(id).ok()).collect()
            }
        };
        self.bound.groups.insert(id.to_owned(), members);
        Ok(())
    }

    /// Keys that are bound to what will not serve them.
    pub(super) fn bindings(&mut self) {
        let Bound { to_accounts, to_groups, groups } = std::mem::take(&mut self.bound);
        for (name, account) in to_accounts {
            if !self.accounts.contains(&account) {
                let reason = format!("it is bound to the account {account:?}, which there is not");
                self.findings.note(&name, reason);
            }
        }
        for (name, group) in to_groups {
            let reason = match groups.get(&group) {
                None => format!("it is bound to the group {group:?}, which there is not"),
                Some(members) if members.iter().any(|member| self.accounts.contains(member)) => continue,
                Some(_) => {
                    format!("it is bound to the group {group:?}, of which no member is taken over")
                }
            };
            self.findings.note(&name, format!("{reason}: nothing would serve it"));
        }
    }
}
