//! Settings of the relay.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::relay::Options;

/// How requests go upstream.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "The relay")]
pub struct Relaying {
    /// Answer with an upstream that makes everything up, where no account serves a model: for trying it out.
    #[arg(long, env = "SWITCHYARD_DEMO_UPSTREAM")]
    pub demo_upstream: bool,
    /// How long a connection to an upstream may take, in seconds.
    #[arg(long, env = "SWITCHYARD_UPSTREAM_CONNECT", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub upstream_connect: u64,
    /// How long an upstream may take for a plain answer, or for the first bytes of a stream, in seconds.
    #[arg(long, env = "SWITCHYARD_UPSTREAM_TIMEOUT", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub upstream_timeout: u64,
    /// How long an upstream may say nothing in the middle of a stream, in seconds.
    #[arg(long, env = "SWITCHYARD_UPSTREAM_SILENCE", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub upstream_silence: u64,
    /// Certificates (PEM) of authorities that an https:// upstream may have its own from, beside the well-known ones.
    #[arg(long, env = "SWITCHYARD_UPSTREAM_CA")]
    pub upstream_ca: Option<PathBuf>,
    /// How long after its last request a conversation is free to go to another account, in hours.
    #[arg(long, env = "STICKY_SESSION_TTL_HOURS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=720))]
    pub sticky_hours: u64,
}

impl Relaying {
    pub fn options(&self) -> Options {
        Options {
            connect: Duration::from_secs(self.upstream_connect),
            answer: Duration::from_secs(self.upstream_timeout),
            silence: Duration::from_secs(self.upstream_silence),
            sticky: Duration::from_secs(self.sticky_hours * 3_600),
        }
    }
}
