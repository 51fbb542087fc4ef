//! How a command ends.

use serde_json::{Value, json};

use super::terminal::clean;

/// How a command ended that did what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Fine,
    /// Done, and something was found that wants attention. Exit status 1.
    Finding,
}

impl Outcome {
    pub(super) fn finding_if(found: bool) -> Self {
        if found { Self::Finding } else { Self::Fine }
    }
}

pub(super) type Result<T = Outcome> = std::result::Result<T, Failure>;

/// Why a command could not do what it was asked. Exit status 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// The server's code, or one of ours.
    pub(super) code: String,
    pub(super) detail: String,
    /// What to do about it.
    pub(super) hint: Option<String>,
    /// HTTP status, when a server answered.
    pub(super) status: Option<u16>,
}

impl Failure {
    pub(super) fn new(code: &str, detail: impl Into<String>) -> Self {
        Self { code: code.to_owned(), detail: detail.into(), hint: None, status: None }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Whether asking again may help: the server is busy, restarting or out of reach.
    pub(super) fn is_passing(&self) -> bool {
        self.code != "output" && self.status.is_none_or(|status| status >= 500)
    }

    /// For a terminal: one line, and one more with what to do.
    pub(super) fn text(&self) -> String {
        let hint = self.hint.as_ref().map(|hint| format!("\n  {hint}")).unwrap_or_default();
        clean(&format!("{} ({}){hint}", self.detail, self.code))
    }

    /// For a script.
    pub(super) fn json(&self) -> Value {
        json!({ "code": self.code, "detail": self.detail, "hint": self.hint, "status": self.status })
    }
}
