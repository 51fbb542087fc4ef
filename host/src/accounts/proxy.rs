//! The proxy on the way to an upstream, in Claude Relay Service's shape; its password is sealed.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::seal::{Place, SealError, Seals};
use crate::store::secret::is_sealed;
use crate::store::{Fields, Key};

/// The field of an account that holds it, as JSON.
pub(super) const FIELD: &str = "proxy";
/// What its password is sealed for.
const PASSWORD: &str = "proxy.password";

/// How a proxy is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyKind {
    Http,
    Https,
    Socks5,
}

/// A proxy that can be used. Equal ones may share connections.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub kind: ProxyKind,
    pub host: String,
    pub port: u16,
    pub username: Option<String>,
    pub password: Option<Zeroizing<String>>,
}

impl std::hash::Hash for Proxy {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.kind, &self.host, self.port, &self.username).hash(state);
    }
}

/// Without its password.
impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy {{ {:?} {}:{} }}", self.kind, self.host, self.port)
    }
}

/// A proxy as it is stored. Claude Relay Service writes the port as a number or as text, and the password in
/// plain text.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Stored {
    #[serde(rename = "type")]
    pub(super) kind: ProxyKind,
    pub(super) host: String,
    pub(super) port: Port,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) password: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Port {
    Number(u16),
    Text(String),
}

impl Port {
    pub(super) fn number(&self) -> Option<u16> {
        match self {
            Self::Number(port) => Some(*port),
            Self::Text(port) => port.parse().ok(),
        }
        .filter(|port| *port != 0)
    }
}

impl Stored {
    /// What the field says; none when there is no proxy.
    ///
    /// # Errors
    /// When it cannot be read: going without the proxy is not what was asked for.
    pub(super) fn parse(field: &str) -> Result<Option<Self>, String> {
        if matches!(field.trim(), "" | "null" | "{}") {
            return Ok(None);
        }
        let unreadable = || "its proxy setting cannot be read; enter it again".to_owned();
        let stored: Self = serde_json::from_str(field).map_err(|_| unreadable())?;
        if stored.host.is_empty() || stored.port.number().is_none() {
            return Err(unreadable());
        }
        Ok(Some(stored))
    }

    /// With the password opened.
    ///
    /// # Errors
    /// As [`Seals::open`].
    pub(super) async fn open(self, key: &Key, seals: &Seals) -> Result<Proxy, SealError> {
        let password = match self.password.filter(|password| !password.is_empty()) {
            Some(sealed) if is_sealed(&sealed) => {
                Some(seals.open(Place { key, field: PASSWORD }, &sealed).await?)
            }
            // Claude Relay Service's.
            plain => plain.map(Zeroizing::new),
        };
        let Self { kind, host, port, username, .. } = self;
        let username = username.filter(|username| !username.is_empty());
        Ok(Proxy { kind, host, port: port.number().unwrap_or_default(), username, password })
    }

    /// With the password sealed with the secret in use; none when it is already, or there is none.
    ///
    /// # Errors
    /// As [`Seals::renew`].
    pub(super) async fn renew(&self, key: &Key, seals: &Seals) -> Result<Option<Self>, SealError> {
        let Some(password) = self.password.as_deref().filter(|password| !password.is_empty()) else {
            return Ok(None);
        };
        let place = Place { key, field: PASSWORD };
        let renewed = match is_sealed(password) {
            true => seals.renew(place, password).await?,
            false => Some(seals.seal(place, password)?),
        };
        Ok(renewed.map(|password| Self { password: Some(password), ..self.clone() }))
    }

    /// As Claude Relay Service writes it, its password in plain text.
    ///
    /// # Errors
    /// As [`Seals::open`].
    pub(super) async fn in_plain_text(self, key: &Key, seals: &Seals) -> Result<String, SealError> {
        let password = self.clone().open(key, seals).await?.password;
        let password = password.map(|password| password.as_str().to_owned());
        Ok(Self { password, ..self }.to_field())
    }

    /// Seals a password for this proxy.
    pub(super) fn seal(key: &Key, seals: &Seals, password: &str) -> Result<String, SealError> {
        seals.seal(Place { key, field: PASSWORD }, password)
    }

    /// Whether the other one is the same, apart from the password.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.without_password() == other.without_password()
    }

    pub(super) fn without_password(&self) -> impl Eq + std::hash::Hash + use<> {
        (self.kind, self.host.clone(), self.port.number(), self.username.clone())
    }

    pub(super) fn holds_plain_password(&self) -> bool {
        self.password.as_deref().is_some_and(|password| !password.is_empty() && !is_sealed(password))
    }

    pub(super) fn holds_sealed_password(&self) -> bool {
        self.password.as_deref().is_some_and(is_sealed)
    }

    pub(super) fn to_field(&self) -> String {
        // Text and numbers can always be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Seals the password of an account's proxy that Claude Relay Service wrote: whoever writes the record does.
///
/// # Errors
/// As [`Seals::seal`].
pub(super) fn seal_plain(key: &Key, seals: &Seals, fields: &mut Fields) -> Result<(), SealError> {
    let stored = fields.get(FIELD).and_then(|field| Stored::parse(field).ok().flatten());
    let Some(stored) = stored.filter(Stored::holds_plain_password) else { return Ok(()) };
    let password = stored.password.as_deref().map(|plain| Stored::seal(key, seals, plain)).transpose()?;
    fields.insert(FIELD.into(), Stored { password, ..stored }.to_field());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_claude_relay_service_writes_is_read() {
        for none in ["", "null", "{}"] {
            assert!(Stored::parse(none).unwrap().is_none());
        }
        let text = r#"{"type":"socks5","host":"h","port":"1080","username":"u","password":"p"}"#;
        let stored = Stored::parse(text).unwrap().unwrap();
        assert_eq!((stored.kind, stored.port.number()), (ProxyKind::Socks5, Some(1080)));
        for broken in ["x", r#"{"type":"ftp","host":"h","port":1}"#, r#"{"type":"http","host":"h","port":0}"#]
        {
            assert!(Stored::parse(broken).is_err(), "{broken}");
        }
    }
}
