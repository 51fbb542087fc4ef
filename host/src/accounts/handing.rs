//! Credentials on their way to and from Claude Relay Service: whether they open here, and sealed for them to open
//! there.

use async_trait::async_trait;

use super::account::CREDENTIAL;
use super::proxy::{self, Stored};
use super::seal::{Form, Place, SealError, Seals};
use crate::secrets::Secrets;
use crate::store::secret::is_sealed;
use crate::store::takeover::{Credentials, Opened};
use crate::store::{Fields, Key};

/// What a credential is sealed for that was found in plain text. It may be what is left of a sealed one, so that it is
/// never sent; that program is given back what it had.
const FOUND: &str = "apiKey as it was found";

/// The credentials of a database that is taken over or given back.
pub struct Handing {
    seals: Seals,
    /// Whether what that program has sealed can be opened.
    opens: bool,
}

impl Handing {
    pub fn new(secrets: &Secrets) -> Self {
        Self { seals: Seals::new(secrets), opens: secrets.relay_service().is_some() }
    }
}

#[async_trait]
impl Credentials for Handing {
    fn recognises(&self) -> bool {
        self.opens
    }

    async fn open(&self, key: &Key, fields: &Fields) -> Result<Opened, String> {
        let sealed = fields.get(CREDENTIAL).map_or("", String::as_str);
        let form = self.seals.form(sealed);
        match form {
            _ if sealed.is_empty() => Err("it has no credential".into()),
            // Nobody can tell more without the key.
            Form::RelayService if !self.opens && is_whole(sealed) => Ok(Opened::Otherwise),
            Form::RelayService if !self.opens => Err(SealError::Damaged.to_string()),
            _ => self
                .seals
                .open(Place { key, field: CREDENTIAL }, sealed)
                .await
                .map(|_| match form {
                    Form::RelayService => Opened::WithTheirKey,
                    _ => Opened::Otherwise,
                })
                .map_err(|why| why.to_string()),
        }
    }

    async fn reseal(&self, key: &Key, fields: &Fields) -> Result<Fields, String> {
        theirs(&self.seals, key, fields, Passwords::Opened).await.map_err(|error| error.to_string())
    }
}

/// What becomes of a proxy's password, which that program keeps in plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passwords {
    /// Only where nothing but that program reads the record any more.
    Opened,
    Refused,
}

/// Why that program cannot be given an account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotGiven {
    #[error(
        "its proxy has a password, which Claude Relay Service keeps in plain text: `switchyard give-back` hands it over"
    )]
    Password,
    #[error("the password of its proxy cannot be opened: {0}")]
    Proxy(SealError),
    #[error("ENCRYPTION_KEY is not given; its credential has to be entered again")]
    NoRelayService,
    #[error("{0}")]
    Credential(SealError),
}

/// Seals what Claude Relay Service left in plain text in an account: whoever writes the record does.
///
/// # Errors
/// As [`Seals::seal`].
pub(super) fn seal_plain(key: &Key, seals: &Seals, fields: &mut Fields) -> Result<(), SealError> {
    proxy::seal_plain(key, seals, fields)?;
    if let Some(plain) = fields.get(CREDENTIAL).filter(|text| !text.is_empty() && !is_sealed(text)) {
        let sealed = seals.seal(Place { key, field: FOUND }, plain)?;
        fields.insert(CREDENTIAL.into(), sealed);
    }
    Ok(())
}

/// The fields of an account that have to change so that Claude Relay Service can open it. None when it can.
pub(super) async fn theirs(
    seals: &Seals,
    key: &Key,
    fields: &Fields,
    passwords: Passwords,
) -> Result<Fields, NotGiven> {
    let mut changed = Fields::new();
    let proxy = fields.get(proxy::FIELD).and_then(|field| Stored::parse(field).ok().flatten());
    if let Some(proxy) = proxy.filter(Stored::holds_sealed_password) {
        if passwords == Passwords::Refused {
            return Err(NotGiven::Password);
        }
        let opened = proxy.in_plain_text(key, seals).await.map_err(NotGiven::Proxy)?;
        changed.insert(proxy::FIELD.into(), opened);
    }
    let sealed = fields.get(CREDENTIAL).map_or("", String::as_str);
    if matches!(seals.form(sealed), Form::Current | Form::Older) {
        if passwords == Passwords::Opened
            && let Ok(found) = seals.open(Place { key, field: FOUND }, sealed).await
        {
            changed.insert(CREDENTIAL.into(), found.as_str().to_owned());
            return Ok(changed);
        }
        let given = seals.give_back(Place { key, field: CREDENTIAL }, sealed).await;
        let given = given.map_err(|error| match error {
            SealError::NoRelayService => NotGiven::NoRelayService,
            error => NotGiven::Credential(error),
        })?;
        changed.insert(CREDENTIAL.into(), given);
    }
    Ok(changed)
}

/// Whether what that program has sealed has all its blocks, as far as its length tells.
fn is_whole(sealed: &str) -> bool {
    sealed.split_once(':').is_some_and(|(_, blocks)| !blocks.is_empty() && blocks.len().is_multiple_of(32))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::kind::ACCOUNT;

    fn handing(relay_service: Option<&str>) -> Handing {
        let secret = "s".repeat(32);
        Handing::new(&Secrets::load(Some(&secret), &[], relay_service, Path::new("/nonexistent")).unwrap())
    }

    fn fields(credential: &str) -> Fields {
        Fields::from([(CREDENTIAL.to_owned(), credential.to_owned())])
    }

    #[tokio::test]
    async fn a_credential_that_was_cut_is_told_from_a_whole_one_without_being_told() {
        let key = Key::new(&ACCOUNT, "a").unwrap();
        let (iv, block) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
        let without = handing(None);
        let whole = fields(&format!("{iv}:{block}"));
        assert_eq!(without.open(&key, &whole).await, Ok(Opened::Otherwise));
        for cut in ["sk-ant-plain", iv, &format!("{iv}:"), &format!("{iv}:{}", &block[2..]), ":"] {
            let refused = without.open(&key, &fields(cut)).await.unwrap_err();
            assert!(cut == ":" || !refused.contains(cut), "{refused}");
        }
        assert!(handing(Some("key")).open(&key, &fields(&format!("{iv}:{block}"))).await.is_err());
    }

    #[tokio::test]
    async fn what_was_found_in_plain_text_is_sealed_never_sent_and_given_back() {
        let key = Key::new(&ACCOUNT, "a").unwrap();
        let (with, mut account) = (handing(Some("key")), fields("sk-ant-plain"));
        account.insert("proxy".into(), r#"{"type":"http","host":"h","port":1,"password":"p"}"#.into());
        let before = account.clone();
        seal_plain(&key, &with.seals, &mut account).unwrap();
        assert_eq!(with.seals.form(&account[CREDENTIAL]), Form::Current);
        assert!(with.open(&key, &account).await.is_err(), "nobody can tell whether it was cut");
        assert_eq!(with.reseal(&key, &account).await, Ok(before));
    }

    #[tokio::test]
    async fn what_is_sealed_here_is_sealed_for_them() {
        let key = Key::new(&ACCOUNT, "a").unwrap();
        let with = handing(Some("key"));
        let ours = with.seals.seal(Place { key: &key, field: CREDENTIAL }, "sk-upstream").unwrap();
        let theirs = with.reseal(&key, &fields(&ours)).await.unwrap();
        assert_eq!(with.seals.form(&theirs[CREDENTIAL]), Form::RelayService);
        assert_eq!(with.open(&key, &theirs).await, Ok(Opened::WithTheirKey));
        assert!(with.reseal(&key, &theirs).await.unwrap().is_empty());
        assert!(handing(None).reseal(&key, &fields(&ours)).await.unwrap_err().contains("ENCRYPTION_KEY"));
    }
}
