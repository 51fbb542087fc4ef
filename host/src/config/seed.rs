//! Settings under the names that Claude Relay Service has them.

use clap::Args;

/// Settings under the names that Claude Relay Service's environment has.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Names of Claude Relay Service")]
pub struct Seed {
    /// false: no PostgreSQL side at all.
    #[arg(long, env = "POSTGRES_ENABLED", action = clap::ArgAction::Set)]
    pub postgres_enabled: Option<bool>,
    #[arg(long, env = "POSTGRES_HOST")]
    pub postgres_host: Option<String>,
    #[arg(long, env = "POSTGRES_PORT")]
    pub postgres_port: Option<u16>,
    #[arg(long, env = "POSTGRES_DATABASE")]
    pub postgres_database: Option<String>,
    #[arg(long, env = "POSTGRES_USER")]
    pub postgres_user: Option<String>,
    #[arg(long, env = "POSTGRES_PASSWORD", hide_env_values = true)]
    pub postgres_password: Option<String>,
    #[arg(long, env = "POSTGRES_SSL_ENABLED", action = clap::ArgAction::Set)]
    pub postgres_ssl_enabled: Option<bool>,
    #[arg(long, env = "POSTGRES_SSL_REJECT_UNAUTHORIZED", action = clap::ArgAction::Set)]
    pub postgres_ssl_reject_unauthorized: Option<bool>,
    /// Age in seconds from which a copy of an API key is read anew from PostgreSQL behind the answer.
    #[arg(long, env = "CACHE_API_KEY_TTL", default_value_t = 86_400)]
    pub cache_api_key_ttl: u32,
    /// The same for sessions.
    #[arg(long, env = "CACHE_SESSION_TTL", default_value_t = 1_800)]
    pub cache_session_ttl: u32,
    /// The same for accounts.
    #[arg(long, env = "CACHE_ACCOUNT_TTL", default_value_t = 3_600)]
    pub cache_account_ttl: u32,
    /// false: do not copy at start what only one of the stores has. A record that is missing in a store which
    /// may be incomplete is then unavailable rather than absent.
    #[arg(long, env = "DATABASE_SYNC_ON_STARTUP", default_value_t = true, action = clap::ArgAction::Set)]
    pub database_sync_on_startup: bool,
    /// Accepted, and without effect: what one store missed is carried over within moments in any case.
    #[arg(long, env = "DATABASE_SYNC_ENABLED", default_value_t = true, action = clap::ArgAction::Set)]
    pub database_sync_enabled: bool,
    /// Accepted, and without effect, as DATABASE_SYNC_ENABLED.
    #[arg(long, env = "DATABASE_SYNC_INTERVAL", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(100..=86_400_000))]
    pub database_sync_interval: u64,
}
