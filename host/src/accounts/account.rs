//! One account, as its record says: what decides whether and how it is asked.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::Offset;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use url::Url;
use zeroize::Zeroizing;

use super::health::{Health, Readiness, Status};
use super::proxy::{self, Proxy};
use super::quota::Quota;
use super::relay_service::is_credential;
use super::seal::{Place, Seals};
use crate::store::secret::is_sealed;
use crate::store::{Fields, Record};

/// The field that holds the sealed credential.
pub(super) const CREDENTIAL: &str = "apiKey";
/// What an account has whose record does not say. Smaller ones are asked first.
const PRIORITY: i64 = 50;
/// For how many minutes Claude Relay Service switches off an account that was rate limited, unless told.
const RATE_LIMIT_MINUTES: i64 = 60;
/// What Anthropic's own keys begin with.
const ANTHROPIC: &str = "sk-ant-";

/// What an upstream takes for proof.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// Sent as `x-api-key`.
    ApiKey(Zeroizing<String>),
    /// Sent as `authorization: Bearer`.
    Bearer(Zeroizing<String>),
}

/// Says which of the two it is.
impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ApiKey(_) => "ApiKey",
            Self::Bearer(_) => "Bearer",
        })
    }
}

/// What is needed to call an upstream.
#[derive(Clone)]
pub(super) struct Access {
    pub(super) base_url: Url,
    pub(super) credential: Credential,
    pub(super) proxy: Option<Proxy>,
}

/// An account in one version of its record.
pub(super) struct Account {
    pub(super) record: Arc<Record>,
    pub(super) health: Arc<Health>,
    pub(super) priority: i64,
    /// Serves keys that are bound to nothing.
    pub(super) shared: bool,
    pub(super) max_in_flight: u32,
    pub(super) user_agent: Option<String>,
    /// Changes when its credential, its address or its proxy does, or its status is reset.
    pub(super) settings: u64,
    pub(super) quota: Quota,
    switch: Switch,
    /// What it calls the models that it serves; empty for all.
    models: BTreeMap<String, String>,
    access: OnceCell<Result<Access, String>>,
}

/// Whether people let it serve.
struct Switch {
    on: bool,
    /// Milliseconds since 1970 from which on it serves.
    from: Option<i64>,
    /// Milliseconds since 1970 until which it serves.
    until: Option<i64>,
}

impl Account {
    /// `offset`: of usage.
    pub(super) fn new(record: Arc<Record>, health: Arc<Health>, offset: Offset) -> Self {
        let fields = &record.fields;
        let quota = Quota::of(fields, offset);
        let text = |name: &str| fields.get(name).map(String::as_str).filter(|text| !text.is_empty());
        Self {
            priority: text("priority").and_then(|text| text.parse().ok()).unwrap_or(PRIORITY),
            shared: text("accountType").is_none_or(|kind| kind == "shared"),
            max_in_flight: text("maxConcurrentTasks").and_then(|text| text.parse().ok()).unwrap_or(0),
            user_agent: text("userAgent").map(str::to_owned),
            settings: settings(fields),
            switch: Switch::of(fields, &quota),
            quota,
            models: text("supportedModels").map(models).unwrap_or_default(),
            access: OnceCell::new(),
            health,
            record,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.record.key.id
    }

    pub(super) fn name(&self) -> &str {
        self.record.fields.get("name").map_or("", String::as_str)
    }

    /// Whether people let it serve at this moment, in milliseconds since 1970.
    pub(super) fn serves(&self, now_ms: i64) -> bool {
        let Switch { on, from, until } = self.switch;
        on && from.is_none_or(|from| now_ms >= from) && until.is_none_or(|until| now_ms < until)
    }

    /// Whether it is to be asked, as far as its upstream and its quota go.
    pub(super) fn readiness(&self, now: Instant) -> Readiness {
        match self.over_quota() {
            Some(left) => Readiness::Resting(left),
            None => self.health.readiness(self.settings, now),
        }
    }

    /// Whether it rests because of its rate alone.
    pub(super) fn is_rate_limited(&self, now: Instant) -> bool {
        self.over_quota().is_none() && self.health.status(self.settings, now).0 == Status::RateLimited
    }

    /// How long it does not serve because it has used up what it may cost a day.
    pub(super) fn over_quota(&self) -> Option<Duration> {
        self.quota.left(&self.health.costs.lock(), Timestamp::now())
    }

    /// What it calls this model; none when it does not serve it.
    pub(super) fn model<'a>(&'a self, wanted: &'a str) -> Option<&'a str> {
        if self.models.is_empty() {
            return Some(wanted);
        }
        let same = |(known, _): &(&String, &String)| known.eq_ignore_ascii_case(wanted);
        let found =
            self.models.get(wanted).or_else(|| self.models.iter().find(same).map(|(_, called)| called));
        found.map(String::as_str)
    }

    /// The models that it names; none when it serves all.
    pub(super) fn models(&self) -> Option<impl Iterator<Item = &str>> {
        let named = || self.models.keys().map(String::as_str).filter(|model| !model.is_empty());
        (!self.models.is_empty()).then(named)
    }

    /// Opens what is sealed, once a version.
    ///
    /// # Errors
    /// A sentence for the operator, without anything of the credential.
    pub(super) async fn access(&self, seals: &Seals) -> Result<&Access, &str> {
        self.access.get_or_init(|| self.open(seals)).await.as_ref().map_err(String::as_str)
    }

    async fn open(&self, seals: &Seals) -> Result<Access, String> {
        let (key, fields) = (&self.record.key, &self.record.fields);
        let base_url = fields.get("apiUrl").map_or("", String::as_str);
        let base_url = base_url_of(base_url).map_err(|why| format!("its apiUrl {why}"))?;
        let sealed = fields.get(CREDENTIAL).map(String::as_str).filter(|sealed| !sealed.is_empty());
        let sealed = sealed.ok_or("it has no credential")?;
        let plain = seals.open(Place { key, field: CREDENTIAL }, sealed).await;
        let plain = plain.map_err(|why| format!("its credential cannot be opened: {why}"))?;
        if !is_credential(&plain) {
            return Err("its credential is not printable ASCII; enter it again".into());
        }
        let proxy = match proxy::Stored::parse(fields.get(proxy::FIELD).map_or("", String::as_str))? {
            Some(stored) => {
                let opened = stored.open(key, seals).await;
                Some(opened.map_err(|why| format!("its proxy's password cannot be opened: {why}"))?)
            }
            None => None,
        };
        Ok(Access { base_url, credential: credential(fields.get("authType"), plain), proxy })
    }
}

impl Switch {
    fn of(fields: &Fields, quota: &Quota) -> Self {
        let is = |name: &str, value: &str| fields.get(name).is_some_and(|text| text == value);
        let time = |name: &str| fields.get(name).and_then(|at| at.parse::<Timestamp>().ok());
        let until = time("subscriptionExpiresAt").map(Timestamp::as_millisecond);
        // Claude Relay Service switches an account off that was limited or has used up its quota, and notes that it is
        // to be switched on again.
        let (limited, used_up) = (is("rateLimitAutoStopped", "true"), is("quotaAutoStopped", "true"));
        let rested = limited.then(|| {
            let minutes = fields.get("rateLimitDuration").and_then(|text| text.parse().ok());
            let minutes: i64 = minutes.unwrap_or(RATE_LIMIT_MINUTES);
            let since = time("rateLimitedAt").map_or(0, Timestamp::as_millisecond);
            since.saturating_add(minutes.saturating_mul(60_000))
        });
        let reset = time("quotaStoppedAt").map(|stopped| quota.reset_after(stopped).as_millisecond());
        let from = rested.into_iter().chain(reset).max();
        let on = limited || (is("isActive", "true") && (used_up || !is("schedulable", "false")));
        Self { on, from, until }
    }
}

/// Where an upstream is, without what is the same for all: a trailing slash and the path of messages.
///
/// # Errors
/// What is wrong with it, without repeating it: it may hold a password.
pub(super) fn base_url_of(text: &str) -> Result<Url, &'static str> {
    let text = text.trim().trim_end_matches('/');
    let url = Url::parse(text.strip_suffix("/v1/messages").unwrap_or(text)).map_err(|_| "is not a URL")?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("begins with neither http:// nor https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or a password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("holds a query or a fragment");
    }
    Ok(url)
}

/// As Claude Relay Service chooses the header, unless the account says which.
fn credential(kind: Option<&String>, plain: Zeroizing<String>) -> Credential {
    let is_bearer = match kind.map(String::as_str) {
        Some("bearer") => true,
        Some("api_key") => false,
        _ => !plain.starts_with(ANTHROPIC),
    };
    if is_bearer { Credential::Bearer(plain) } else { Credential::ApiKey(plain) }
}

/// A list of models, or a table of what the upstream calls them. What is neither allows none.
fn models(text: &str) -> BTreeMap<String, String> {
    if let Ok(list) = serde_json::from_str::<Vec<String>>(text) {
        return list.into_iter().map(|model| (model.clone(), model)).collect();
    }
    let nothing = || BTreeMap::from([(String::new(), String::new())]);
    serde_json::from_str(text).unwrap_or_else(|_| nothing())
}

/// What its health is known with. A proxy's password is no part of it: sealing that changes nothing.
fn settings(fields: &Fields) -> u64 {
    let mut hasher = DefaultHasher::new();
    for name in [CREDENTIAL, "apiUrl", "authType", "statusResetAt"] {
        fields.get(name).hash(&mut hasher);
    }
    let proxy = fields.get(proxy::FIELD).map(String::as_str).unwrap_or_default();
    match proxy::Stored::parse(proxy) {
        Ok(stored) => stored.map(|stored| stored.without_password()).hash(&mut hasher),
        Err(_) => proxy.hash(&mut hasher),
    }
    hasher.finish()
}

/// The field of an account that would hold a credential in plain text, if there is one.
pub fn plain_credential(fields: &Fields) -> Option<&'static str> {
    let credential = fields.get(CREDENTIAL).filter(|text| !text.is_empty());
    if credential.is_some_and(|text| !is_sealed(text)) {
        return Some(CREDENTIAL);
    }
    let proxy = fields.get(proxy::FIELD).map_or(Ok(None), |field| proxy::Stored::parse(field));
    match proxy {
        Ok(None) => None,
        Ok(Some(stored)) => stored.holds_plain_password().then_some(proxy::FIELD),
        // What cannot be read may hold anything.
        Err(_) => Some(proxy::FIELD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Key;
    use crate::store::kind::ACCOUNT;

    fn account(fields: &[(&str, &str)]) -> Account {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let key = Key::new(&ACCOUNT, "a").unwrap();
        let record = Record { key, version: 1, deleted: false, fields, expires_at: None, cached_at: None };
        Account::new(Arc::new(record), Arc::default(), Offset::UTC)
    }

    fn milliseconds(text: &str) -> Option<i64> {
        text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
    }

    #[test]
    fn people_decide_whether_it_serves() {
        let now = milliseconds("2026-01-01T12:00:00Z").unwrap();
        assert!(account(&[("isActive", "true")]).serves(now));
        assert!(!account(&[]).serves(now));
        assert!(!account(&[("isActive", "true"), ("schedulable", "false")]).serves(now));
        let until = |at| account(&[("isActive", "true"), ("subscriptionExpiresAt", at)]).serves(now);
        assert!(until("2026-01-01T12:00:01.000Z") && !until("2026-01-01T12:00:00.000Z") && until("null"));
    }

    #[test]
    fn what_claude_relay_service_has_switched_off_for_a_while_serves_after_it() {
        let now = milliseconds("2026-01-01T12:00:00Z").unwrap();
        let stopped = [("isActive", "false"), ("schedulable", "false"), ("rateLimitAutoStopped", "true")];
        let since = |at| account(&[&stopped[..], &[("rateLimitedAt", at)]].concat()).serves(now);
        assert!(since("2026-01-01T11:00:00.000Z") && !since("2026-01-01T11:00:01.000Z"));
    }

    #[test]
    fn what_claude_relay_service_has_stopped_for_its_quota_serves_from_the_reset_on() {
        let now = milliseconds("2026-01-02T06:00:00Z").unwrap();
        let stopped = [("isActive", "true"), ("schedulable", "false"), ("quotaAutoStopped", "true")];
        let since = |at, reset| {
            account(&[&stopped[..], &[("quotaStoppedAt", at), ("quotaResetTime", reset)]].concat())
                .serves(now)
        };
        assert!(since("2026-01-01T23:00:00.000Z", "06:00") && since("2026-01-01T23:00:00.000Z", "00:00"));
        assert!(!since("2026-01-01T23:00:00.000Z", "06:01") && !since("2026-01-02T01:00:00.000Z", "00:00"));
        let by_hand = [("isActive", "true"), ("schedulable", "false"), ("quotaStoppedAt", "")];
        assert!(!account(&by_hand).serves(now));
    }

    #[test]
    fn models_are_a_list_or_a_table() {
        let supports =
            |text, wanted: &str| account(&[("supportedModels", text)]).model(wanted).map(str::to_owned);
        for all in ["", "[]", "{}"] {
            assert_eq!(supports(all, "m").as_deref(), Some("m"), "{all}");
        }
        assert_eq!(supports(r#"["M"]"#, "m").as_deref(), Some("M"));
        assert_eq!(supports(r#"{"m":"other"}"#, "m").as_deref(), Some("other"));
        assert_eq!(supports(r#"["x"]"#, "m"), None);
        assert_eq!(supports("broken", "m"), None);
    }

    #[test]
    fn addresses_are_normal() {
        let of = |text| base_url_of(text).map(String::from);
        assert_eq!(of("https://api.anthropic.com/").unwrap(), "https://api.anthropic.com/");
        assert_eq!(of("http://h:1/api/v1/messages/").unwrap(), "http://h:1/api");
        for refused in ["", "api.anthropic.com", "ftp://h", "https://u:p@h", "https://h/?q", "file:///x"] {
            assert!(of(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn the_header_follows_the_key() {
        let of = |kind: Option<&str>, plain: &str| {
            credential(kind.map(str::to_owned).as_ref(), Zeroizing::new(plain.into()))
        };
        assert!(matches!(of(None, "sk-ant-1"), Credential::ApiKey(_)));
        assert!(matches!(of(None, "other"), Credential::Bearer(_)));
        assert!(matches!(of(Some("api_key"), "other"), Credential::ApiKey(_)));
        assert_eq!(format!("{:?}", of(Some("bearer"), "sk-ant-1")), "Bearer");
    }
}
