//! `strategy` and `switch-strategy`: versions, and which one decides.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value};
use sha2::Digest as _;

use super::client::Client;
use super::failure::{Failure, Outcome, Result};
use super::health::node_table;
use super::table::{items, ms, short, table, text, time};
use super::{events, terminal};

/// The largest component that any server takes, in bytes.
const LARGEST: u64 = 64 << 20;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Strategies and their versions.
    List,
    /// Keeps a component as a version of NAME. The server checks it first.
    Upload {
        /// A component; `switchyard component` makes one of a core module.
        file: PathBuf,
        #[arg(value_parser = name)]
        name: String,
        /// Switch to it, once it is kept.
        #[arg(long)]
        activate: bool,
        /// Do not ask before the switch.
        #[arg(long)]
        force: bool,
    },
    /// Switches to a strategy, in its newest version or the one with this digest.
    Activate {
        #[command(flatten)]
        switch: Switch,
        /// The version, by all 64 digits of its digest.
        #[arg(long)]
        digest: Option<String>,
    },
    /// Switches back to what was active before.
    Rollback {
        /// Do not ask.
        #[arg(long)]
        force: bool,
    },
    /// Lets the server change the strategy by itself again when a store is lost or returns.
    Unpin {
        /// Do not ask.
        #[arg(long)]
        force: bool,
    },
    /// What happened to strategies, from old to new.
    Events {
        /// How many of the last.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
        limit: u16,
        /// Go on with new ones as they come, until interrupted.
        #[arg(long)]
        follow: bool,
    },
}

#[derive(Args)]
pub(super) struct Switch {
    /// Such as dual_write or dual-write, or one of your own.
    #[arg(value_parser = name)]
    name: String,
    /// Stay with it: no automatic change when a store is lost.
    #[arg(long)]
    pin: bool,
    /// Switch even if a store that the strategy cannot do without is down, and stay with it as with --pin.
    #[arg(long)]
    even_if_down: bool,
    /// Do not ask.
    #[arg(long)]
    force: bool,
}

/// A name with underscores, as the server has it.
fn name(text: &str) -> std::result::Result<String, &'static str> {
    match text {
        "" | "." | ".." => Err("that is no name of a strategy"),
        name => Ok(name.replace('-', "_")),
    }
}

pub(super) async fn run(client: &Client, command: Command) -> Result {
    match command {
        Command::List => list(client).await,
        Command::Upload { file, name, activate, force } => {
            upload(client, &file, &name, activate, force).await
        }
        Command::Activate { switch: to, digest } => switch(client, to, digest).await,
        Command::Rollback { force } => {
            let question = "Switch back to the strategy that was active before?";
            terminal::confirm(force, question).await?;
            switched(client, &client.post(&["admin", "strategies", "rollback"], None).await?)
        }
        Command::Unpin { force } => {
            terminal::confirm(force, "Let the server change the strategy by itself again?").await?;
            let answer = client.delete(&["admin", "database", "pin"]).await?;
            match client.json {
                true => terminal::print_json(&answer)?,
                false => terminal::print("The server may change the strategy by itself again.")?,
            }
            Ok(Outcome::Fine)
        }
        Command::Events { limit, follow } => events::run(client, limit, follow).await,
    }
}

/// Switches to a strategy.
pub(super) async fn switch(client: &Client, to: Switch, digest: Option<String>) -> Result {
    let pinned = if to.pin { ", pinned" } else { "" };
    terminal::confirm(to.force, &format!("Switch all nodes to {}{pinned}?", to.name)).await?;
    // A server refuses what it does not know: only what was asked for is said.
    let mut body = Map::new();
    body.extend(digest.map(|digest| ("digest".to_owned(), digest.into())));
    body.extend(to.pin.then(|| ("pin".to_owned(), true.into())));
    body.extend(to.even_if_down.then(|| ("force".to_owned(), true.into())));
    let path = ["admin", "strategies", &to.name, "activate"];
    let switch = client.post(&path, Some(body.into())).await;
    let answer = switch.map_err(|failure| match failure.code.as_str() {
        "unknown-strategy" => failure.hint("switchyard strategy list names those that are there"),
        _ => failure,
    })?;
    switched(client, &answer)
}

fn switched(client: &Client, answer: &Value) -> Result {
    let nodes = items(&answer["nodes"]);
    let outcome = if in_force(answer) { left_behind(nodes) } else { Outcome::Finding };
    if client.json {
        terminal::print_json(answer)?;
        return Ok(outcome);
    }
    terminal::print(&switch_text(answer))?;
    if !nodes.is_empty() {
        terminal::print(&format!("\n{}", node_table(nodes)))?;
    }
    Ok(outcome)
}

/// A finding when a switch has left a node behind: one that failed, has not followed yet, or is gone.
fn left_behind(nodes: &[Value]) -> Outcome {
    Outcome::finding_if(nodes.iter().any(|node| node["state"].as_str() != Some("in-force")))
}

/// What a switch came to.
fn switch_text(answer: &Value) -> String {
    let name = text(&answer["strategy"]);
    let generation = text(&answer["generation"]);
    let mut line = match answer["switched"].as_bool() {
        _ if !in_force(answer) => format!("{name} is chosen, and not in force yet"),
        Some(false) => format!("{name} was active already (generation {generation})"),
        _ => format!("{name} has taken over from {} (generation {generation})", text(&answer["from"])),
    };
    if let Some(after) = answer["drain"].get("after_ms").filter(|_| in_force(answer)) {
        line.push_str(&format!("; the last request before it ended after {}", ms(after)));
    }
    if answer["pinned"].as_bool() == Some(true) {
        line.push_str("; pinned");
    }
    if !in_force(answer) {
        let instead = &answer["in_force"];
        line.push_str(&format!("\n{} stands in for it: {}", text(&instead["name"]), text(&instead["cause"])));
    }
    line
}

/// Whether what was chosen is in force: another strategy may stand in for it while a store is lost.
fn in_force(answer: &Value) -> bool {
    let (chosen, in_force) = (&answer["chosen"]["name"], &answer["in_force"]["name"]);
    !in_force.is_string() || chosen == in_force
}

async fn list(client: &Client) -> Result {
    let answer = client.get(&["admin", "strategies"]).await?;
    let error = answer["error"].as_str().map(str::to_owned);
    if client.json {
        terminal::print_json(&answer)?;
        return Ok(Outcome::finding_if(error.is_some()));
    }
    let active = &answer["active"];
    let mut rows = Vec::new();
    for strategy in items(&answer["strategies"]) {
        for version in items(&strategy["versions"]) {
            let is_active =
                strategy["active"].as_bool() == Some(true) && version["digest"] == active["digest"];
            let built_in = version["uploaded_at"].as_i64() == Some(0);
            rows.push([
                text(&strategy["name"]),
                if is_active { "ACTIVE".to_owned() } else { String::new() },
                short(&version["digest"]),
                text(&version["size"]),
                if built_in { "built in".to_owned() } else { time(&version["uploaded_at"]) },
                text(&version["uploaded_by"]),
            ]);
        }
    }
    if let Some(error) = &error {
        terminal::note(&terminal::clean(error));
    }
    let (name, generation) = (text(&active["name"]), text(&active["generation"]));
    let digest = short(&active["digest"]);
    terminal::print(&format!("Active: {name} (generation {generation}, digest {digest})"))?;
    if !rows.is_empty() {
        let header = ["STRATEGY", "", "DIGEST", "BYTES", "UPLOADED (UTC)", "BY"];
        terminal::print(&format!("\n{}", table(header, rows)))?;
    }
    Ok(Outcome::finding_if(error.is_some()))
}

async fn upload(client: &Client, file: &Path, name: &str, activate: bool, force: bool) -> Result {
    let component = read(file)?;
    if activate {
        terminal::confirm(force, &format!("Keep it, and switch all nodes to this version of {name}?"))
            .await?;
    }
    let digest = STANDARD.encode(sha2::Sha256::digest(&component));
    let query: &[_] = if activate { &[("activate", "true")] } else { &[] };
    let request = client.query(Method::PUT, &["admin", "strategies", name], query);
    let request = request.header("content-digest", format!("sha-256=:{digest}:")).body(component);
    let answer = client.send(request).await?.data();
    let activation = &answer["activation"];
    if client.json {
        terminal::print_json(&answer)?;
        let well = in_force(activation) && left_behind(items(&activation["nodes"])) == Outcome::Fine;
        return Ok(Outcome::finding_if(!well));
    }
    let verb = if answer["created"].as_bool() == Some(false) { "was there already" } else { "is kept" };
    let digest = text(&answer["digest"]);
    terminal::print(&format!("{name} {verb}: {} bytes, digest {digest}", text(&answer["size"])))?;
    if activation.is_object() { switched(client, activation) } else { Ok(Outcome::Fine) }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let refuse = |why: String| Failure::new("file", format!("{}: {why}", file.display()));
    let size = std::fs::metadata(file).map_err(|error| refuse(error.to_string()))?.len();
    if size > LARGEST {
        return Err(refuse(format!("{size} bytes; no server takes more than {LARGEST}")));
    }
    std::fs::read(file).map_err(|error| refuse(error.to_string()))
}
