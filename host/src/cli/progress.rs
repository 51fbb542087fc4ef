//! How far a long work has come, on stderr.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::table::text;
use super::terminal::note;

/// A bar on a terminal, else a line per ten per cent; nothing for a script.
pub(super) enum Progress {
    Bar(ProgressBar),
    Lines { tenths: u64 },
    Silent,
}

impl Progress {
    pub(super) fn new(json: bool) -> Self {
        match std::io::stderr().is_terminal() {
            true => Self::Bar(ProgressBar::no_length()),
            false if json => Self::Silent,
            false => Self::Lines { tenths: 0 },
        }
    }

    /// Shows how far this operation is.
    pub(super) fn show(&mut self, operation: &Value) {
        let done = operation["done"].as_u64().unwrap_or(0);
        let total = operation["total"].as_u64().filter(|total| *total > 0);
        match self {
            Self::Bar(bar) => {
                let style = match total {
                    Some(_) => "{msg} [{bar:30}] {percent} % ({pos} of {len}), {eta} left",
                    None => "{msg} {spinner} {pos}",
                };
                if bar.length() != total || bar.message().is_empty() {
                    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| bar.style()));
                    bar.set_message(text(&operation["kind"]));
                }
                if let Some(total) = total {
                    bar.set_length(total);
                }
                bar.set_position(done);
            }
            Self::Lines { tenths } => {
                let Some(total) = total else { return };
                let reached = (done.min(total) * 10).checked_div(total).unwrap_or(0);
                if reached > *tenths {
                    *tenths = reached;
                    note(&format!("{}: {} % ({done} of {total})", text(&operation["kind"]), reached * 10));
                }
            }
            Self::Silent => {}
        }
    }

    /// Removes the bar.
    pub(super) fn clear(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
