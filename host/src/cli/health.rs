//! `health` and `nodes`: how it stands, at a glance.

use serde_json::{Value, json};

use super::client::Client;
use super::failure::{Outcome, Result};
use super::table::{NOTHING, ago, backlog, items, ms, short, table, text, time};
use super::{metrics, terminal};

/// How many of the last transitions are shown.
const TRANSITIONS: usize = 5;

/// What the server tells about itself, as far as it does.
struct Told {
    health: Value,
    status: Value,
    metrics: Value,
}

pub(super) async fn run(client: &Client, verbose: bool) -> Result {
    let health = client.get(&["admin", "database", "health"]).await?;
    let outcome = Outcome::finding_if(health["status"].as_str() != Some("healthy"));
    if client.json && !verbose {
        terminal::print_json(&health)?;
        return Ok(outcome);
    }
    let (status, metrics) = tokio::join!(
        client.get(&["admin", "database", "status"]),
        client.get(&["admin", "database", "metrics"])
    );
    if client.json {
        let mut all = health;
        all["details"] =
            json!({ "status": status.unwrap_or_default(), "metrics": metrics.unwrap_or_default() });
        terminal::print_json(&all)?;
        return Ok(outcome);
    }
    for failure in [&status, &metrics].into_iter().filter_map(|answer| answer.as_ref().err()) {
        terminal::note(&format!("Some of it is not known: {}", failure.text()));
    }
    let told = Told { health, status: status.unwrap_or_default(), metrics: metrics.unwrap_or_default() };
    let mut parts = vec![told.head(), told.stores()];
    if verbose {
        parts.extend(told.details());
    }
    terminal::print(&parts.join("\n\n"))?;
    Ok(outcome)
}

impl Told {
    fn head(&self) -> String {
        let status = match self.health["status"].as_str() {
            Some("healthy") => "healthy".to_owned(),
            _ => text(&self.health["status"]).to_uppercase(),
        };
        let mut lines = vec![("Status", status)];
        if let Some(mode) = self.status["mode"].as_str() {
            lines.push(("Mode", text(&mode.into())));
        }
        lines.push(("Strategy", self.strategy()));
        if let Some(node) = self.status["node"].as_str() {
            lines.push(("Node", format!("{}{}", text(&node.into()), self.others())));
        }
        lines.iter().map(|(name, value)| format!("{name:<9} {value}")).collect::<Vec<_>>().join("\n")
    }

    /// What is in force, since when and why, and what was chosen.
    fn strategy(&self) -> String {
        let active = text(&self.health["strategy"]);
        let mut line = format!("{active} in force (generation {})", text(&self.health["generation"]));
        let since = ago(&self.status["since"]);
        if since != NOTHING {
            line.push_str(&format!(", {} since {since}", text(&self.status["mode"])));
        }
        if let Some(name) = self.status["chosen"]["name"].as_str() {
            let pinned = self.status["chosen"]["pinned"].as_bool() == Some(true);
            let pinned = if pinned { ", pinned" } else { "" };
            line.push_str(&format!("; {} chosen{pinned}", text(&name.into())));
        }
        if let Some(cause) = self.status["cause"].as_str().filter(|cause| !cause.is_empty()) {
            line.push_str(&format!("\n{:<9} {}", "Cause", text(&cause.into())));
        }
        line
    }

    fn others(&self) -> String {
        let nodes = items(&self.status["nodes"]);
        let failed = nodes.iter().filter(|node| node["state"].as_str() == Some("failed")).count();
        match (nodes.len(), failed) {
            (0 | 1, 0) => String::new(),
            (all, 0) => format!(" (of {all} nodes)"),
            (all, failed) => format!(" (of {all} nodes, {failed} FAILED)"),
        }
    }

    fn stores(&self) -> String {
        let rows = items(&self.health["stores"]).iter().map(|store| {
            let name = store["store"].as_str().unwrap_or_default();
            let state = match store["up"].as_bool() {
                Some(true) => "up",
                Some(false) => "DOWN",
                None => NOTHING,
            };
            [
                text(&name.into()),
                text(&store["backend"]),
                state.to_owned(),
                ago(&store["since"]),
                breaker(store),
                backlog(&store["backlog"]),
                ms(&self.metrics["stores"][name]["lag_ms"]),
                if store["lags"] == true { "lags".to_owned() } else { text(&store["trusted"]) },
                text(&store["error"]),
            ]
        });
        let header = ["STORE", "BACKEND", "STATE", "SINCE", "BREAKER", "BACKLOG", "LAG", "TRUSTED", "ERROR"];
        table(header, rows)
    }

    fn details(&self) -> Vec<String> {
        let mut parts = Vec::new();
        parts.extend(metrics::latencies(&self.metrics));
        let transitions = items(&self.status["transitions"]);
        if !transitions.is_empty() {
            let row = |it: &Value| [time(&it["at"]), text(&it["from"]), text(&it["to"]), text(&it["cause"])];
            let rows = transitions.iter().take(TRANSITIONS).map(row);
            parts.push(table(["CHANGED AT (UTC)", "FROM", "TO", "CAUSE"], rows));
        }
        let nodes = items(&self.status["nodes"]);
        if !nodes.is_empty() {
            parts.push(node_table(nodes));
        }
        parts
    }
}

/// The breaker of reads and of writes, in one word when they agree.
pub(super) fn breaker(store: &Value) -> String {
    match (text(&store["reads"]), text(&store["writes"])) {
        (reads, writes) if reads == writes => reads,
        (reads, writes) => format!("reads {reads}, writes {writes}"),
    }
}

pub(super) async fn nodes(client: &Client) -> Result {
    let status = client.get(&["admin", "database", "status"]).await?;
    let nodes = items(&status["nodes"]);
    if client.json {
        terminal::print_json(&status["nodes"])?;
    } else if nodes.is_empty() {
        terminal::print("The server names no nodes.")?;
    } else {
        terminal::print(&node_table(nodes))?;
    }
    Ok(failed(nodes))
}

/// A finding when a node could not do what was asked.
fn failed(nodes: &[Value]) -> Outcome {
    Outcome::finding_if(nodes.iter().any(|node| node["state"].as_str() == Some("failed")))
}

/// What each node has in force.
pub(super) fn node_table(nodes: &[Value]) -> String {
    let rows = nodes.iter().map(|node| {
        [
            text(&node["node"]),
            text(&node["state"]),
            text(&node["strategy"]),
            text(&node["generation"]),
            short(&node["digest"]),
            text(&node["mode"]),
            ms(&node["seen_ms_ago"]),
            text(&node["error"]),
        ]
    });
    table(["NODE", "STATE", "STRATEGY", "GENERATION", "DIGEST", "MODE", "SEEN BEFORE", "ERROR"], rows)
}
