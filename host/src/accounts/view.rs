//! An account as people may see it: named fields only, and no credential.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::account::{Account, CREDENTIAL};
use super::proxy::{self, Stored};
use super::seal::Seals;
use super::status;
use crate::store::Record;

/// Fields that are text.
pub(super) const TEXTS: [&str; 17] = [
    "name",
    "description",
    "platform",
    "apiUrl",
    "userAgent",
    "authType",
    "accountType",
    "status",
    "errorMessage",
    "subscriptionExpiresAt",
    "quotaResetTime",
    "quotaStoppedAt",
    "createdAt",
    "updatedAt",
    "lastUsedAt",
    status::STATUS,
    status::UNTIL,
];
/// Fields that are numbers.
pub(super) const NUMBERS: [&str; 3] = ["priority", "rateLimitDuration", "maxConcurrentTasks"];
/// Fields that are true unless they say otherwise, or the other way round.
pub(super) const FLAGS: [(&str, bool); 2] = [("isActive", false), ("schedulable", true)];

/// `account`: as this node has last seen it.
pub(super) fn of(record: &Record, seals: &Seals, account: Option<&Account>) -> Value {
    let field = |name: &str| record.fields.get(name).map(String::as_str);
    let mut view = Map::new();
    view.insert("id".into(), json!(record.key.id));
    for name in TEXTS {
        view.insert(name.into(), json!(field(name)));
    }
    for name in NUMBERS {
        view.insert(name.into(), json!(field(name).and_then(|text| text.parse::<i64>().ok())));
    }
    view.insert("dailyQuota".into(), json!(field("dailyQuota").and_then(|text| text.parse::<f64>().ok())));
    for (name, default) in FLAGS {
        let is = field(name).map_or(default, |text| text == "true");
        view.insert(name.into(), is.into());
    }
    let models = field("supportedModels").and_then(|models| serde_json::from_str::<Value>(models).ok());
    view.insert("supportedModels".into(), models.unwrap_or_else(|| json!({})));
    view.insert("apiUrl".into(), json!(field("apiUrl").map(without_user)));
    view.insert("proxy".into(), proxy_of(field(proxy::FIELD).unwrap_or_default()));
    let sealed = field(CREDENTIAL).filter(|sealed| !sealed.is_empty());
    view.insert("hasApiKey".into(), sealed.is_some().into());
    view.insert("sealed".into(), json!(sealed.map(|sealed| seals.form(sealed))));
    view.insert("version".into(), record.version.into());
    view.insert("health".into(), account.map_or(Value::Null, health_of));
    view.into()
}

/// What this node knows.
fn health_of(account: &Account) -> Value {
    let (status, left) = account.health.status(account.settings, Instant::now());
    json!({
        "status": status,
        "retryAfterSeconds": left.map(|left| left.as_secs_f64().ceil()),
        "quotaResetsInSeconds": account.over_quota().map(|left| left.as_secs_f64().ceil()),
        "inFlight": account.health.in_flight.load(Relaxed),
    })
}

fn proxy_of(field: &str) -> Value {
    match Stored::parse(field) {
        Ok(None) => Value::Null,
        Ok(Some(stored)) => json!({
            "type": stored.kind,
            "host": stored.host,
            "port": stored.port.number(),
            "username": stored.username,
            "hasPassword": stored.password.is_some_and(|password| !password.is_empty()),
        }),
        Err(why) => json!({ "error": why }),
    }
}

/// Another program may have left a password in an address.
fn without_user(url: &str) -> String {
    match url.split_once("//").map(|(_, rest)| rest.split('/').next().unwrap_or_default()) {
        Some(authority) if authority.contains('@') => "(holds a password; enter it again)".into(),
        _ => url.to_owned(),
    }
}
