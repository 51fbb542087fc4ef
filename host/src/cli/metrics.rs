//! `metrics`: what the stores do, and how fast.

use std::time::Duration;

use serde_json::Value;

use super::client::Client;
use super::failure::{Outcome, Result};
use super::table::{NOTHING, backlog, ms, percent, table, text};
use super::{health, terminal};

const PATH: [&str; 3] = ["admin", "database", "metrics"];

/// Shows the metrics once, or every so often until interrupted.
pub(super) async fn run(client: &Client, every: Option<Duration>) -> Result {
    let Some(every) = every else {
        show(client, &client.get(&PATH).await?)?;
        return Ok(Outcome::Fine);
    };
    tokio::select! {
        ended = watch(client, every) => ended,
        _ = tokio::signal::ctrl_c() => Ok(Outcome::Fine),
    }
}

async fn watch(client: &Client, every: Duration) -> Result {
    let mut answered = false;
    loop {
        match client.get(&PATH).await {
            Ok(metrics) => {
                answered = true;
                if !client.json {
                    terminal::clear_screen()?;
                }
                show(client, &metrics)?;
            }
            // What has answered once may answer again; a refusal will not change.
            Err(failure) if answered && failure.is_passing() => terminal::complain(&failure, client.json),
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(every).await;
    }
}

fn show(client: &Client, metrics: &Value) -> Result<()> {
    if client.json {
        return terminal::print_json(metrics);
    }
    let mut parts = vec![head(metrics), stores(metrics)];
    parts.extend(latencies(metrics));
    terminal::print(&parts.join("\n\n"))
}

fn head(metrics: &Value) -> String {
    let uptime = metrics["uptime_s"].as_f64().map(|s| s * 1_000.0);
    let near = &metrics["near_cache"];
    let lines = [
        ("Up for", ms(&uptime.into())),
        ("Mode", text(&metrics["mode"])),
        ("Strategy", strategy(metrics)),
        ("Requests", summary(&metrics["requests"])),
        ("Near cache", format!("{} of reads ({} hits)", percent(&near["hit_rate"]), text(&near["hits"]))),
        ("Drain", summary(&metrics["drain"])),
        ("Spool", summary(&metrics["spool"])),
    ];
    lines.iter().map(|(name, value)| format!("{name:<11} {value}")).collect::<Vec<_>>().join("\n")
}

fn strategy(metrics: &Value) -> String {
    let chosen = metrics["chosen"]["name"].as_str().or_else(|| metrics["chosen"].as_str());
    let chosen = chosen.map(|name| format!("; {} chosen", text(&name.into()))).unwrap_or_default();
    let generation = text(&metrics["generation"]);
    format!("{} in force (generation {generation}){chosen}", text(&metrics["strategy"]))
}

/// The values of a small object by name.
fn summary(value: &Value) -> String {
    let Some(object) = value.as_object() else { return text(value) };
    let parts = object.iter().map(|(name, value)| format!("{} {}", text(&name.as_str().into()), text(value)));
    match parts.collect::<Vec<_>>() {
        parts if parts.is_empty() => NOTHING.to_owned(),
        parts => parts.join(", "),
    }
}

fn stores(metrics: &Value) -> String {
    let rows = by_name(&metrics["stores"]).map(|(name, store)| {
        let state = match store["up"].as_bool() {
            Some(true) => "up",
            Some(false) => "DOWN",
            None => NOTHING,
        };
        [
            text(&name.into()),
            text(&store["backend"]),
            state.to_owned(),
            health::breaker(&store["breaker"]),
            text(&store["calls"]),
            text(&store["errors"]),
            percent(&store["error_rate"]),
            percent(&store["hit_rate"]),
            backlog(&store["backlog"]),
            ms(&store["lag_ms"]),
        ]
    });
    let header = [
        "STORE",
        "BACKEND",
        "STATE",
        "BREAKER",
        "CALLS",
        "ERRORS",
        "ERROR RATE",
        "HIT RATE",
        "BACKLOG",
        "LAG",
    ];
    table(header, rows)
}

/// Calls and latencies per operation of each store; none when the server tells none.
pub(super) fn latencies(metrics: &Value) -> Option<String> {
    let rows: Vec<_> = by_name(&metrics["stores"])
        .flat_map(|(store, told)| {
            by_name(&told["operations"]).map(move |(operation, it)| {
                let ms = |name: &str| ms(&it[name]);
                let name = text(&operation.into());
                let (calls, errors) = (text(&it["calls"]), text(&it["errors"]));
                let store = text(&store.into());
                [store, name, calls, errors, ms("mean_ms"), ms("p50_ms"), ms("p95_ms"), ms("p99_ms")]
            })
        })
        .collect();
    let header = ["STORE", "OPERATION", "CALLS", "ERRORS", "MEAN", "P50", "P95", "P99"];
    (!rows.is_empty()).then(|| table(header, rows))
}

fn by_name(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}
