//! Where Redis is.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::{Source, parts_url, refuse_stray, source};

/// Where Redis is: the same for a server and for the commands that look into it.
#[derive(Clone, Default, Args)]
pub struct RedisServer {
    /// redis://, rediss:// or redis+sentinel:// URL; "off" for none. Default: REDIS_HOST and what goes with it, else
    /// an embedded cache.
    #[arg(long, env = "SWITCHYARD_REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<String>,
    /// Certificates (PEM) that a rediss:// server is checked against, in place of the well-known ones.
    #[arg(long, env = "SWITCHYARD_REDIS_CA_FILE")]
    pub redis_ca_file: Option<PathBuf>,
    #[arg(long, env = "REDIS_HOST", help_heading = HEADING)]
    pub redis_host: Option<String>,
    #[arg(long, env = "REDIS_PORT", help_heading = HEADING)]
    pub redis_port: Option<u16>,
    #[arg(long, env = "REDIS_PASSWORD", hide_env_values = true, help_heading = HEADING)]
    pub redis_password: Option<String>,
    #[arg(long, env = "REDIS_DB", help_heading = HEADING)]
    pub redis_db: Option<u8>,
    #[arg(long, env = "REDIS_ENABLE_TLS", action = clap::ArgAction::Set, help_heading = HEADING)]
    pub redis_enable_tls: Option<bool>,
}

const HEADING: &str = "Names of Claude Relay Service";

impl RedisServer {
    /// What serves Redis.
    ///
    /// # Errors
    /// Names the variables that contradict each other.
    pub fn source(&self) -> Result<Source> {
        let Some(host) = &self.redis_host else {
            let stray = [
                ("REDIS_PORT", self.redis_port.is_some()),
                ("REDIS_PASSWORD", self.redis_password.as_ref().is_some_and(|p| !p.is_empty())),
                ("REDIS_DB", self.redis_db.is_some()),
            ];
            refuse_stray(&stray, "REDIS_HOST", self.redis_url.is_some())?;
            return Ok(source(self.redis_url.as_deref()));
        };
        ensure!(
            self.redis_url.is_none(),
            "REDIS_HOST and --redis-url (SWITCHYARD_REDIS_URL) are both set; keep one"
        );
        let scheme = if self.redis_enable_tls == Some(true) { "rediss" } else { "redis" };
        let port = self.redis_port.unwrap_or(6_379);
        let mut url = parts_url("REDIS_HOST", scheme, host, port)?;
        if let Some(password) = self.redis_password.as_deref().filter(|password| !password.is_empty()) {
            url.set_password(Some(password)).ok().context("REDIS_PASSWORD cannot be used")?;
        }
        url.set_path(&self.redis_db.unwrap_or(0).to_string());
        Ok(Source::Url(url.into()))
    }
}

/// Without what may hold a password.
impl std::fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (url, host) = (self.redis_url.is_some(), &self.redis_host);
        f.debug_struct("RedisServer").field("url", &url).field("host", host).finish_non_exhaustive()
    }
}
