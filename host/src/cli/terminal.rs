//! All that a command reads from and writes to the terminal.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::failure::{Failure, Result};

/// The longest answer to a question that is read, in bytes.
const LONGEST_ANSWER: u64 = 1_024;

/// Writes to stdout, with a newline. Fails when nobody reads it any more.
pub(super) fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::new("output", format!("writing the answer: {error}")))
}

/// Writes a value to stdout, as one line of JSON.
pub(super) fn print_json(value: &Value) -> Result<()> {
    print(&value.to_string())
}

/// Writes to stderr. Nothing is left to do when that fails.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Says on stderr why something failed.
pub(super) fn complain(failure: &Failure, json: bool) {
    match json {
        true => note(&failure.json().to_string()),
        false => note(&format!("switchyard: {}", failure.text())),
    }
}

/// Where stdout is a terminal, what is printed next stands alone on it.
pub(super) fn clear_screen() -> Result<()> {
    match std::io::stdout().is_terminal() {
        true => print("\x1b[2J\x1b[H"),
        false => Ok(()),
    }
}

/// Text of a server without what a terminal would take as a command.
pub(super) fn clean(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => "\n".to_owned(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(shown).collect()
}

/// Fails when there is nobody who could be asked: before anything is begun.
pub(super) fn can_ask(force: bool) -> Result<()> {
    if force || (std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Ok(());
    }
    let detail = "this changes something, and there is no terminal to ask on; nothing was done";
    Err(Failure::new("not-confirmed", detail).hint("--force goes on without asking"))
}

/// Asks whether to go on, unless `force`. Waits for as long as the person does.
pub(super) async fn confirm(force: bool, question: &str) -> Result<()> {
    can_ask(force)?;
    if force {
        return Ok(());
    }
    // Listens before it asks: the person may be quick.
    let listening = signal(SignalKind::interrupt());
    let mut interrupts = listening.map_err(|error| Failure::new("internal", error.to_string()))?;
    let _ = write!(std::io::stderr().lock(), "{} [y/N] ", clean(question));
    let answer = tokio::select! {
        answer = line() => answer,
        _ = interrupts.recv() => String::new(),
    };
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new("declined", "nothing was done")),
    }
}

/// A line of stdin. Read on a thread of its own, which the end of the program does not wait for.
async fn line() -> String {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = std::io::stdin().lock().take(LONGEST_ANSWER).read_line(&mut line);
        let _ = sender.send(line);
    });
    receiver.await.unwrap_or_default()
}
