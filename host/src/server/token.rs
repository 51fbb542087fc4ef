//! The admin token: configured, or generated once and kept in the data folder.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const SHORTEST: usize = 32;
const FEWEST_CHARACTERS: usize = 10;

/// The token, and whether this start has generated it.
pub(super) struct AdminToken {
    pub(super) token: String,
    pub(super) is_new: bool,
}

impl AdminToken {
    /// # Errors
    /// When the token is weak, or the data folder cannot keep one.
    pub(super) fn load(configured: Option<&str>, data: &Path) -> Result<Self> {
        if let Some(token) = configured {
            check(token).context("--admin-token (SWITCHYARD_ADMIN_TOKEN)")?;
            return Ok(Self { token: token.into(), is_new: false });
        }
        let path = data.join("admin-token");
        let reading = || format!("the admin token in {}", path.display());
        match fs::read_to_string(&path) {
            Ok(kept) => {
                let token = kept.trim().to_owned();
                check(&token).with_context(reading)?;
                Ok(Self { token, is_new: false })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let token = generate()?;
                keep(&path, &token).with_context(reading)?;
                Ok(Self { token, is_new: true })
            }
            Err(error) => Err(error).with_context(reading),
        }
    }
}

fn generate() -> Result<String> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    Ok(format!("sy_{}", hex::encode(random)))
}

/// Whole or not at all: a start that was interrupted must not leave half a token.
fn keep(path: &Path, token: &str) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(format!("{token}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

fn check(token: &str) -> Result<()> {
    let characters = token.chars().collect::<BTreeSet<_>>().len();
    let lower = token.to_lowercase();
    ensure!(token.len() >= SHORTEST, "a token has at least {SHORTEST} characters");
    ensure!(token.bytes().all(|b| b.is_ascii_graphic()), "a token has visible ASCII characters only");
    ensure!(characters >= FEWEST_CHARACTERS, "a token has at least {FEWEST_CHARACTERS} different characters");
    ensure!(
        !lower.contains("changeme") && !lower.contains("password"),
        "a token that says changeme or password is guessed first"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn weak_tokens_are_refused() {
        assert!(check("0123456789abcdef0123456789abcdef").is_ok());
        for weak in [
            "",
            "0123456789abcdef0123456789abcde",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "changeme-0123456789abcdef0123456789",
            "0123456789-MyPassWord-0123456789abcdef",
            "0123456789abcdef 0123456789abcdef",
        ] {
            assert!(check(weak).is_err(), "{weak}");
        }
    }

    #[test]
    fn a_generated_token_is_kept_for_its_owner_alone() {
        let data = tempfile::tempdir().unwrap();
        let first = AdminToken::load(None, data.path()).unwrap();
        let second = AdminToken::load(None, data.path()).unwrap();
        assert!(first.is_new && !second.is_new);
        assert_eq!(first.token, second.token);
        check(&first.token).unwrap();
        let mode = fs::metadata(data.path().join("admin-token")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
