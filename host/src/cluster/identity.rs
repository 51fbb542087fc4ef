//! The id of a node, and the proof that it is this node's: a random text in its data folder.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// The longest id that may be configured, in bytes.
const LONGEST: usize = 64;

/// Who this node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The id: configured, or the host's name with a random suffix.
    pub node: String,
    /// Tells this node's data folder from all others.
    pub holder: String,
    /// By what the secrets of this node are known.
    #[serde(skip)]
    pub fingerprints: Vec<String>,
}

impl Identity {
    /// Reads what the data folder keeps, or makes it. A configured id takes the place of the one kept.
    ///
    /// # Errors
    /// When the configured id is malformed, or the folder cannot keep the identity.
    pub fn load(configured: Option<&str>, data: &Path) -> Result<Self> {
        if let Some(id) = configured {
            check(id).context("--node-id (SWITCHYARD_NODE_ID)")?;
        }
        let path = data.join("node.json");
        let doing = || format!("the identity of this node in {}", path.display());
        let kept = match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).with_context(doing)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let made = Self::make()?;
                made.keep(&path).with_context(doing)?;
                made
            }
            Err(error) => return Err(error).with_context(doing),
        };
        Ok(match configured {
            Some(id) => Self { node: id.to_owned(), ..kept },
            None => kept,
        })
    }

    fn make() -> Result<Self> {
        let mut random = [0; 19];
        getrandom::fill(&mut random)?;
        let (suffix, holder) = random.split_at(3);
        Ok(Self {
            node: format!("{}-{}", host_name(), hex::encode(suffix)),
            holder: hex::encode(holder),
            fingerprints: Vec::new(),
        })
    }

    /// Whole or not at all.
    fn keep(&self, path: &Path) -> Result<()> {
        let draft = path.with_extension("json.new");
        fs::write(&draft, serde_json::to_vec(self)?)?;
        fs::File::open(&draft)?.sync_all()?;
        Ok(fs::rename(&draft, path)?)
    }
}

fn check(id: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    ensure!(
        !id.is_empty() && id.len() <= LONGEST && id.chars().all(allowed),
        "an id has 1 to {LONGEST} of the characters a-z A-Z 0-9 . _ -"
    );
    Ok(())
}

/// The host's name, as far as it has characters that an id may have.
fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().take(LONGEST - 7).collect();
    if check(&name).is_ok() { name } else { "node".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_identity_and_a_configured_id_is_not_kept() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = Identity::load(None, folder.path()).unwrap();
        assert_eq!(Identity::load(None, folder.path()).unwrap(), first);
        let named = Identity::load(Some("a"), folder.path()).unwrap();
        assert_eq!((named.node.as_str(), &named.holder), ("a", &first.holder));
        assert_eq!(Identity::load(None, folder.path()).unwrap(), first);
        let second = Identity::load(None, other.path()).unwrap();
        assert!(second.node != first.node && second.holder != first.holder);
    }

    #[test]
    fn a_malformed_id_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for id in ["", "a b", "ä", &"a".repeat(65)] {
            let error = format!("{:#}", Identity::load(Some(id), folder.path()).unwrap_err());
            assert!(error.contains("--node-id"), "{id}: {error}");
        }
    }
}
