//! Credentials at rest. Each is sealed with AES-256-GCM under a data key of its own, which a key of the
//! installation wraps: `sy1.{wrapping key}.{wrapped data key}.{credential}`, in base64url.
//!
//! What is sealed belongs to one field of one record: moved elsewhere, it does not open. A new secret needs the
//! data keys wrapped anew, never the credentials themselves.

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::relay_service::RelayService;
use crate::secrets::{Derived, Purpose, Secrets};
use crate::store::Key;
use crate::store::secret::{FORM, is_relay_service};

/// Bytes of a nonce.
const NONCE: usize = 12;

/// Why a credential cannot be sealed or opened. None of these says anything of what is sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("it is not sealed in a form that is known here; enter the credential again")]
    Foreign,
    #[error("it was sealed with a secret that is not known here; name that in --old-secrets")]
    UnknownSecret,
    #[error("it is cut or damaged, or belongs to another record; enter the credential again")]
    Damaged,
    #[error("Claude Relay Service has sealed it, and its ENCRYPTION_KEY is not given")]
    NoRelayService,
    #[error(
        "it is cut or damaged, or ENCRYPTION_KEY is not the one that Claude Relay Service sealed it with"
    )]
    NotRelayService,
    #[error("this machine cannot seal: {0}")]
    Impossible(String),
}

/// How a credential is sealed, as far as that shows from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// With the secret in use.
    Current,
    /// With another secret: an older one, if it is known here.
    Older,
    /// As Claude Relay Service does it.
    RelayService,
    /// In no form that is known here; it may be in plain text.
    Foreign,
}

/// One field of one record.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub key: &'a Key,
    pub field: &'a str,
}

impl Place<'_> {
    fn label(&self, layer: &str) -> String {
        format!("{layer}:{}/{}", self.key, self.field)
    }
}

/// Seals and opens credentials.
pub struct Seals {
    /// The first seals; all open.
    keys: Vec<WrappingKey>,
    relay_service: Option<RelayService>,
}

struct WrappingKey {
    /// Tells keys apart, and nothing of them.
    id: String,
    key: Derived,
}

/// The parts of a sealed credential.
struct Envelope<'a> {
    wrapping_key: &'a str,
    data_key: Vec<u8>,
    credential: &'a str,
}

impl Seals {
    pub fn new(secrets: &Secrets) -> Self {
        let keys = secrets.derived(Purpose::Credential).into_iter();
        let keys = keys.map(|key| WrappingKey { id: name_of(&key), key }).collect();
        Self { keys, relay_service: secrets.relay_service().map(RelayService::new) }
    }

    /// Seals with the secret in use.
    ///
    /// # Errors
    /// `Impossible` when the system has no randomness.
    pub fn seal(&self, place: Place<'_>, plain: &str) -> Result<String, SealError> {
        let mut data_key = Derived::default();
        getrandom::fill(&mut *data_key).map_err(|error| SealError::Impossible(error.to_string()))?;
        let credential = lock(&data_key, &place.label("credential"), plain.as_bytes())?;
        self.wrap(place, &data_key, &BASE64.encode(credential))
    }

    /// Opens what any known secret, or Claude Relay Service, has sealed.
    ///
    /// # Errors
    /// Whenever it does not open: nothing is ever taken for plain text.
    pub async fn open(&self, place: Place<'_>, sealed: &str) -> Result<Zeroizing<String>, SealError> {
        if !sealed.starts_with(FORM) {
            let relay_service = self.relay_service.as_ref();
            return match is_relay_service(sealed) {
                true => relay_service.ok_or(SealError::NoRelayService)?.open(sealed).await,
                false => Err(SealError::Foreign),
            };
        }
        let envelope = Envelope::parse(sealed)?;
        let data_key = self.unwrap(place, &envelope)?;
        let credential = BASE64.decode(envelope.credential).map_err(|_| SealError::Damaged)?;
        let plain = unlock(&data_key, &place.label("credential"), &credential)?;
        let plain = std::str::from_utf8(&plain).map_err(|_| SealError::Damaged)?;
        Ok(Zeroizing::new(plain.to_owned()))
    }

    /// The same credential, sealed with the secret in use; none when it is already. Only what Claude Relay
    /// Service has sealed is opened for that.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn renew(&self, place: Place<'_>, sealed: &str) -> Result<Option<String>, SealError> {
        match self.form(sealed) {
            Form::Current => Ok(None),
            Form::Older => {
                let envelope = Envelope::parse(sealed)?;
                let data_key = self.unwrap(place, &envelope)?;
                self.wrap(place, &data_key, envelope.credential).map(Some)
            }
            Form::RelayService | Form::Foreign => {
                let plain = self.open(place, sealed).await?;
                self.seal(place, &plain).map(Some)
            }
        }
    }

    /// The same credential as Claude Relay Service seals it, so that it can be given back.
    ///
    /// # Errors
    /// As [`Self::open`]; `NoRelayService` without its key.
    pub async fn give_back(&self, place: Place<'_>, sealed: &str) -> Result<String, SealError> {
        let relay_service = self.relay_service.as_ref().ok_or(SealError::NoRelayService)?;
        let plain = self.open(place, sealed).await?;
        relay_service.seal(&plain).await
    }

    pub fn form(&self, sealed: &str) -> Form {
        let current = self.keys.first().map_or("", |key| &key.id);
        match sealed.strip_prefix(FORM) {
            Some(rest) if rest.split('.').next() == Some(current) => Form::Current,
            Some(_) => Form::Older,
            None if is_relay_service(sealed) => Form::RelayService,
            None => Form::Foreign,
        }
    }

    fn wrap(&self, place: Place<'_>, data_key: &Derived, credential: &str) -> Result<String, SealError> {
        let none = || SealError::Impossible("there is no secret".into());
        let WrappingKey { id, key } = self.keys.first().ok_or_else(none)?;
        let wrapped = BASE64.encode(lock(key, &place.label("data key"), &**data_key)?);
        Ok(format!("{FORM}{id}.{wrapped}.{credential}"))
    }

    fn unwrap(&self, place: Place<'_>, envelope: &Envelope<'_>) -> Result<Derived, SealError> {
        let known = self.keys.iter().find(|key| key.id == envelope.wrapping_key);
        let WrappingKey { key, .. } = known.ok_or(SealError::UnknownSecret)?;
        let data_key = unlock(key, &place.label("data key"), &envelope.data_key)?;
        let data_key = <[u8; 32]>::try_from(data_key.as_slice()).map_err(|_| SealError::Damaged)?;
        Ok(Zeroizing::new(data_key))
    }
}

impl<'a> Envelope<'a> {
    fn parse(sealed: &'a str) -> Result<Self, SealError> {
        let parts: Vec<_> = sealed.strip_prefix(FORM).ok_or(SealError::Foreign)?.split('.').collect();
        let [wrapping_key, data_key, credential] = parts[..] else { return Err(SealError::Damaged) };
        let data_key = BASE64.decode(data_key).map_err(|_| SealError::Damaged)?;
        Ok(Self { wrapping_key, data_key, credential })
    }
}

fn name_of(key: &Derived) -> String {
    let digest = Sha256::new().chain_update(b"switchyard wrapping key").chain_update(**key).finalize();
    hex::encode(&digest[..6])
}

fn lock(key: &Derived, label: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut nonce = [0; NONCE];
    getrandom::fill(&mut nonce).map_err(|error| SealError::Impossible(error.to_string()))?;
    let payload = Payload { msg: plain, aad: label.as_bytes() };
    let locked = Aes256Gcm::new((&**key).into()).encrypt((&nonce).into(), payload);
    let locked = locked.map_err(|_| SealError::Impossible("it is too long".into()))?;
    Ok([nonce.as_slice(), &locked].concat())
}

fn unlock(key: &Derived, label: &str, locked: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (nonce, locked) = locked.split_first_chunk::<NONCE>().ok_or(SealError::Damaged)?;
    let payload = Payload { msg: locked, aad: label.as_bytes() };
    let plain = Aes256Gcm::new((&**key).into()).decrypt(nonce.into(), payload);
    plain.map(Zeroizing::new).map_err(|_| SealError::Damaged)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::kind::ACCOUNT;

    const PLAIN: &str = "sk-ant-canary-0123456789";

    fn seals(secret: char, old: &[char]) -> Seals {
        let of = |c: &char| c.to_string().repeat(32);
        let old: Vec<_> = old.iter().map(of).collect();
        Seals::new(&Secrets::load(Some(&of(&secret)), &old, None, Path::new("/nonexistent")).unwrap())
    }

    fn key(id: &str) -> Key {
        Key::new(&ACCOUNT, id).unwrap()
    }

    fn place(key: &Key) -> Place<'_> {
        Place { key, field: "apiKey" }
    }

    #[tokio::test]
    async fn what_is_sealed_opens_in_its_place_alone() {
        let (seals, a, b) = (seals('a', &[]), key("a"), key("b"));
        let sealed = seals.seal(place(&a), PLAIN).unwrap();
        assert!(!sealed.contains("canary") && sealed.starts_with("sy1."), "{sealed}");
        assert_ne!(sealed, seals.seal(place(&a), PLAIN).unwrap(), "no two seals are alike");
        assert_eq!(seals.open(place(&a), &sealed).await.unwrap().as_str(), PLAIN);
        assert_eq!(seals.open(place(&b), &sealed).await, Err(SealError::Damaged));
        let elsewhere = Place { key: &a, field: "proxy" };
        assert_eq!(seals.open(elsewhere, &sealed).await, Err(SealError::Damaged));
    }

    #[tokio::test]
    async fn a_new_secret_wraps_anew_and_leaves_the_credential() {
        let (before, after, a) = (seals('a', &[]), seals('b', &['a']), key("a"));
        let sealed = before.seal(place(&a), PLAIN).unwrap();
        assert_eq!((before.form(&sealed), after.form(&sealed)), (Form::Current, Form::Older));
        let renewed = after.renew(place(&a), &sealed).await.unwrap().unwrap();
        assert_eq!(renewed.rsplit('.').next(), sealed.rsplit('.').next());
        assert_eq!(seals('b', &[]).open(place(&a), &renewed).await.unwrap().as_str(), PLAIN);
        assert_eq!(after.renew(place(&a), &renewed).await, Ok(None));
        assert_eq!(before.open(place(&a), &renewed).await, Err(SealError::UnknownSecret));
    }

    #[tokio::test]
    async fn what_is_cut_or_changed_or_plain_is_refused() {
        let (seals, a) = (seals('a', &[]), key("a"));
        let sealed = seals.seal(place(&a), PLAIN).unwrap();
        for end in 0..sealed.len() {
            assert!(seals.open(place(&a), &sealed[..end]).await.is_err(), "cut at {end}");
        }
        for at in FORM.len()..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(seals.open(place(&a), &changed).await.is_err(), "changed at {at}");
        }
        assert_eq!(seals.open(place(&a), PLAIN).await, Err(SealError::Foreign));
        assert_eq!(seals.open(place(&a), "").await, Err(SealError::Foreign));
    }
}
