//! The commands.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::config::Config;
use crate::server::Server;
use crate::telemetry::log;

/// A relay for Claude clients whose storage policy is a WebAssembly component.
#[derive(Parser)]
#[command(name = "switchyard", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT, then end in order.
    Serve(Box<Config>),
}

/// Runs the command that the arguments name. A wrong setting ends with status 1 and one line that names it.
pub async fn run() -> ExitCode {
    let ended = match Cli::try_parse() {
        Ok(Cli { command: Command::Serve(config) }) => serve(*config).await,
        Err(error) if error.exit_code() == 0 => {
            // Help or the version, for people who look at it.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => Err(anyhow::anyhow!(explain(&error))),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            fail(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    log::begin(&config.log, config.log_json)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let server = Server::start(config).await?;
    if server.token_is_new() {
        welcome(&server);
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
    let first = text.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return format!("{first}; see switchyard serve --help");
    };
    let flag = argument.split([' ', '=']).next().unwrap_or_default();
    let command = Cli::command();
    let arguments = command.get_subcommands().flat_map(|command| command.get_arguments());
    let named =
        |known: &&clap::Arg| known.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long));
    match arguments.into_iter().find(named).and_then(clap::Arg::get_env) {
        Some(variable) => format!("{first} ({})", variable.display()),
        None => first.to_owned(),
    }
}

#[allow(clippy::print_stdout, reason = "the token is shown once, to the person who starts the server")]
fn welcome(server: &Server) {
    let (url, token) = (format!("http://{}", server.addr()), server.admin_token());
    println!(
        "\nThe admin token, shown this once and kept in the data folder:\n\n  {token}\n\n\
         Try:\n\n  \
         curl -X PUT {url}/store/v1/records/api_key/first -H 'authorization: Bearer {token}' -d '{{\"fields\":{{\"name\":\"First\"}}}}'\n  \
         curl {url}/store/v1/records/api_key/first -H 'authorization: Bearer {token}'\n  \
         curl -X POST {url}/admin/database/strategy/cache-first -H 'authorization: Bearer {token}'\n"
    );
}

#[allow(clippy::print_stderr, reason = "the one line that says why nothing is served")]
fn fail(reason: &str) {
    eprintln!("switchyard: {reason}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(arguments: &[&str]) -> String {
        let arguments = ["switchyard", "serve"].iter().chain(arguments);
        explain(&Cli::try_parse_from(arguments).err().unwrap())
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
