//! `strategy events`: what happened to strategies.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::client::Client;
use super::failure::{Outcome, Result};
use super::table::{items, short, text, time};
use super::terminal;

/// Between two looks for new events.
const POLL: Duration = Duration::from_secs(1);

/// The most events that a server lists.
const MOST: u16 = 1_000;

/// The greatest number known of each node: each counts its own events.
#[derive(Default)]
struct Known(BTreeMap<String, u64>);

impl Known {
    fn lacks(&self, event: &Value) -> bool {
        event["number"].as_u64() > self.0.get(&text(&event["node"])).copied()
    }

    fn take_in(&mut self, events: &[Value]) {
        for event in events {
            let known = self.0.entry(text(&event["node"])).or_default();
            *known = event["number"].as_u64().unwrap_or(0).max(*known);
        }
    }
}

/// Prints the last events, and new ones until interrupted if asked for.
pub(super) async fn run(client: &Client, limit: u16, follow: bool) -> Result {
    let events = async {
        // All that there are, so that an older one that is not printed is not new later.
        let mut answer = latest(client, if follow { MOST } else { limit }).await?;
        let mut known = Known::default();
        known.take_in(items(&answer["events"]));
        if let Some(events) = answer["events"].as_array_mut() {
            events.truncate(limit.into());
        }
        match client.json {
            true => terminal::print_json(&answer)?,
            false => print_events(client, items(&answer["events"]).iter().rev())?,
        }
        if follow { new_events(client, known).await } else { Ok(Outcome::Fine) }
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

/// Prints each event that is not known as it comes. Ends with what will not pass by itself.
async fn new_events(client: &Client, mut known: Known) -> Result {
    loop {
        tokio::time::sleep(POLL).await;
        match latest(client, MOST).await {
            Ok(answer) => {
                let events = items(&answer["events"]);
                print_events(client, events.iter().rev().filter(|event| known.lacks(event)))?;
                known.take_in(events);
            }
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

/// Prints events, which come from old to new.
fn print_events<'a>(client: &Client, events: impl Iterator<Item = &'a Value>) -> Result<()> {
    for event in events {
        match client.json {
            true => terminal::print_json(event)?,
            false => terminal::print(&event_line(event))?,
        }
    }
    Ok(())
}

/// One event on one line, so that lines that come later stand as those before.
fn event_line(event: &Value) -> String {
    let generation = event["generation"].as_u64().map(|number| format!(" generation {number}"));
    let node = event["node"].is_string().then(|| format!(" on {}", text(&event["node"])));
    format!(
        "{}  {:<14} {:<16} {:<12}  by {}{}{}: {}",
        time(&event["at"]),
        text(&event["action"]),
        text(&event["strategy"]),
        short(&event["digest"]),
        text(&event["by"]),
        node.unwrap_or_default(),
        generation.unwrap_or_default(),
        text(&event["detail"]),
    )
}
