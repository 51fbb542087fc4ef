//! Credentials as Claude Relay Service seals them: AES-256-CBC under a key that scrypt makes of its
//! `ENCRYPTION_KEY`, written `hex(iv):hex(ciphertext)`.
//!
//! Nothing authenticates them. A credential is printable ASCII, which no padding is: so one that was cut between
//! two blocks ends in no valid padding, and what a wrong key opens is no credential.

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::seal::SealError;
use crate::secrets::Derived;

/// The salt of its kind of account that is known here.
const SALT: &[u8] = b"claude-console-salt";
/// Bytes of an initialisation vector, and of a block.
const BLOCK: usize = 16;

/// Opens and seals as Claude Relay Service does.
pub(super) struct RelayService {
    password: Zeroizing<String>,
    /// Made once: it takes tens of milliseconds and 16 MiB.
    key: OnceCell<Derived>,
}

impl RelayService {
    pub(super) fn new(encryption_key: &str) -> Self {
        Self { password: Zeroizing::new(encryption_key.to_owned()), key: OnceCell::new() }
    }

    pub(super) async fn open(&self, sealed: &str) -> Result<Zeroizing<String>, SealError> {
        let (iv, sealed) = sealed.split_once(':').ok_or(SealError::Foreign)?;
        let mut vector = [0; BLOCK];
        hex::decode_to_slice(iv, &mut vector).map_err(|_| SealError::Foreign)?;
        let sealed = hex::decode(sealed).map_err(|_| SealError::NotRelayService)?;
        let cipher = cbc::Decryptor::<Aes256>::new((&**self.key().await?).into(), (&vector).into());
        let plain = cipher.decrypt_padded_vec::<Pkcs7>(&sealed).map_err(|_| SealError::NotRelayService)?;
        let plain = Zeroizing::new(plain);
        match std::str::from_utf8(&plain) {
            Ok(plain) if is_credential(plain) => Ok(Zeroizing::new(plain.to_owned())),
            _ => Err(SealError::NotRelayService),
        }
    }

    pub(super) async fn seal(&self, plain: &str) -> Result<String, SealError> {
        let mut vector = [0; BLOCK];
        getrandom::fill(&mut vector).map_err(|error| SealError::Impossible(error.to_string()))?;
        let cipher = cbc::Encryptor::<Aes256>::new((&**self.key().await?).into(), (&vector).into());
        let sealed = cipher.encrypt_padded_vec::<Pkcs7>(plain.as_bytes());
        Ok(format!("{}:{}", hex::encode(vector), hex::encode(sealed)))
    }

    /// Off the threads that serve.
    async fn key(&self) -> Result<&Derived, SealError> {
        let make = || async {
            let password = self.password.clone();
            let made = spawn_blocking(move || derive(&password)).await;
            made.unwrap_or_else(|error| Err(SealError::Impossible(error.to_string())))
        };
        self.key.get_or_try_init(make).await
    }
}

/// Whether a header can carry it as a credential.
pub(super) fn is_credential(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// With what Node.js takes unless told otherwise.
fn derive(password: &str) -> Result<Derived, SealError> {
    let impossible = |error: &dyn std::fmt::Display| SealError::Impossible(error.to_string());
    let params = scrypt::Params::new(14, 8, 1).map_err(|error| impossible(&error))?;
    let mut key = Derived::default();
    scrypt::scrypt(password.as_bytes(), SALT, &params, &mut *key).map_err(|error| impossible(&error))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "sk-ant-api03-canary-of-claude-relay-service";

    fn relay_service() -> RelayService {
        RelayService::new("test-encryption-key-32-chars-long")
    }

    #[tokio::test]
    async fn what_node_has_sealed_opens() {
        // Made by Node.js: `createCipheriv('aes-256-cbc', scryptSync(KEY, 'claude-console-salt', 32), iv)`.
        let sealed = concat!(
            "000102030405060708090a0b0c0d0e0f:",
            "43687988a6d2ddb1c5c9b7c3aada6b1546a94ced8c87aec4",
            "c1017b714e6c066bcbd45f074016f80a212bb11c2dad2e04"
        );
        assert_eq!(relay_service().open(sealed).await.unwrap().as_str(), PLAIN);
    }

    #[tokio::test]
    async fn what_is_cut_or_sealed_with_another_key_is_refused() {
        let relay_service = relay_service();
        let sealed = relay_service.seal(PLAIN).await.unwrap();
        assert_eq!(relay_service.open(&sealed).await.unwrap().as_str(), PLAIN);
        for end in 0..sealed.len() {
            let cut = relay_service.open(&sealed[..end]).await;
            assert!(cut.is_err(), "cut at {end}: {cut:?}");
        }
        let other = RelayService::new("another key");
        assert_eq!(other.open(&sealed).await, Err(SealError::NotRelayService));
    }
}
