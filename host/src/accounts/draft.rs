//! What an admin wants of an account, checked; its secrets are sealed before they go anywhere.

use std::ops::RangeInclusive;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use zeroize::Zeroizing;

use super::account::{CREDENTIAL, base_url_of};
use super::edit::EditError;
use super::proxy::{self, Port, ProxyKind, Stored};
use super::quota::{checked_quota, checked_reset};
use super::relay_service::is_credential;
use super::seal::{Place, Seals};
use crate::store::{Fields, Key};

/// The longest name, in bytes.
const MAX_NAME: usize = 256;
/// The longest text and the longest credential, in bytes.
const MAX_TEXT: usize = 8_192;
/// The most models of an account.
const MAX_MODELS: usize = 200;

/// Text that is wiped when it is dropped, and never shown.
pub(super) struct SecretText(Zeroizing<String>);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// What is to be of an account, in Claude Relay Service's names. What is absent stays as it is.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Draft {
    name: Option<String>,
    description: Option<String>,
    api_url: Option<String>,
    /// Written only: no answer ever has it.
    #[schema(value_type = Option<String>)]
    api_key: Option<SecretText>,
    #[schema(inline)]
    auth_type: Option<AuthType>,
    priority: Option<u32>,
    /// A list of models, or an object from a model to what the upstream calls it; empty for all.
    supported_models: Option<Value>,
    user_agent: Option<String>,
    /// In minutes; Claude Relay Service's.
    rate_limit_duration: Option<u32>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<ProxyDraft>, inline)]
    proxy: Option<Option<ProxyDraft>>,
    is_active: Option<bool>,
    schedulable: Option<bool>,
    #[schema(inline)]
    account_type: Option<AccountType>,
    max_concurrent_tasks: Option<u32>,
    /// US dollars a day; 0 for no quota.
    daily_quota: Option<f64>,
    /// `HH:mm`, when an account that has used up its quota serves again.
    quota_reset_time: Option<String>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, format = DateTime)]
    subscription_expires_at: Option<Option<Timestamp>>,
}

#[derive(Deserialize, Clone, Copy, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum AuthType {
    ApiKey,
    Bearer,
}

#[derive(Deserialize, Clone, Copy, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum AccountType {
    Shared,
    Dedicated,
    Group,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct ProxyDraft {
    #[serde(rename = "type")]
    #[schema(inline)]
    kind: ProxyKind,
    host: String,
    port: u16,
    username: Option<String>,
    #[schema(value_type = Option<String>)]
    password: Option<SecretText>,
}

/// Tells null from absent.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(value: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(value).map(Some)
}

impl Draft {
    /// # Errors
    /// `Invalid` names what a new account lacks.
    pub(super) fn check_complete(&self) -> Result<(), EditError> {
        let missing = [
            ("name", self.name.is_none()),
            ("apiUrl", self.api_url.is_none()),
            ("apiKey", self.api_key.is_none()),
        ];
        match missing.into_iter().find(|(_, missing)| *missing) {
            Some((field, _)) => Err(EditError::invalid(field, "is missing")),
            None => Ok(()),
        }
    }

    /// Writes what is wanted into the fields of a record, its secrets sealed.
    ///
    /// # Errors
    /// `Invalid` names the field, and repeats nothing of what it was to be.
    pub(super) fn apply(&self, key: &Key, seals: &Seals, fields: &mut Fields) -> Result<(), EditError> {
        let mut set = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value);
            }
        };
        set("name", self.name.as_deref().map(checked_name).transpose()?);
        set(
            "description",
            self.description.as_deref().map(|text| checked_text("description", text)).transpose()?,
        );
        set(
            "userAgent",
            self.user_agent.as_deref().map(|text| checked_header("userAgent", text)).transpose()?,
        );
        set("apiUrl", self.api_url.as_deref().map(checked_url).transpose()?);
        set("authType", self.auth_type.map(|kind| kind.name().into()));
        set("priority", bounded("priority", self.priority, 1..=100)?);
        set("rateLimitDuration", bounded("rateLimitDuration", self.rate_limit_duration, 0..=10_080)?);
        set("maxConcurrentTasks", bounded("maxConcurrentTasks", self.max_concurrent_tasks, 0..=1_000_000)?);
        set("dailyQuota", self.daily_quota.map(checked_quota).transpose()?);
        set("quotaResetTime", self.quota_reset_time.as_deref().map(checked_reset).transpose()?);
        set("supportedModels", self.supported_models.as_ref().map(checked_models).transpose()?);
        set("isActive", self.is_active.map(|is| is.to_string()));
        set("schedulable", self.schedulable.map(|is| is.to_string()));
        set("accountType", self.account_type.map(|kind| kind.name().into()));
        let expiry = |at: Option<Timestamp>| at.map_or_else(String::new, |at| at.to_string());
        set("subscriptionExpiresAt", self.subscription_expires_at.map(expiry));
        set(CREDENTIAL, self.api_key.as_ref().map(|plain| sealed(plain, key, seals)).transpose()?);
        self.decide(fields);
        match &self.proxy {
            Some(Some(proxy)) => proxy.apply(key, seals, fields)?,
            Some(None) => drop(fields.insert(proxy::FIELD.into(), String::new())),
            None => {}
        }
        Ok(())
    }
}

impl Draft {
    /// A person has decided: an account that Claude Relay Service has switched off for a while is not switched on
    /// by itself any more, but as it was before, apart from what is decided.
    fn decide(&self, fields: &mut Fields) {
        if self.is_active.is_none() && self.schedulable.is_none() {
            return;
        }
        fields.remove("quotaStoppedAt");
        let stopped = ["rateLimitAutoStopped", "quotaAutoStopped"].map(|name| fields.remove(name));
        if stopped.into_iter().flatten().any(|stopped| stopped == "true") {
            for (name, decided) in [("isActive", self.is_active), ("schedulable", self.schedulable)] {
                fields.insert(name.to_owned(), decided.unwrap_or(true).to_string());
            }
        }
    }
}

impl ProxyDraft {
    /// The password stays when none is given and the rest is the same: it was not shown, so it is not sent back.
    fn apply(&self, key: &Key, seals: &Seals, fields: &mut Fields) -> Result<(), EditError> {
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        if self.host.is_empty() || self.host.len() > MAX_NAME || !self.host.chars().all(is_host) {
            return Err(EditError::invalid("proxy", "has a host name or an address as its host"));
        }
        if self.port == 0 {
            return Err(EditError::invalid("proxy", "has a port from 1 to 65535"));
        }
        checked_text("proxy", self.username.as_deref().unwrap_or_default())?;
        let mut stored = Stored {
            kind: self.kind,
            host: self.host.clone(),
            port: Port::Number(self.port),
            username: self.username.clone().filter(|username| !username.is_empty()),
            password: None,
        };
        stored.password = match &self.password {
            Some(SecretText(plain)) if plain.is_empty() => None,
            Some(SecretText(plain)) => Some(Stored::seal(key, seals, plain)?),
            None => {
                let before = fields.get(proxy::FIELD).and_then(|field| Stored::parse(field).ok().flatten());
                before.filter(|before| before.is_like(&stored)).and_then(|before| before.password)
            }
        };
        fields.insert(proxy::FIELD.into(), stored.to_field());
        Ok(())
    }
}

impl AuthType {
    fn name(self) -> &'static str {
        match self {
            Self::ApiKey => "api_key",
            Self::Bearer => "bearer",
        }
    }
}

impl AccountType {
    fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Dedicated => "dedicated",
            Self::Group => "group",
        }
    }
}

fn sealed(SecretText(plain): &SecretText, key: &Key, seals: &Seals) -> Result<String, EditError> {
    if plain.len() > MAX_TEXT || !is_credential(plain) {
        let why = format!("has 1 to {MAX_TEXT} printable ASCII characters without spaces");
        return Err(EditError::invalid("apiKey", why));
    }
    Ok(seals.seal(Place { key, field: CREDENTIAL }, plain)?)
}

pub(super) fn checked_name(name: &str) -> Result<String, EditError> {
    let name = name.trim();
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(EditError::invalid(
            "name",
            format!("has 1 to {MAX_NAME} bytes and no control characters"),
        ));
    }
    Ok(name.to_owned())
}

pub(super) fn checked_text(field: &'static str, text: &str) -> Result<String, EditError> {
    if text.len() > MAX_TEXT || text.contains('\0') {
        return Err(EditError::invalid(field, format!("has at most {MAX_TEXT} bytes and no NUL")));
    }
    Ok(text.to_owned())
}

fn checked_header(field: &'static str, text: &str) -> Result<String, EditError> {
    if text.len() > MAX_NAME || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(EditError::invalid(field, format!("has at most {MAX_NAME} printable ASCII characters")));
    }
    Ok(text.to_owned())
}

fn checked_url(url: &str) -> Result<String, EditError> {
    base_url_of(url).map(String::from).map_err(|why| EditError::invalid("apiUrl", why))
}

/// A list of models, or a table of what the upstream calls them.
fn checked_models(models: &Value) -> Result<String, EditError> {
    let is_text =
        |value: &Value| value.as_str().is_some_and(|text| !text.is_empty() && text.len() <= MAX_NAME);
    let fits = match models {
        Value::Array(list) => list.len() <= MAX_MODELS && list.iter().all(is_text),
        Value::Object(table) => table.len() <= MAX_MODELS && table.values().all(is_text),
        _ => false,
    };
    let why =
        || format!("is a list of at most {MAX_MODELS} names, or an object from name to the upstream's name");
    fits.then(|| models.to_string()).ok_or_else(|| EditError::invalid("supportedModels", why()))
}

fn bounded(
    field: &'static str,
    number: Option<u32>,
    range: RangeInclusive<u32>,
) -> Result<Option<String>, EditError> {
    match number {
        Some(number) if !range.contains(&number) => {
            Err(EditError::invalid(field, format!("is {} to {}", range.start(), range.end())))
        }
        number => Ok(number.map(|number| number.to_string())),
    }
}
