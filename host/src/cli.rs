//! The commands.

mod admin;
mod client;
mod events;
mod failure;
mod give_back;
mod health;
mod import;
mod metrics;
mod operation;
mod progress;
mod report;
mod strategy;
mod stream;
mod table;
mod terminal;
mod welcome;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use self::failure::{Failure, Outcome};
use crate::config::{self, Config};
use crate::server::Server;
use crate::telemetry::log;

/// What a command may take at Ctrl-C to end in its own way.
const LAST_WORD: Duration = Duration::from_millis(100);

/// What stands below the list of commands.
const EXIT_STATUS: &str = "Exit status of the commands that talk to a server: \
    0 all is well, 1 something was found (not healthy, not consistent, records skipped, a node that has not \
    followed a switch), 2 it could not be done. Those that change something ask first. With --force they do not \
    ask; without it, where nobody can be asked, they do nothing and end with 2.";

/// A relay for Claude clients whose storage policy is a WebAssembly component.
#[derive(Parser)]
#[command(name = "switchyard", version, after_help = EXIT_STATUS)]
struct Cli {
    #[command(flatten)]
    client: config::Client,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT, then end in order. What happens when no command is named.
    Serve(Box<Config>),
    /// Encode a strategy's core module, as cargo builds it, as a component to upload.
    Component {
        /// Such as target/wasm32-unknown-unknown/guest/my_strategy.wasm
        module: PathBuf,
        /// Where to put the component.
        component: PathBuf,
    },
    #[command(flatten)]
    Admin(admin::Command),
}

/// The commands that run without a server to talk to.
const LOCAL: [&str; 2] = ["serve", "component"];

/// Runs the command that the arguments name. A wrong setting of `serve` ends with status 1 and one line that names
/// it. The clients of the admin API end with 0 when all is well, 1 when something was found, 2 when they failed.
pub async fn run() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    if arguments.len() < 2 {
        arguments.push("serve".into());
    }
    let is_local = arguments.get(1).is_some_and(|first| LOCAL.iter().any(|local| first == local));
    let json = !is_local && arguments.iter().any(|argument| argument == "--json");
    let ended = match parse(arguments) {
        Ok(Cli { command: Command::Serve(config), .. }) => serve(*config).await,
        Ok(Cli { command: Command::Component { module, component }, .. }) => encode(&module, &component),
        Ok(Cli { command: Command::Admin(command), client }) => {
            return end(interruptible(admin::run(command, &client)).await, json);
        }
        Err(error) if error.exit_code() == 0 => {
            // Help or the version, for people who look at it.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) if is_local => Err(anyhow::anyhow!(explain(&error))),
        Err(error) => return end(Err(Failure::new("arguments", explain(&error))), json),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::note(&format!("switchyard: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Ends a command at Ctrl-C. Listens all the time: once anybody has listened, a signal that comes while nobody
/// does is lost. A command that knows better what to do or say then comes first.
async fn interruptible(command: impl Future<Output = failure::Result>) -> failure::Result {
    let mut command = pin!(command);
    tokio::select! {
        ended = &mut command => return ended,
        _ = tokio::signal::ctrl_c() => {}
    }
    // Both listen to the same signal, and this may have it first.
    tokio::time::timeout(LAST_WORD, command).await.unwrap_or_else(|_| {
        let detail = "interrupted; what was asked of the server before may have happened";
        Err(Failure::new("interrupted", detail))
    })
}

/// The exit status of a client of the admin API.
fn end(ended: failure::Result, json: bool) -> ExitCode {
    match ended {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Finding) => ExitCode::from(1),
        Err(failure) => {
            terminal::complain(&failure, json);
            ExitCode::from(2)
        }
    }
}

/// All commands. What is said about a server to talk to is out of the help of those that talk to none.
fn command() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    LOCAL.iter().fold(command, |command, local| {
        command.mut_subcommand(local, |local| {
            local.mut_args(|argument| if argument.is_global_set() { argument.hide(true) } else { argument })
        })
    })
}

fn parse(arguments: Vec<std::ffi::OsString>) -> Result<Cli, clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    refuse_stray(&matches)?;
    Cli::from_arg_matches(&matches)
}

/// Refuses the flags of the clients where they would do nothing.
fn refuse_stray(matches: &ArgMatches) -> Result<(), clap::Error> {
    let given = |flag: &&str| matches.value_source(flag) == Some(ValueSource::CommandLine);
    let stray = ["url", "token", "json", "timeout"].into_iter().find(given);
    match (matches.subcommand_name(), stray) {
        (Some(name), Some(flag)) if LOCAL.contains(&name) => {
            let why = format!("--{flag} means nothing to {name}, which talks to no server");
            Err(clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, why))
        }
        _ => Ok(()),
    }
}

fn encode(module: &Path, component: &Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(module).with_context(|| format!("reading {}", module.display()))?;
    let encoded = crate::engine::encode(&bytes).with_context(|| module.display().to_string())?;
    std::fs::write(component, encoded).with_context(|| format!("writing {}", component.display()))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    log::begin(&config.log, config.log_json)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (given, demo) = (config.admin_token.is_some(), config.relaying.demo_upstream);
    let kept = config.data.join("admin-token");
    let server = Server::start(config).await?;
    if !given {
        welcome::welcome(&server, &kept, demo);
    }
    let signal = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    info!(signal, "ending");
    server.shutdown().await;
    Ok(())
}

/// What is wrong with the arguments, in one line, with the variable where a flag also has one.
fn explain(error: &clap::Error) -> String {
    let text = error.to_string();
    // What is missing is listed on lines of its own.
    let first: Vec<_> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let first = first.join(" ");
    let first = first.strip_prefix("error: ").unwrap_or(&first);
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return format!("{first}; see switchyard --help");
    };
    let flag = argument.split([' ', '=']).next().unwrap_or_default();
    let command = Cli::command();
    let of_subcommands = command.get_subcommands().flat_map(|command| command.get_arguments());
    let arguments = command.get_arguments().chain(of_subcommands);
    let named =
        |known: &&clap::Arg| known.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long));
    match arguments.into_iter().find(named).and_then(clap::Arg::get_env) {
        Some(variable) => format!("{first} ({})", variable.display()),
        None => first.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(arguments: &[&str]) -> String {
        let arguments = ["switchyard", "serve"].iter().chain(arguments);
        explain(&parse(arguments.map(Into::into).collect()).err().unwrap())
    }

    #[test]
    fn a_malformed_setting_is_named_with_its_variable() {
        Cli::command().debug_assert();
        let refusal = refusal(&["--postgres-port", "many"]);
        assert!(refusal.contains("--postgres-port") && refusal.contains("POSTGRES_PORT"), "{refusal}");
        assert_eq!(refusal.lines().count(), 1);
    }

    #[test]
    fn an_unknown_flag_is_named() {
        assert!(refusal(&["--lisen", "x"]).contains("--lisen"));
    }
}
