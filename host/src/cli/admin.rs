//! The commands that are clients of a running server's admin API.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::failure::{Failure, Outcome, Result};
use super::table::{items, table, text, time};
use super::{give_back, health, import, metrics, operation, report, strategy, terminal};
use crate::config;

// No doc comment: it would take the place of the program's own.
#[derive(Subcommand)]
pub(super) enum Command {
    /// How it stands: status, mode, strategy, stores. Exit status 1 unless healthy.
    Health {
        /// Latencies, nodes and the last transitions, too.
        #[arg(long, short)]
        verbose: bool,
    },
    /// Copies everything from one store to the other. Newer records in the target stay.
    Sync {
        #[arg(long)]
        source: Store,
        #[arg(long)]
        target: Store,
        /// Do not ask.
        #[arg(long)]
        force: bool,
    },
    /// Compares the two stores by content. Exit status 1 when they differ.
    CheckConsistency {
        /// Also what was deleted, every index and every window of usage. Records are always compared whole.
        #[arg(long)]
        deep: bool,
        /// Show what would be repaired, ask, and repair it. Exit status 1 when something needs a person.
        #[arg(long)]
        fix: bool,
        /// Do not ask before the repair.
        #[arg(long, requires = "fix")]
        force: bool,
    },
    /// Switches all nodes to a strategy. The same as `strategy activate`.
    SwitchStrategy(strategy::Switch),
    /// Calls, hit rates, errors and latencies.
    Metrics {
        /// Again and again, until interrupted.
        #[arg(long, short)]
        watch: bool,
        /// Seconds between two looks.
        #[arg(long, short, default_value_t = 5, requires = "watch", value_parser = clap::value_parser!(u64).range(1..=3_600))]
        interval: u64,
    },
    /// Drops cached copies, never the only copy of anything.
    ClearCache {
        /// Only those whose key in Redis matches, such as 'session:*'.
        #[arg(long, short)]
        pattern: Option<String>,
        /// Do not ask.
        #[arg(long)]
        force: bool,
    },
    /// Writes that lost against others after a split. Exit status 1 when there are any.
    Conflicts,
    /// What each node has in force. Exit status 1 when one has failed.
    Nodes,
    /// Strategies and their versions.
    Strategy {
        #[command(subcommand)]
        command: strategy::Command,
    },
    /// Long works in the server.
    Operation {
        #[command(subcommand)]
        command: operation::Command,
    },
    /// What a Redis of Claude Relay Service holds, before Switchyard serves from it. Needs no server, and changes
    /// nothing. Exit status 1 when something is broken.
    Import(import::Import),
    /// Leaves a Redis as Claude Relay Service wants it, after Switchyard has ended. Exit status 1 when something is
    /// left for a person to do.
    GiveBack(give_back::GiveBack),
    /// Completions for a shell, such as `switchyard completions bash > /etc/bash_completion.d/switchyard`.
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Store {
    Redis,
    Postgres,
}

/// Does what was asked.
pub(super) async fn run(command: Command, settings: &config::Client) -> Result {
    let command = match command {
        Command::Completions { shell } => return completions(shell),
        Command::Import(import) => return import::run(import, settings).await,
        Command::GiveBack(give_back) => return give_back::run(give_back, settings).await,
        command => command,
    };
    let client = &Client::new(settings)?;
    match command {
        Command::Health { verbose } => health::run(client, verbose).await,
        Command::Sync { source, target, force } => sync(client, source, target, force).await,
        Command::CheckConsistency { fix: true, deep, force } => fix(client, deep, force).await,
        Command::CheckConsistency { deep, .. } => check(client, deep).await,
        Command::SwitchStrategy(to) => strategy::switch(client, to, None).await,
        Command::Metrics { watch, interval } => {
            metrics::run(client, watch.then(|| Duration::from_secs(interval))).await
        }
        Command::ClearCache { pattern, force } => clear_cache(client, pattern, force).await,
        Command::Conflicts => conflicts(client).await,
        Command::Nodes => health::nodes(client).await,
        Command::Strategy { command } => strategy::run(client, command).await,
        Command::Operation { command } => operation::run(client, command).await,
        Command::Completions { .. } | Command::Import(_) | Command::GiveBack(_) => Ok(Outcome::Fine),
    }
}

fn completions(shell: clap_complete::Shell) -> Result {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut super::command(), "switchyard", &mut text);
    terminal::print(&String::from_utf8_lossy(&text))?;
    Ok(Outcome::Fine)
}

async fn sync(client: &Client, source: Store, target: Store, force: bool) -> Result {
    let (route, question) = match (source, target) {
        (Store::Redis, Store::Postgres) => ("redis-to-postgres", "Copy everything from Redis to PostgreSQL?"),
        (Store::Postgres, Store::Redis) => ("postgres-to-redis", "Copy everything from PostgreSQL to Redis?"),
        _ => {
            let detail = "a store cannot be copied onto itself: --source and --target are the same";
            return Err(Failure::new("same-store", detail));
        }
    };
    terminal::confirm(force, question).await?;
    let path = ["admin", "database", "sync", route];
    finish(client, &operation::complete(client, client.request(Method::POST, &path)).await?)
}

async fn check(client: &Client, deep: bool) -> Result {
    let path = ["admin", "database", "consistency-check"];
    let query: &[_] = if deep { &[("deep", "true")] } else { &[] };
    finish(client, &operation::complete(client, client.query(Method::GET, &path, query)).await?)
}

/// Shows the dry run, asks, and repairs.
async fn fix(client: &Client, deep: bool, force: bool) -> Result {
    terminal::can_ask(force)?;
    let path = ["admin", "database", "consistency-fix"];
    let repair = |dry_run: bool| {
        let mut body = json!({ "dry_run": dry_run });
        if deep {
            body["deep"] = true.into();
        }
        client.request(Method::POST, &path).json(&body)
    };
    let dry_run = operation::complete(client, repair(true)).await?;
    if !report::would_change(&dry_run) {
        return finish(client, &dry_run);
    }
    if !client.json {
        operation::show(client, &dry_run)?;
    } else if !force {
        terminal::note(&report::operation(&dry_run));
    }
    terminal::confirm(force, "Repair this?").await?;
    finish(client, &operation::complete(client, repair(false)).await?)
}

fn finish(client: &Client, operation: &Value) -> Result {
    operation::show(client, operation)?;
    Ok(Outcome::finding_if(report::found(operation)))
}

async fn clear_cache(client: &Client, pattern: Option<String>, force: bool) -> Result {
    terminal::confirm(force, "Drop the cached copies? Reads are slower until they are filled again.").await?;
    let body = pattern.map(|pattern| json!({ "pattern": pattern }));
    let data = client.post(&["admin", "database", "cache", "clear"], body).await?;
    if client.json {
        terminal::print_json(&data)?;
    } else {
        let message = data["message"].as_str().unwrap_or("The cached copies are dropped.");
        let cleared = data["clearedKeys"].as_u64().map(|keys| format!(" ({keys} keys)")).unwrap_or_default();
        terminal::print(&format!("{}{cleared}", terminal::clean(message)))?;
    }
    Ok(Outcome::Fine)
}

/// How many further pages are asked for: more than the server keeps.
const MOST_PAGES: usize = 30;

/// All pages of them.
async fn all_conflicts(client: &Client) -> Result<Value> {
    let path = ["admin", "database", "conflicts"];
    let mut data = client.get(&path).await?;
    for _ in 0..MOST_PAGES {
        let Some(cursor) = data["next"].as_str() else { break };
        let request = client.query(Method::GET, &path, &[("cursor", cursor)]);
        let mut page = client.send(request).await?.data();
        if let (Some(all), Some(more)) = (data["conflicts"].as_array_mut(), page["conflicts"].as_array_mut())
        {
            all.append(more);
        }
        data["next"] = page["next"].take();
    }
    Ok(data)
}

async fn conflicts(client: &Client) -> Result {
    let data = all_conflicts(client).await?;
    let listed = items(&data["conflicts"]);
    let total = data["total"].as_u64().unwrap_or(listed.len() as u64);
    if client.json {
        terminal::print_json(&data)?;
    } else if total == 0 {
        terminal::print("No conflicts.")?;
    } else {
        let one = |it: &Value| {
            let deleted = if it["deleted"].as_bool() == Some(true) { " (deleted)" } else { "" };
            format!("{} {}{deleted}", text(&it["store"]), text(&it["version"]))
        };
        let rows = listed
            .iter()
            .map(|it| [text(&it["key"]), time(&it["at"]), one(&it["kept"]), one(&it["dropped"])]);
        terminal::print(&table(["KEY", "AT (UTC)", "KEPT", "DROPPED"], rows))?;
        terminal::print(&format!("\n{} of {total}; --json has what was dropped", listed.len()))?;
    }
    Ok(Outcome::finding_if(total > 0))
}
