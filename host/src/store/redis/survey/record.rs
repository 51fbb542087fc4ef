//! What is said of one record.

use jiff::Timestamp;
use serde_json::Value;

use super::Looking;
use crate::store::kind::{ACCOUNT, API_KEY};
use crate::store::takeover::{Finding, LISTED, Opened, is_theirs, parse_time};
use crate::store::{Fields, Key};

/// What was found to be broken.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) all: u64,
    pub(super) listed: Vec<Finding>,
    /// Keys and the hashes that lead to them, to be looked for in the index.
    pub(super) hashes: Vec<(String, String)>,
}

impl Findings {
    pub(super) fn note(&mut self, key: &str, reason: impl Into<String>) {
        self.all += 1;
        if self.listed.len() < LISTED {
            self.listed.push(Finding { key: key.to_owned(), reason: reason.into() });
        }
    }
}

/// The bindings to accounts that are not taken over.
const ELSEWHERE: [&str; 7] = [
    "claudeAccountId",
    "geminiAccountId",
    "openaiAccountId",
    "azureOpenaiAccountId",
    "bedrockAccountId",
    "droidAccountId",
    "ccrAccountId",
];

/// Fields that hold lists.
const LISTS: [&str; 3] = ["restrictedModels", "allowedClients", "tags"];

const UNPROVEN: &str = "No sealed account is there that would show whether ENCRYPTION_KEY is the right one. With \
     another one every client would be answered 401: try one client's key before you let all come.";

fn text<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.get(name).map_or("", String::as_str)
}

fn is_true(fields: &Fields, name: &str) -> bool {
    text(fields, name) == "true"
}

impl Looking<'_> {
    pub(super) fn api_key(&mut self, name: &str, fields: &Fields) {
        let keys = &mut self.survey.api_keys;
        keys.all += 1;
        let (said, expires) = (text(fields, "expiresAt"), parse_time(text(fields, "expiresAt")));
        if !said.is_empty() && expires.is_none() {
            self.findings.note(name, "its expiresAt is no time: each request would be answered 401");
        }
        let is_expired = !said.is_empty() && expires.is_none_or(|at| at <= Timestamp::now());
        match () {
            () if is_true(fields, "isDeleted") => keys.deleted += 1,
            () if !is_true(fields, "isActive") => keys.disabled += 1,
            () if is_expired => keys.expired += 1,
            () => keys.active += 1,
        }
        let elsewhere = |name: &&str| {
            let bound = text(fields, name);
            !bound.is_empty() && !bound.starts_with("group:")
        };
        keys.bound_elsewhere += u64::from(ELSEWHERE.iter().any(elsewhere));
        keys.without_claude += u64::from(!may_use_claude(text(fields, "permissions")));
        self.bound.key(name, text(fields, "claudeConsoleAccountId"), text(fields, "claudeAccountId"));
        let hash = text(fields, "apiKey");
        match hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            // That program takes a deleted key out of its index.
            _ if is_true(fields, "isDeleted") => {}
            true => {
                self.theirs += u64::from(is_theirs(text(fields, "id")));
                self.findings.hashes.push((name.to_owned(), hash.to_owned()));
            }
            false => self.findings.note(name, "no client can present it: it has no hash"),
        }
        if name.strip_prefix(API_KEY.redis_prefix) != Some(text(fields, "id")) {
            self.findings.note(name, "its id is not the one that it is kept under");
        }
        for list in LISTS {
            let json = text(fields, list);
            if !json.is_empty() && !matches!(serde_json::from_str(json), Ok(Value::Array(_))) {
                self.findings.note(name, format!("{list} is not a list in JSON, and is taken as empty"));
            }
        }
    }

    /// Whether its clients will be recognised, and whether that is known.
    pub(super) fn recognition(&mut self) {
        if self.theirs == 0 {
            return;
        }
        if !self.credentials.recognises() {
            let reason = format!(
                "without ENCRYPTION_KEY the clients of {} keys cannot be recognised: each would be answered 401",
                self.theirs
            );
            self.findings.note("apikey:*", reason);
        } else if !self.is_proven {
            self.survey.notes.push(UNPROVEN);
        }
    }

    pub(super) async fn account(&mut self, name: &str, fields: &Fields) {
        let id = name.strip_prefix(ACCOUNT.redis_prefix).unwrap_or(name);
        self.accounts.insert(id.to_owned());
        self.survey.accounts.all += 1;
        self.survey.accounts.active += u64::from(is_true(fields, "isActive"));
        let Ok(key) = Key::new(&ACCOUNT, id) else { return };
        match self.credentials.open(&key, fields).await {
            Ok(opened) => self.is_proven |= opened == Opened::WithTheirKey,
            Err(reason) => {
                self.survey.accounts.sealed_otherwise += 1;
                self.findings.note(name, reason);
            }
        }
        let url = text(fields, "apiUrl");
        if url::Url::parse(url).is_err() {
            self.findings.note(name, "its apiUrl is no URL");
        }
    }
}

/// Empty and `all` mean everything; newer versions write a list.
fn may_use_claude(permissions: &str) -> bool {
    match serde_json::from_str(permissions) {
        Ok(Value::Array(list)) => list.is_empty() || list.iter().any(|one| one == "claude" || one == "all"),
        _ => permissions.is_empty() || permissions == "all" || permissions.contains("claude"),
    }
}
