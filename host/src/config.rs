//! Every setting, from flags and the environment. The help text is the documentation.

mod client;
mod keys;
mod limits;
mod pricing;
mod redis;
mod relay;
mod secret;
mod seed;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use jiff::tz::Offset;

pub use client::Client;
pub use keys::Keys;
pub use limits::LimitsArgs;
pub use pricing::Pricing;
pub use redis::RedisServer;
pub use relay::Relaying;
pub use secret::Secret;
pub use seed::Seed;

use crate::store::Kind;
use crate::store::kind::{ACCOUNT, ACCOUNT_GROUP, API_KEY, SESSION};

/// The most memory that a cache may be given: 1 TiB.
const MAX_MIB: i64 = 1 << 20;

/// Settings of `switchyard serve`. The names that Claude Relay Service uses in its environment are honoured.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, env = "SWITCHYARD_LISTEN", default_value = "127.0.0.1:3000")]
    pub listen: SocketAddr,
    /// Folder for the embedded store, compiled components and the admin token.
    #[arg(long, env = "SWITCHYARD_DATA", default_value = "./data")]
    pub data: PathBuf,
    /// Token for the admin and store API, at least 32 characters. Generated on first start when absent.
    #[arg(long, env = "SWITCHYARD_ADMIN_TOKEN", hide_env_values = true)]
    pub admin_token: Option<String>,
    /// postgres:// URL, with sslmode as usual; "off" for none. Default: an embedded SQLite file.
    #[arg(long, env = "SWITCHYARD_POSTGRES_URL", hide_env_values = true)]
    pub postgres_url: Option<String>,
    /// Strategy of the first start. Later starts resume what was active. Default: dual_write, or redis_only or
    /// postgres_only when the other store is off.
    #[arg(long, env = "DATABASE_STRATEGY", value_parser = strategy_name)]
    pub strategy: Option<String>,
    /// Folder whose NAME.wasm files become versions of NAME, live if NAME is active.
    #[arg(long, env = "SWITCHYARD_WATCH")]
    pub watch: Option<PathBuf>,
    /// Id of this node among those that share its stores. Default: the host's name and a suffix, kept in --data.
    #[arg(long, env = "SWITCHYARD_NODE_ID")]
    pub node_id: Option<String>,
    /// Log filter, as in RUST_LOG.
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    pub log: String,
    /// Log lines as JSON.
    #[arg(long, env = "SWITCHYARD_LOG_JSON")]
    pub log_json: bool,
    /// Deadline of a Redis call, in milliseconds.
    #[arg(long, env = "SWITCHYARD_REDIS_DEADLINE_MS", default_value_t = 250, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub redis_deadline_ms: u64,
    /// Deadline of a PostgreSQL call, in milliseconds.
    #[arg(long, env = "SWITCHYARD_POSTGRES_DEADLINE_MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub postgres_deadline_ms: u64,
    /// Connections to PostgreSQL.
    #[arg(long, env = "POSTGRES_POOL_MAX", default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..=64))]
    pub postgres_connections: u16,
    /// Memory for the near cache in front of Redis, in MiB; 0 for none.
    #[arg(long, env = "SWITCHYARD_NEAR_CACHE_MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(..=MAX_MIB))]
    pub near_cache_mib: u32,
    /// Memory for the embedded cache, in MiB.
    #[arg(long, env = "SWITCHYARD_EMBEDDED_CACHE_MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=MAX_MIB))]
    pub embedded_cache_mib: u32,
    /// Largest component, in MiB.
    #[arg(long, env = "SWITCHYARD_COMPONENT_MIB", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub component_mib: u16,
    /// Calls of the strategy in flight at once; more wait for a moment, then get 503.
    #[arg(long, env = "SWITCHYARD_IN_FLIGHT", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub in_flight: u16,
    /// Hours between UTC and the days that usage is counted in; 0 unless given. Claude Relay Service's default is 8.
    #[arg(long, env = "TIMEZONE_OFFSET", allow_hyphen_values = true, value_parser = clap::value_parser!(i8).range(-12..=14))]
    pub timezone_offset: Option<i8>,
    #[command(flatten)]
    pub redis_server: RedisServer,
    #[command(flatten)]
    pub relaying: Relaying,
    #[command(flatten)]
    pub secret: Secret,
    #[command(flatten)]
    pub keys: Keys,
    #[command(flatten)]
    pub pricing: Pricing,
    #[command(flatten)]
    pub limits: LimitsArgs,
    #[command(flatten)]
    pub seed: Seed,
}

/// What serves one of the two stores.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    Embedded,
    Url(String),
    Off,
}

impl Config {
    /// What serves Redis.
    ///
    /// # Errors
    /// Names the variables that contradict each other.
    pub fn redis(&self) -> Result<Source> {
        self.redis_server.source()
    }

    /// What serves PostgreSQL.
    ///
    /// # Errors
    /// Names the variables that contradict each other.
    pub fn postgres(&self) -> Result<Source> {
        let seed = &self.seed;
        if seed.postgres_enabled == Some(false) {
            ensure!(
                self.postgres_url.is_none(),
                "POSTGRES_ENABLED=false and --postgres-url (SWITCHYARD_POSTGRES_URL) contradict each other"
            );
            return Ok(Source::Off);
        }
        let Some(host) = &seed.postgres_host else {
            let stray = [
                ("POSTGRES_PORT", seed.postgres_port.is_some()),
                ("POSTGRES_DATABASE", seed.postgres_database.is_some()),
                ("POSTGRES_USER", seed.postgres_user.is_some()),
                ("POSTGRES_PASSWORD", seed.postgres_password.as_ref().is_some_and(|p| !p.is_empty())),
            ];
            refuse_stray(&stray, "POSTGRES_HOST", self.postgres_url.is_some())?;
            let asked = seed.postgres_enabled == Some(true) && self.postgres_url.is_none();
            ensure!(!asked, "POSTGRES_ENABLED=true needs POSTGRES_HOST or --postgres-url");
            return Ok(source(self.postgres_url.as_deref()));
        };
        ensure!(
            self.postgres_url.is_none(),
            "POSTGRES_HOST and --postgres-url (SWITCHYARD_POSTGRES_URL) are both set; keep one"
        );
        let mut url = parts_url("POSTGRES_HOST", "postgres", host, seed.postgres_port.unwrap_or(5_432))?;
        let user = seed.postgres_user.as_deref().unwrap_or("postgres");
        url.set_username(user).ok().context("POSTGRES_USER cannot be used")?;
        if let Some(password) = seed.postgres_password.as_deref().filter(|password| !password.is_empty()) {
            url.set_password(Some(password)).ok().context("POSTGRES_PASSWORD cannot be used")?;
        }
        url.set_path(seed.postgres_database.as_deref().unwrap_or("claude_relay"));
        let mode = match (seed.postgres_ssl_enabled, seed.postgres_ssl_reject_unauthorized) {
            (Some(true), Some(false)) => "require",
            (Some(true), _) => "verify-full",
            _ => "prefer",
        };
        url.query_pairs_mut().append_pair("sslmode", mode);
        Ok(Source::Url(url.into()))
    }

    /// Checks what no single flag can.
    ///
    /// # Errors
    /// Names the setting and says what to do.
    pub fn check(&self) -> Result<()> {
        if let Some(folder) = &self.watch {
            let reading = || format!("--watch (SWITCHYARD_WATCH): reading {}", folder.display());
            std::fs::read_dir(folder).with_context(reading)?;
        }
        let (redis, postgres) = (self.redis()?, self.postgres()?);
        ensure!(
            redis != Source::Off || postgres != Source::Off,
            "both stores are off; leave --redis-url or --postgres-url unset for the embedded one"
        );
        let strategy = self.first_strategy()?;
        let lacking = match (redis, postgres) {
            (Source::Off, _) if strategy != "postgres_only" => "Redis",
            (_, Source::Off) if strategy != "redis_only" => "PostgreSQL",
            _ => return Ok(()),
        };
        bail!("--strategy {strategy} (DATABASE_STRATEGY) needs {lacking}, which is off")
    }

    /// The strategy of a first start. Fails as [`Self::redis`] and [`Self::postgres`] do.
    pub fn first_strategy(&self) -> Result<&str> {
        Ok(match (&self.strategy, self.redis()?, self.postgres()?) {
            (Some(name), ..) => name,
            (None, Source::Off, _) => "postgres_only",
            (None, _, Source::Off) => "redis_only",
            (None, ..) => "dual_write",
        })
    }

    pub fn offset(&self) -> Offset {
        Offset::constant(self.timezone_offset.unwrap_or_default())
    }

    pub fn redis_deadline(&self) -> Duration {
        Duration::from_millis(self.redis_deadline_ms)
    }

    pub fn postgres_deadline(&self) -> Duration {
        Duration::from_millis(self.postgres_deadline_ms)
    }

    /// How old a copy in Redis may be before it is read anew behind the answer.
    pub fn max_age(&self) -> impl Fn(&Kind) -> Duration + Send + Sync + 'static {
        let seed = self.seed.clone();
        move |kind| {
            let seconds = match kind {
                kind if *kind == API_KEY => seed.cache_api_key_ttl,
                kind if [&ACCOUNT, &ACCOUNT_GROUP].contains(&kind) => seed.cache_account_ttl,
                kind if *kind == SESSION => seed.cache_session_ttl,
                _ => u32::MAX,
            };
            Duration::from_secs(seconds.into())
        }
    }
}

fn source(url: Option<&str>) -> Source {
    match url {
        None | Some("") => Source::Embedded,
        Some("off") => Source::Off,
        Some(url) => Source::Url(url.to_owned()),
    }
}

fn parts_url(variable: &str, scheme: &str, host: &str, port: u16) -> Result<url::Url> {
    url::Url::parse(&format!("{scheme}://{host}:{port}"))
        .with_context(|| format!("{variable} is not a host name"))
}

fn refuse_stray(settings: &[(&str, bool)], host: &str, by_url: bool) -> Result<()> {
    match settings.iter().find(|(_, set)| *set) {
        Some((name, _)) if by_url => bail!("{name} has no effect beside a URL; put it into the URL"),
        Some((name, _)) => bail!("{name} is set, but {host} is not"),
        None => Ok(()),
    }
}

/// Accepts `dual_write` and `dual-write`.
fn strategy_name(text: &str) -> Result<String> {
    let name = text.replace('-', "_");
    let known = crate::strategy::catalogue::BUILT_IN.map(|(name, _)| name);
    ensure!(known.contains(&name.as_str()), "unknown strategy; built in are {}", known.join(", "));
    Ok(name)
}
