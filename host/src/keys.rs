//! API keys: who may use the relay, and within which bounds. Records as Claude Relay Service has them.
//!
//! # Layout
//! - `api_key`: a key as its record says; `limits`: its bounds
//! - `hash`: what is kept of a key
//! - `lookup`: from what a client presents to its key, also while an older one has its grace
//! - `activity`: what use writes
//! - `content`: what an admin may set; `view`: what an admin sees; `shape`: how that is described
//! - `lifecycle`: from creation to the end; `rotation`: a new key in place of the old one
//! - `theirs`: keys that cannot be recognised here
//! - `amend`: changes that depend on what is there
//!
//! A client's key itself is kept nowhere, and shown once.

mod activity;
mod amend;
mod api_key;
mod content;
mod hash;
mod lifecycle;
mod limits;
mod lookup;
mod rotation;
mod shape;
mod theirs;
mod view;

use std::sync::Arc;

use activity::Activity;
use hash::Hashes;

pub use api_key::ApiKey;
pub use content::Content;
pub use lifecycle::{Changed, Issued};
pub use limits::KeyLimits;
pub use shape::Shape;
pub use view::view;

use crate::secrets::Secrets;
use crate::store::StoreError;
use crate::strategy::records::Records;

/// What keys begin with unless it is configured.
pub const PREFIX: &str = "cr_";

/// Why a client is not let in. Displays as a sentence for the person in front of the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "No API key was sent. Set ANTHROPIC_AUTH_TOKEN or ANTHROPIC_API_KEY to the key that you were given."
    )]
    Missing,
    #[error("This is not an API key of this relay: a key has 10 to 512 visible ASCII characters.")]
    Malformed,
    #[error("This API key is not known here. Check it for a typing error, or ask whoever runs this relay.")]
    Unknown,
    #[error("This API key is disabled. Ask whoever runs this relay to enable it.")]
    Disabled,
    #[error("This API key was deleted. Ask whoever runs this relay for a new one.")]
    Deleted,
    /// Holds the moment, or what stands in its place.
    #[error("This API key expired ({0}). Ask whoever runs this relay to extend it.")]
    Expired(String),
    /// Holds the name of the field.
    #[error("A limit of this API key ({0}) is no number. Ask whoever runs this relay to set it again.")]
    Unreadable(&'static str),
    #[error("The relay cannot check API keys at this moment. Try again shortly.")]
    Store(StoreError),
}

/// Why an admin's request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("there is no such API key")]
    NotFound,
    /// Names the field, never its value.
    #[error("{0}")]
    Invalid(String),
    #[error("the API key is deleted; restore it first")]
    Deleted,
    #[error("the API key is not deleted")]
    NotDeleted,
    /// Holds when the first of the graces ends.
    #[error(
        "{most} keys that this one replaced still have their grace: the first one ends at {0:.0}; regenerate then, or \
         without a grace, which ends all of them",
        most = rotation::MAX_PREVIOUS
    )]
    Graces(jiff::Timestamp),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The API keys of an installation.
pub struct Keys {
    records: Arc<Records>,
    hashes: Hashes,
    prefix: String,
    activity: Activity,
}

impl Keys {
    /// `prefix`: what new keys begin with. Must be used within a tokio runtime.
    pub fn new(records: Arc<Records>, secrets: &Secrets, prefix: &str) -> Self {
        let (hashes, activity) = (Hashes::new(secrets), Activity::default());
        Self { records, hashes, prefix: prefix.to_owned(), activity }
    }
}
