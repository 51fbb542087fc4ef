//! A key as its record says.

use std::sync::Arc;

use jiff::Timestamp;

use super::Refusal;
use super::limits::KeyLimits;
use crate::store::Record;
use crate::store::takeover::parse_time;

/// Clients by the names that Claude Relay Service has for them, and what their user agents begin with.
const CLIENTS: [(&str, &[&str]); 4] = [
    ("claude_code", &["claude-cli/"]),
    ("codex_cli", &["codex_cli_rs/", "codex_vscode/", "codex_exec/"]),
    ("gemini_cli", &["GeminiCLI/"]),
    ("droid_cli", &["factory-cli/"]),
];
/// How much of what a client said is said back to it.
const SHOWN: usize = 80;

/// An API key. A clone shares its record.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(Arc<Record>);

/// Names the key, and nothing of it.
impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKey({})", self.id())
    }
}

impl ApiKey {
    pub fn new(record: Arc<Record>) -> Self {
        Self(record)
    }

    pub fn record(&self) -> &Arc<Record> {
        &self.0
    }

    pub fn id(&self) -> &str {
        &self.0.key.id
    }

    pub fn name(&self) -> &str {
        self.field("name")
    }

    /// A field; nothing when it is not there.
    pub fn field(&self, name: &str) -> &str {
        self.0.fields.get(name).map_or("", String::as_str)
    }

    pub fn is_active(&self) -> bool {
        self.is("isActive")
    }

    /// Deleted, and still restorable.
    pub fn is_deleted(&self) -> bool {
        self.is("isDeleted")
    }

    fn is(&self, flag: &str) -> bool {
        self.field(flag) == "true"
    }

    /// When it expires; none when it does not, or not yet because nobody has used it.
    pub fn expires_at(&self) -> Option<Timestamp> {
        parse_time(self.field("expiresAt"))
    }

    /// When it was last used, to about a minute.
    pub fn last_used_at(&self) -> Option<Timestamp> {
        parse_time(self.field("lastUsedAt"))
    }

    /// Whether its time begins with its first use, which has not been yet.
    pub fn awaits_activation(&self) -> bool {
        self.field("expirationMode") == "activation" && !self.is("isActivated")
    }

    pub fn tags(&self) -> Vec<String> {
        texts(self.field("tags"))
    }

    /// The account that it is bound to, or `group:ID`; none when any will do.
    pub fn claude_console_account_id(&self) -> Option<&str> {
        Some(self.field("claudeConsoleAccountId")).filter(|id| !id.is_empty())
    }

    /// As [`Self::claude_console_account_id`], of Claude's own accounts.
    pub fn claude_account_id(&self) -> Option<&str> {
        Some(self.field("claudeAccountId")).filter(|id| !id.is_empty())
    }

    /// What it is bound to: the id of an account, or `group:` and the id of a group.
    pub fn bound(&self) -> Option<&str> {
        self.claude_console_account_id().or(self.claude_account_id())
    }

    /// Models that it must not use; those that count.
    pub fn restricted_models(&self) -> Vec<String> {
        if self.is("enableModelRestriction") { texts(self.field("restrictedModels")) } else { Vec::new() }
    }

    /// Clients that may use it; none named means all.
    pub fn allowed_clients(&self) -> Vec<String> {
        if self.is("enableClientRestriction") { texts(self.field("allowedClients")) } else { Vec::new() }
    }

    pub fn limits(&self) -> KeyLimits {
        KeyLimits::read(|name| self.field(name)).0
    }

    /// Whether it is for Claude: a list of services or the one of older versions; nothing means all.
    pub fn may_use_claude(&self) -> bool {
        let permissions = self.field("permissions").trim();
        if permissions.starts_with('[') {
            return match serde_json::from_str::<Vec<String>>(permissions) {
                Ok(named) => named.is_empty() || named.iter().any(|name| name == "all" || name == "claude"),
                Err(_) => false,
            };
        }
        let mut named = permissions.split(',').map(str::trim);
        permissions.is_empty() || named.any(|name| name == "all" || name == "claude")
    }

    /// # Errors
    /// A sentence for the person who asked for the model.
    pub fn allows_model(&self, model: &str) -> Result<(), String> {
        // Claude Code asks for a longer context by a suffix.
        let plain = model.strip_suffix("[1m]").unwrap_or(model);
        if !self.restricted_models().iter().any(|restricted| restricted == model || restricted == plain) {
            return Ok(());
        }
        Err(format!("This API key may not use the model {:?}. Choose another one.", shown(model)))
    }

    /// # Errors
    /// A sentence for the person in front of the client.
    pub fn allows_client(&self, user_agent: &str) -> Result<(), String> {
        let allowed = self.allowed_clients();
        let fits = |name: &String| match CLIENTS.iter().find(|(known, _)| known == name) {
            Some((_, starts)) => starts.iter().any(|start| begins(user_agent, start)),
            None => !name.is_empty() && begins(user_agent, name),
        };
        if allowed.is_empty() || allowed.iter().any(fits) {
            return Ok(());
        }
        let (names, agent) = (allowed.join(", "), shown(user_agent));
        Err(format!("This API key is for {names} only; this client is {agent:?}."))
    }

    /// # Errors
    /// Why it lets nobody in at this time.
    pub(super) fn check(&self, now: Timestamp) -> Result<(), Refusal> {
        if self.is_deleted() {
            return Err(Refusal::Deleted);
        }
        if !self.is_active() {
            return Err(Refusal::Disabled);
        }
        match (self.field("expiresAt"), self.expires_at()) {
            ("", _) => {}
            (_, Some(at)) if now < at => {}
            (_, Some(at)) => return Err(Refusal::Expired(format!("at {at:.0}"))),
            (_, None) => return Err(Refusal::Expired("the date of its expiry cannot be read".into())),
        }
        let (_, unreadable) = KeyLimits::read(|name| self.field(name));
        unreadable.map_or(Ok(()), |name| Err(Refusal::Unreadable(name)))
    }
}

/// A time as Claude Relay Service writes it.
pub(super) fn time_text(at: Timestamp) -> String {
    format!("{at:.3}")
}

fn texts(json: &str) -> Vec<String> {
    let values: Vec<serde_json::Value> = serde_json::from_str(json).unwrap_or_default();
    values.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

fn begins(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Key, kind};

    fn key(fields: &[(&str, &str)]) -> ApiKey {
        let fields = fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let key = Key::new(&kind::API_KEY, "k").unwrap();
        ApiKey(Arc::new(Record {
            key,
            version: 1,
            deleted: false,
            fields,
            expires_at: None,
            cached_at: None,
        }))
    }

    #[test]
    fn its_fields_decide_whom_it_lets_in() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let check = |fields: &[(&str, &str)]| key(fields).check(now);
        assert_eq!(check(&[("isActive", "true"), ("expiresAt", "")]), Ok(()));
        assert_eq!(check(&[("isActive", "true"), ("expiresAt", "2026-01-02T00:00:01.000Z")]), Ok(()));
        assert_eq!(check(&[("isActive", "false")]), Err(Refusal::Disabled));
        assert_eq!(check(&[]), Err(Refusal::Disabled));
        assert_eq!(check(&[("isActive", "true"), ("isDeleted", "true")]), Err(Refusal::Deleted));
        for past in ["2026-01-02T00:00:00Z", "2026-01-02", "2026-01-01 23:59:59", "soon", "9999-13-01"] {
            let refused = check(&[("isActive", "true"), ("expiresAt", past)]);
            assert!(matches!(refused, Err(Refusal::Expired(_))), "{past}");
        }
        for never in ["9999-12-31T23:59:59.999Z", "9999-12-31", "9999-12-31T23:59:59+08:00", "9999-12-30"] {
            assert_eq!(check(&[("isActive", "true"), ("expiresAt", never)]), Ok(()), "{never}");
        }
        assert_eq!(check(&[("isActive", "true"), ("tokenLimit", "60.0")]), Ok(()));
        let unreadable = check(&[("isActive", "true"), ("tokenLimit", "many")]);
        assert_eq!(unreadable, Err(Refusal::Unreadable("tokenLimit")));
    }

    #[test]
    fn permissions_are_read_in_every_form_they_have_had() {
        for (permissions, may) in [
            ("", true),
            ("all", true),
            ("claude", true),
            ("[]", true),
            (r#"["claude","openai"]"#, true),
            (r#"["openai"]"#, false),
            ("gemini", false),
            ("claude,gemini", true),
            ("[broken", false),
        ] {
            assert_eq!(key(&[("permissions", permissions)]).may_use_claude(), may, "{permissions}");
        }
    }

    #[test]
    fn a_model_is_refused_by_name_where_that_is_switched_on() {
        let list = r#"["claude-opus-4-8"]"#;
        let on = key(&[("enableModelRestriction", "true"), ("restrictedModels", list)]);
        assert!(on.allows_model("claude-opus-4-8").unwrap_err().contains("claude-opus-4-8"));
        assert!(on.allows_model("claude-opus-4-8[1m]").is_err() && on.allows_model("claude-opus-4").is_ok());
        let off = key(&[("enableModelRestriction", "false"), ("restrictedModels", list)]);
        assert!(off.allows_model("claude-opus-4-8").is_ok());
    }

    #[test]
    fn a_client_is_known_by_what_its_user_agent_begins_with() {
        let only = |clients| key(&[("enableClientRestriction", "true"), ("allowedClients", clients)]);
        let code = only(r#"["claude_code"]"#);
        assert!(code.allows_client("claude-cli/2.1.330 (external, cli)").is_ok());
        assert!(code.allows_client("curl/8 claude-cli/2").is_err() && code.allows_client("").is_err());
        assert!(only("[]").allows_client("curl/8").is_ok());
        assert!(only(r#"["my-tool/"]"#).allows_client("My-Tool/1.0").is_ok());
    }

    #[test]
    fn nothing_of_it_is_shown_by_accident() {
        assert_eq!(format!("{:?}", key(&[("apiKey", "hash")])), "ApiKey(k)");
    }
}
