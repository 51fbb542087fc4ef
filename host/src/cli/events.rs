//! `strategy events`: what happened to strategies.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::client::Client;
use super::failure::{Outcome, Result};
use super::table::{items, short, text, time};
use super::terminal;

/// Between two looks for new events.
const POLL: Duration = Duration::from_secs(1);

/// Prints the last events, and new ones until interrupted if asked for.
pub(super) async fn run(client: &Client, limit: u16, follow: bool) -> Result {
    let events = async {
        let last = print_events(client, &latest(client, limit).await?, None)?;
        match follow {
            true => new_events(client, last.unwrap_or(0)).await,
            false => Ok(Outcome::Fine),
        }
    };
    if !follow {
        return events.await;
    }
    // From the first line on: it may be all that was waited for.
    tokio::select! {
        ended = events => ended,
        _ = tokio::signal::ctrl_c() => Ok(Outcome::Fine),
    }
}

/// Prints each event after that one as it comes. Ends with what will not pass by itself.
async fn new_events(client: &Client, mut last: u64) -> Result {
    loop {
        tokio::time::sleep(POLL).await;
        match latest(client, 1_000).await {
            Ok(answer) => last = print_events(client, &answer, Some(last))?.unwrap_or(last),
            Err(failure) if failure.is_passing() => terminal::complain(&failure, client.json),
            Err(failure) => return Err(failure),
        }
    }
}

async fn latest(client: &Client, limit: u16) -> Result<Value> {
    let query = [("limit", &*limit.to_string())];
    let request = client.query(Method::GET, &["admin", "strategies", "events"], &query);
    Ok(client.send(request).await?.data())
}

/// Prints events from old to new: all as the server has them, or each that came `after` one. Gives the newest.
fn print_events(client: &Client, answer: &Value, after: Option<u64>) -> Result<Option<u64>> {
    let events = items(&answer["events"]);
    let newest = events.first().and_then(|event| event["number"].as_u64());
    if client.json && after.is_none() {
        terminal::print_json(answer)?;
        return Ok(newest);
    }
    let new = |event: &&Value| after.is_none_or(|after| event["number"].as_u64() > Some(after));
    for event in events.iter().rev().filter(new) {
        match client.json {
            true => terminal::print_json(event)?,
            false => terminal::print(&event_line(event))?,
        }
    }
    Ok(newest)
}

/// One event on one line, so that lines that come later stand as those before.
fn event_line(event: &Value) -> String {
    let generation = event["generation"].as_u64().map(|number| format!(" generation {number}"));
    format!(
        "{}  {:<14} {:<16} {:<12}  by {}{}: {}",
        time(&event["at"]),
        text(&event["action"]),
        text(&event["strategy"]),
        short(&event["digest"]),
        text(&event["by"]),
        generation.unwrap_or_default(),
        text(&event["detail"]),
    )
}
