//! Where the server is: reads the URL, and opens connections. Never tells the password.

use std::path::Path;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    ProtocolVersion, RedisError, TlsCertificates, TlsMode,
};
use tokio::sync::Mutex;

use crate::store::{Result, StoreError};

/// One server, or the primary that the sentinels name.
pub(super) struct Address {
    server: Server,
    password: Option<String>,
}

enum Server {
    Direct(Box<Client>),
    /// Locked while the sentinels are asked; only the one task that connects does so.
    Sentinels(Box<Mutex<SentinelClient>>),
}

impl Address {
    /// Reads `redis://`, `rediss://`, `unix://`, `redis+sentinel://` or `rediss+sentinel://`
    /// (`[[user]:password@]host:port[,host:port]/name[/db]`). `ca_file` replaces the built-in roots.
    pub(super) fn parse(url: &str, ca_file: Option<&Path>) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refused("it has no scheme"))?;
        if scheme.contains("cluster") {
            return Err(cluster_refused());
        }
        if scheme.starts_with("rediss") {
            // The process may have a provider already; any will do.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let certificates = ca_file.map(certificates).transpose()?;
        match scheme {
            "redis+sentinel" => Self::sentinels("redis", rest, certificates),
            "rediss+sentinel" => Self::sentinels("rediss", rest, certificates),
            "redis" | "rediss" | "unix" | "redis+unix" => Self::direct(url, certificates),
            _ => {
                Err(refused("its scheme is not one of redis, rediss, redis+sentinel, rediss+sentinel, unix"))
            }
        }
    }

    fn direct(url: &str, certificates: Option<TlsCertificates>) -> Result<Self> {
        let info = info(url)?;
        let password = info.redis_settings().password().map(str::to_owned);
        let client = match certificates {
            Some(certificates) if url.starts_with("rediss") => Client::build_with_tls(info, certificates),
            _ => Client::open(info),
        };
        let client = client.map_err(|error| malformed(&error))?;
        Ok(Self { server: Server::Direct(Box::new(client)), password })
    }

    fn sentinels(scheme: &str, rest: &str, certificates: Option<TlsCertificates>) -> Result<Self> {
        let (login, rest) = rest.rsplit_once('@').map_or(("", rest), |(login, rest)| (login, rest));
        let mut parts = rest.splitn(3, '/');
        let (hosts, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let db = parts.next().unwrap_or("0");
        if hosts.is_empty() || name.is_empty() {
            return Err(refused("it needs host:port[,host:port]/name[/db] after the scheme"));
        }
        let at = if login.is_empty() { "" } else { "@" };
        let nodes = hosts.split(',').map(|host| info(&format!("{scheme}://{login}{at}{host}/{db}")));
        let nodes = nodes.collect::<Result<Vec<_>>>()?;
        let addresses: Vec<ConnectionAddr> = nodes.iter().map(|node| node.addr().clone()).collect();
        let login = nodes[0].redis_settings();
        let mut builder = SentinelClientBuilder::new(addresses, name, SentinelServerType::Master)
            .map_err(|error| malformed(&error))?
            .set_client_to_redis_protocol(ProtocolVersion::RESP3)
            .set_client_to_redis_tcp_settings(tcp())
            .set_client_to_redis_db(login.db());
        if let Some(user) = login.username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = login.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if scheme == "rediss" {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = certificates {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates);
        }
        let client = builder.build().map_err(|error| malformed(&error))?;
        let password = login.password().map(str::to_owned);
        Ok(Self { server: Server::Sentinels(Box::new(Mutex::new(client))), password })
    }

    /// A new connection. Has no deadline of its own.
    pub(super) async fn open(
        &self,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        match &self.server {
            Server::Direct(client) => client.get_multiplexed_async_connection_with_config(config).await,
            Server::Sentinels(sentinels) => {
                let primary = sentinels.lock().await.async_get_client().await?;
                primary.get_multiplexed_async_connection_with_config(config).await
            }
        }
    }

    /// An error in words. A server may repeat what it was sent, so the password is cut out.
    pub(super) fn describe(&self, error: &RedisError) -> String {
        let text = error.to_string();
        match self.password.as_deref() {
            Some(password) if !password.is_empty() => text.replace(password, "***"),
            _ => text,
        }
    }
}

pub(super) fn cluster_refused() -> StoreError {
    refused(
        "a Redis Cluster is not supported: one script touches a record, its index and its mark in one step, \
         so Redis must be one primary (alone, or behind Sentinel or a managed failover)",
    )
}

fn refused(reason: &str) -> StoreError {
    StoreError::Unsupported(format!("the Redis URL cannot be used: {reason}"))
}

/// What is wrong with a URL. Only the first words are fixed; what follows may quote it.
fn malformed(error: &RedisError) -> StoreError {
    let text = error.to_string();
    let what = match error.kind() {
        ErrorKind::InvalidClientConfig => text.split(" - ").next().unwrap_or_default(),
        _ => error.category(),
    };
    refused(&format!("{what}; the form is redis://[[user]:password@]host[:port][/db]"))
}

fn info(url: &str) -> Result<ConnectionInfo> {
    let info = url.into_connection_info().map_err(|error| malformed(&error))?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(info.set_redis_settings(settings).set_tcp_settings(tcp()))
}

fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn certificates(file: &Path) -> Result<TlsCertificates> {
    let pem = std::fs::read(file).map_err(|error| {
        StoreError::Unsupported(format!("the CA file {} cannot be read: {error}", file.display()))
    })?;
    Ok(TlsCertificates { client_tls: None, root_cert: Some(pem) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        Address::parse(url, None).err().unwrap().to_string()
    }

    #[test]
    fn a_cluster_and_a_malformed_url_are_refused_without_the_password() {
        assert!(refusal("redis+cluster://:hunter2@a:1,b:2").contains("one primary"));
        for url in [
            "hunter2",
            "http://:hunter2@a:1",
            "redis://:hunter2@a:port",
            "redis://:hunter2@a:1/db",
            "redis+sentinel://:hunter2@a:1",
            "redis+sentinel://:hunter2@/name",
            "redis+sentinel://:hunter2@a:1,b:port/name",
        ] {
            let reason = refusal(url);
            assert!(reason.starts_with("unsupported: the Redis URL cannot be used"), "{reason}");
            assert!(!reason.contains("hunter2"), "{reason}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_missing() {
        for (url, missing) in [
            ("redis://", "Missing hostname"),
            ("redis://:hunter2@", "did not parse"),
            ("redis://:hunter2@a:1/db", "Invalid database number"),
        ] {
            let reason = refusal(url);
            assert!(reason.contains(missing) && !reason.contains("hunter2"), "{reason}");
        }
    }

    #[test]
    fn every_form_of_url_is_read() {
        for url in [
            "redis://a",
            "redis://user:p%40ss@a:1/2",
            "rediss://:p@a:1",
            "unix:///run/redis.sock",
            "redis+sentinel://:p%40ss@a:1,b:2/name/3",
            "rediss+sentinel://a:1/name",
        ] {
            assert!(Address::parse(url, None).is_ok(), "{url}");
        }
    }

    #[test]
    fn the_password_is_cut_out_of_what_a_server_repeats() {
        let address = Address::parse("redis://:p%40ss@a:1", None).unwrap();
        let error = RedisError::from((redis::ErrorKind::Client, "unknown command", "AUTH 'p@ss'".to_owned()));
        assert!(!address.describe(&error).contains("p@ss"));
    }
}
