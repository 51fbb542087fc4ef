//! What is kept of a key: enough to recognise it, and to nobody of use.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::secrets::{Purpose, Secrets};

/// One way to hash a key.
enum Hash {
    /// As Claude Relay Service does it: the key, then its `ENCRYPTION_KEY`.
    RelayService(Zeroizing<String>),
    /// With a pepper of ours.
    Peppered(Box<Hmac<Sha256>>),
}

/// How keys are hashed now, and how they may have been before.
pub(super) struct Hashes(Vec<Hash>);

impl Hashes {
    /// As Claude Relay Service does it where its key is known, so that it could go on; else with our own secret.
    pub(super) fn new(secrets: &Secrets) -> Self {
        let theirs = secrets.relay_service().map(|key| Hash::RelayService(Zeroizing::new(key.to_owned())));
        let ours = secrets.derived(Purpose::ApiKey);
        // A key of any length will do.
        let ours = ours.iter().filter_map(|key| Hmac::new_from_slice(&key[..]).ok());
        Self(theirs.into_iter().chain(ours.map(|mac| Hash::Peppered(Box::new(mac)))).collect())
    }

    /// The hash that new keys get, in hex.
    pub(super) fn newest(&self, key: &str) -> String {
        self.all(key).next().unwrap_or_default()
    }

    /// The hashes that a key may be known by, the newest first.
    pub(super) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = String> + Send + 'a {
        self.0.iter().map(move |hash| hash.of(key))
    }
}

impl Hash {
    fn of(&self, key: &str) -> String {
        match self {
            Self::RelayService(salt) => {
                hex::encode(Sha256::new().chain_update(key).chain_update(salt.as_bytes()).finalize())
            }
            Self::Peppered(mac) => {
                let mut mac = mac.clone();
                mac.update(key.as_bytes());
                hex::encode(mac.finalize().into_bytes())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn hashes(old: &[String], theirs: Option<&str>) -> Hashes {
        let secret = "s".repeat(32);
        Hashes::new(&Secrets::load(Some(&secret), old, theirs, Path::new("/nonexistent")).unwrap())
    }

    #[test]
    fn a_key_of_claude_relay_service_has_its_hash() {
        // printf '%s' 'cr_0123abcdefENCRYPTION' | sha256sum
        let expected = hex::encode(Sha256::digest("cr_0123abcdefENCRYPTION"));
        let hashes = hashes(&[], Some("ENCRYPTION"));
        assert_eq!(hashes.newest("cr_0123abcdef"), expected);
        assert_eq!(hashes.all("cr_0123abcdef").count(), 2);
    }

    #[test]
    fn without_its_key_the_pepper_decides_and_old_peppers_are_tried() {
        let old = "o".repeat(32);
        let (alone, rotated) = (hashes(&[], None), hashes(std::slice::from_ref(&old), None));
        assert_ne!(alone.newest("cr_a"), hex::encode(Sha256::digest("cr_a")));
        assert_eq!(alone.newest("cr_a"), rotated.newest("cr_a"));
        let all: Vec<_> = rotated.all("cr_a").collect();
        assert!(all.len() == 2 && all[0] != all[1]);
    }
}
