//! Long works in the server: begun, followed to their end, listed, cancelled.

use std::time::Duration;

use clap::Subcommand;
use reqwest::header::ACCEPT;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tokio::time::Instant;

use super::client::{Answer, Client};
use super::failure::{Failure, Outcome, Result};
use super::progress::Progress;
use super::stream::Stream;
use super::table::{NOTHING, items, table, text, time};
use super::{report, terminal};

/// Between two looks at an operation whose stream cannot be read.
const POLL: Duration = Duration::from_millis(500);
/// A stream that is silent for this long is given up, and the operation asked after instead.
const SILENCE: Duration = Duration::from_secs(5);

#[derive(Subcommand)]
pub(super) enum Command {
    /// Running and recent operations.
    List,
    /// One operation and its result. Exit status 1 when it failed, was cancelled or found something.
    Show {
        #[arg(value_parser = id)]
        id: String,
    },
    /// Ends a running operation. What it has done stays; starting it again goes on from there.
    Cancel {
        #[arg(value_parser = id)]
        id: String,
    },
}

/// An id goes into a path, where these mean something else.
fn id(text: &str) -> std::result::Result<String, &'static str> {
    match text {
        "" | "." | ".." => Err("that is no id of an operation"),
        id => Ok(id.to_owned()),
    }
}

pub(super) async fn run(client: &Client, command: Command) -> Result {
    match command {
        Command::List => list(client).await,
        Command::Show { id } => {
            let operation = client.get(&path(&id)).await?;
            show(client, &operation)?;
            let trouble = matches!(operation["state"].as_str(), Some("failed" | "cancelled"));
            Ok(Outcome::finding_if(trouble || report::found(&operation)))
        }
        Command::Cancel { id } => {
            let operation = client.delete(&path(&id)).await?;
            if client.json {
                terminal::print_json(&operation)?;
            } else {
                terminal::print(&format!(
                    "Operation {}: {}",
                    text(&operation["id"]),
                    text(&operation["state"])
                ))?;
            }
            Ok(Outcome::Fine)
        }
    }
}

fn path(id: &str) -> [&str; 3] {
    ["admin", "operations", id]
}

async fn list(client: &Client) -> Result {
    let answer = client.get(&["admin", "operations"]).await?;
    if client.json {
        terminal::print_json(&answer)?;
        return Ok(Outcome::Fine);
    }
    let operations = if answer.is_array() { items(&answer) } else { items(&answer["operations"]) };
    if operations.is_empty() {
        terminal::print("No operations.")?;
        return Ok(Outcome::Fine);
    }
    let rows = operations.iter().map(|operation| {
        let (done, total) = (text(&operation["done"]), text(&operation["total"]));
        let of = if total == NOTHING { done } else { format!("{done} of {total}") };
        let (id, state) = (text(&operation["id"]), text(&operation["state"]));
        [id, report::kind(operation), state, of, time(&operation["started_at"]), text(&operation["node"])]
    });
    terminal::print(&table(["ID", "KIND", "STATE", "DONE", "STARTED (UTC)", "NODE"], rows))?;
    Ok(Outcome::Fine)
}

/// Prints an operation with its result.
pub(super) fn show(client: &Client, operation: &Value) -> Result<()> {
    match client.json {
        true => terminal::print_json(operation),
        false => terminal::print(&report::operation(operation)),
    }
}

/// Begins an operation, follows it to its end and gives what became of it.
///
/// # Errors
/// It was refused, failed or was cancelled, or the server cannot say what became of it.
pub(super) async fn complete(client: &Client, request: RequestBuilder) -> Result<Value> {
    let answer = client.send(request).await?;
    let begun = begun(client, answer).await?;
    if has_ended(&begun) {
        return succeeded(begun);
    }
    let id = begun["id"].as_str().unwrap_or_default().to_owned();
    let mut progress = Progress::new(client.json);
    progress.show(&begun);
    let ended = tokio::select! {
        ended = follow(client, &id, &mut progress) => ended,
        _ = tokio::signal::ctrl_c() => Err(goes_on("interrupted", &id, "no longer followed")),
    };
    progress.clear();
    succeeded(ended?)
}

/// The operation that a request has begun: in the answer, or where the answer points.
async fn begun(client: &Client, answer: Answer) -> Result<Value> {
    let location = answer.location.clone();
    let operation = answer.data();
    if operation["id"].is_string() {
        return Ok(operation);
    }
    let id = location.as_deref().and_then(|location| location.rsplit('/').next()).and_then(|it| id(it).ok());
    match id {
        Some(id) => client.get(&path(&id)).await,
        None => Err(Failure::new("not-switchyard", "the server did not say which operation it began")),
    }
}

fn has_ended(operation: &Value) -> bool {
    matches!(operation["state"].as_str(), Some("done" | "failed" | "cancelled"))
}

fn succeeded(operation: Value) -> Result<Value> {
    let id = text(&operation["id"]);
    match operation["state"].as_str() {
        Some("done") => Ok(operation),
        Some("cancelled") => {
            let detail = format!("operation {id} was cancelled after {} records", text(&operation["done"]));
            Err(Failure::new("cancelled", detail).hint("what it had done stays; start it again to go on"))
        }
        _ => {
            let detail = format!("operation {id} failed: {}", text(&operation["error"]));
            Err(Failure::new("operation-failed", detail))
        }
    }
}

fn goes_on(code: &str, id: &str, why: &str) -> Failure {
    Failure::new(code, format!("operation {id} goes on in the server, {why} here"))
        .hint(format!("switchyard operation show {id} shows it, switchyard operation cancel {id} cancels it"))
}

/// Follows by the stream of events; once that fails, by asking.
async fn follow(client: &Client, id: &str, progress: &mut Progress) -> Result<Value> {
    if let Some(ended) = by_stream(client, id, progress).await {
        return Ok(ended);
    }
    let mut heard = Instant::now();
    loop {
        match client.get(&path(id)).await {
            Ok(operation) if has_ended(&operation) => return Ok(operation),
            Ok(operation) => {
                heard = Instant::now();
                progress.show(&operation);
            }
            // The server may be restarting, or a connection was lost.
            Err(failure) if failure.is_passing() && heard.elapsed() < client.timeout => {}
            Err(failure) if failure.is_passing() => {
                let why = format!("as far as is known; it cannot be followed ({})", failure.detail);
                return Err(goes_on("lost-contact", id, &why));
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn by_stream(client: &Client, id: &str, progress: &mut Progress) -> Option<Value> {
    let events = ["admin", "operations", id, "events"];
    let request = client.request(Method::GET, &events).header(ACCEPT, "text/event-stream");
    let mut stream = Stream::new(client.open(request).await.ok()?)?;
    while let Some(event) = stream.next(SILENCE).await {
        let operation: Value = serde_json::from_str(&event.data).unwrap_or_default();
        if has_ended(&operation) {
            return Some(operation);
        }
        if event.name == "end" {
            return None;
        }
        if operation.is_object() {
            progress.show(&operation);
        }
    }
    None
}
