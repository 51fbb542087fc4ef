//! The commands.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
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
    /// Serve until SIGTERM or SIGINT, then end in order. What happens when no command is named.
    Serve(Box<Config>),
    /// Encode a strategy's core module, as cargo builds it, as a component to upload.
    Component {
        /// Such as target/wasm32-unknown-unknown/guest/my_strategy.wasm
        module: PathBuf,
        /// Where to put the component.
        component: PathBuf,
    },
}

/// Runs the command that the arguments name. A wrong setting ends with status 1 and one line that names it.
pub async fn run() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    if arguments.len() < 2 {
        arguments.push("serve".into());
    }
    let ended = match Cli::try_parse_from(arguments) {
        Ok(Cli { command: Command::Serve(config) }) => serve(*config).await,
        Ok(Cli { command: Command::Component { module, component } }) => encode(&module, &component),
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

fn encode(module: &Path, component: &Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(module).with_context(|| format!("reading {}", module.display()))?;
    let encoded = crate::engine::encode(&bytes).with_context(|| module.display().to_string())?;
    std::fs::write(component, encoded).with_context(|| format!("writing {}", component.display()))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    log::begin(&config.log, config.log_json)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let given = config.admin_token.is_some();
    let kept = config.data.join("admin-token");
    let server = Server::start(config).await?;
    if !given {
        welcome(&server, &kept);
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

#[allow(clippy::print_stdout, reason = "for the person who starts the server; the token is shown once")]
fn welcome(server: &Server, kept: &Path) {
    if server.token_is_new() {
        let kept = kept.display();
        println!("\nThe admin token, shown this once and kept in {kept}:\n\n  {}", server.admin_token());
    }
    println!("\nTry:\n\n{}", first_steps(server.addr(), kept));
}

/// Commands for a shell in the folder that the server was started in.
fn first_steps(mut addr: SocketAddr, token: &Path) -> String {
    match addr.ip() {
        // "All addresses" is none to connect to.
        IpAddr::V4(ip) if ip.is_unspecified() => addr.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => addr.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let quoted = token.to_string_lossy().replace('\'', r"'\''");
    let (url, token) = (format!("http://{addr}"), format!("-H \"Authorization: Bearer $(cat '{quoted}')\""));
    format!(
        "  \
         curl {token} -X PUT '{url}/store/v1/records/account/first' -d '{{\"fields\": {{\"name\": \"First\"}}}}'\n  \
         curl {token} '{url}/store/v1/records/account/first'\n  \
         curl {token} -X POST '{url}/admin/database/strategy/cache-first'\n  \
         curl {token} '{url}/admin/strategies/events'\n"
    )
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
    fn the_first_steps_can_be_pasted() {
        for (addr, url) in [
            ("127.0.0.1:3000", "http://127.0.0.1:3000/"),
            ("0.0.0.0:3000", "http://127.0.0.1:3000/"),
            ("[::]:3000", "http://[::1]:3000/"),
            ("10.1.2.3:3000", "http://10.1.2.3:3000/"),
        ] {
            let steps = first_steps(addr.parse().unwrap(), Path::new("/a folder/it's/admin-token"));
            for step in steps.lines() {
                assert!(step.starts_with("  curl ") && step.contains(&format!("'{url}")), "{step}");
                assert!(step.contains(r"$(cat '/a folder/it'\''s/admin-token')"), "{step}");
            }
        }
    }

    #[test]
    fn an_unknown_flag_is_named() {
        assert!(refusal(&["--lisen", "x"]).contains("--lisen"));
    }
}
