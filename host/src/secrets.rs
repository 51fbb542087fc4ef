//! The secrets of an installation: what seals credentials and salts the hashes of keys.
//!
//! Every node of an installation has the same ones. Nothing here is ever logged or answered.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The file in the data folder that holds a generated secret.
pub const FILE: &str = "secret";
/// The least bytes of a secret.
const LEAST: usize = 32;

/// A derived key of 256 bits; wiped when it is dropped.
pub type Derived = Zeroizing<[u8; 32]>;

/// What is derived from a secret, each of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Hashes of API keys.
    ApiKey,
    /// Wraps the keys that credentials are sealed with.
    Credential,
    /// Tells nodes whether they have one in common, and nothing else.
    Fingerprint,
}

/// The secrets of an installation.
pub struct Secrets {
    /// The one in use, then those before it: still read, not written any more.
    ours: Vec<Zeroizing<String>>,
    /// Claude Relay Service's `ENCRYPTION_KEY`.
    relay_service: Option<Zeroizing<String>>,
}

impl Secrets {
    /// Takes those that are given, or the one in the data folder, which is made on the first start.
    ///
    /// # Errors
    /// When one is too short, or the file can be neither read nor made.
    pub fn load(
        given: Option<&str>,
        old: &[String],
        relay_service: Option<&str>,
        data: &Path,
    ) -> Result<Self> {
        let newest = match given {
            Some(given) => Zeroizing::new(given.trim().to_owned()),
            None => from_file(&data.join(FILE))?,
        };
        let old = old.iter().map(|old| Zeroizing::new(old.trim().to_owned()));
        let ours: Vec<_> = [newest].into_iter().chain(old).collect();
        let long = ours.iter().all(|secret| secret.len() >= LEAST);
        ensure!(long, "--secret (SWITCHYARD_SECRET) and the old ones have at least {LEAST} characters each");
        let relay_service = relay_service.map(|key| Zeroizing::new(key.to_owned()));
        Ok(Self { ours, relay_service })
    }

    /// The keys of a purpose: the one to write with, then those that may have been written with.
    pub fn derived(&self, purpose: Purpose) -> Vec<Derived> {
        self.ours.iter().map(|secret| derive(secret, purpose)).collect()
    }

    /// What each is known by among nodes: 64 bits in hex.
    pub fn fingerprints(&self) -> Vec<String> {
        self.derived(Purpose::Fingerprint).iter().map(|print| hex::encode(&print[..8])).collect()
    }

    /// Claude Relay Service's `ENCRYPTION_KEY`, if it is known.
    pub fn relay_service(&self) -> Option<&str> {
        self.relay_service.as_ref().map(|key| key.as_str())
    }
}

fn derive(secret: &str, purpose: Purpose) -> Derived {
    let label: &[u8] = match purpose {
        Purpose::ApiKey => b"switchyard api key",
        Purpose::Credential => b"switchyard credential",
        Purpose::Fingerprint => b"switchyard fingerprint",
    };
    // A key of any length will do.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return Derived::default() };
    mac.update(label);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn from_file(path: &Path) -> Result<Zeroizing<String>> {
    let about = || format!("the secret in {}", path.display());
    match fs::read_to_string(path) {
        Ok(secret) => return Ok(Zeroizing::new(secret.trim().to_owned())),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(about);
        }
        Err(_) => {}
    }
    let mut random = Zeroizing::new([0; LEAST]);
    getrandom::fill(&mut *random).context("no randomness for a secret")?;
    let secret = Zeroizing::new(hex::encode(*random));
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(about)?;
    file.write_all(secret.as_bytes()).and_then(|()| file.sync_all()).with_context(about)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_reads_it() {
        let data = tempfile::tempdir().unwrap();
        let load = || Secrets::load(None, &[], None, data.path()).unwrap();
        let first = load().derived(Purpose::ApiKey);
        assert_eq!(first, load().derived(Purpose::ApiKey));
        assert_ne!(first, load().derived(Purpose::Credential));
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(data.path().join(FILE)).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_given_one_is_written_with_and_old_ones_are_still_read() {
        let (new, old) = ("n".repeat(32), "o".repeat(32));
        let data = Path::new("/nonexistent");
        let secrets = Secrets::load(Some(&new), std::slice::from_ref(&old), None, data).unwrap();
        let alone = Secrets::load(Some(&old), &[], None, data).unwrap();
        assert_eq!(secrets.derived(Purpose::ApiKey)[1], alone.derived(Purpose::ApiKey)[0]);
        assert!(Secrets::load(Some("short"), &[], None, data).is_err());
    }
}
