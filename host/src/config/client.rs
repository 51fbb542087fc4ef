//! Settings of the commands that talk to a running server.

use std::path::PathBuf;

use clap::Args;

/// How a command reaches the server, and how it answers.
#[derive(Clone, Args)]
#[command(next_help_heading = "The server")]
pub struct Client {
    /// Where the server listens. Plain http:// only; for a server elsewhere use a tunnel, such as
    /// `ssh -L 3000:127.0.0.1:3000 HOST`.
    #[arg(long, env = "SWITCHYARD_URL", default_value = "http://127.0.0.1:3000", global = true)]
    pub url: String,
    /// Admin token. Better set as the variable: others on this machine see what a flag says. Default:
    /// SWITCHYARD_ADMIN_TOKEN, then, for a server on this machine, the file admin-token in ./data or SWITCHYARD_DATA.
    #[arg(long, env = "SWITCHYARD_TOKEN", hide_env_values = true, global = true)]
    pub token: Option<String>,
    /// What the server says, as JSON on stdout and nothing else there; errors as JSON on stderr.
    #[arg(long, global = true)]
    pub json: bool,
    /// Deadline of each request, in seconds.
    #[arg(long, env = "SWITCHYARD_TIMEOUT", default_value_t = 30, global = true, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub timeout: u64,
    /// What `serve` takes its token from.
    #[arg(long, env = "SWITCHYARD_ADMIN_TOKEN", hide_env_values = true, hide = true, global = true)]
    pub server_admin_token: Option<String>,
    /// The data folder of `serve`.
    #[arg(long, env = "SWITCHYARD_DATA", default_value = "./data", hide = true, global = true)]
    pub server_data: PathBuf,
}
