//! Why a component may not become active.

/// A refusal: a code that stays the same between releases, and a sentence that tells an author what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    pub code: &'static str,
    pub message: String,
}

pub const NOT_A_COMPONENT: &str = "not-a-component";
pub const MISSING_EXPORT: &str = "missing-export";
pub const IMPORT_NOT_ALLOWED: &str = "import-not-allowed";
pub const CONTRACT_MISMATCH: &str = "contract-mismatch";
pub const TOO_LARGE: &str = "too-large";
pub const NEEDS_MORE_MEMORY: &str = "needs-more-memory";
pub const STORE_NOT_CONFIGURED: &str = "store-not-configured";
pub const SMOKE_FAILED: &str = "smoke-failed";
/// Not about the component: too many are waiting to be checked. Repeat later.
pub const BUSY: &str = "busy";

impl Refusal {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The stores a strategy imports, or those that are configured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Needs {
    pub redis: bool,
    pub postgres: bool,
}
