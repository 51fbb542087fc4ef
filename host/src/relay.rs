//! A client's request on its way upstream and back.
//!
//! # Layout, in the order of a request
//! - [`credential`]: the client's key
//! - `asked`: what is read of the body
//! - `room`: how much may be under way
//! - `sticky`: the account that a conversation stays with
//! - `headers`: what goes up and what comes back
//! - `upstream`: connections, direct and through proxies
//! - `attempt`, `judge`: one upstream, and what its answer means
//! - `forward`: from one account to the next
//! - `stream`, [`body`]: bytes on their way to the client
//! - `bill`: what an attempt owes
//! - [`refusal`]: what is said instead of an answer
//! - `info`, `models`: what a client may ask about its key

mod asked;
mod attempt;
mod bill;
pub mod body;
pub mod credential;
mod forward;
mod headers;
mod info;
mod judge;
mod models;
pub mod refusal;
mod room;
mod sticky;
mod stream;
mod upstream;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::header::{HeaderMap, USER_AGENT};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use self::asked::Asked;
use self::body::Body;
use self::forward::Figures;
pub use self::refusal::Refusal;
use self::room::Room;
pub use self::room::{Held, MAX_BODY};
use self::sticky::Sticky;
pub use self::upstream::Trust;
use self::upstream::Upstreams;
use crate::accounts::Accounts;
use crate::keys::{self, ApiKey, Keys};
use crate::limits::Limits;
use crate::store::ids::Ids;
use crate::strategy::records::Records;
use crate::telemetry::Metrics;
use crate::usage::Recorder;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// A connection to an upstream.
    pub connect: Duration,
    /// A whole plain answer, or the first bytes of a stream.
    pub answer: Duration,
    /// A pause within a stream.
    pub silence: Duration,
    /// How long after its last request a conversation is free to go to another account.
    pub sticky: Duration,
}

/// What the relay works with.
pub struct Parts {
    pub records: Arc<Records>,
    pub keys: Arc<Keys>,
    pub accounts: Arc<Accounts>,
    pub limits: Limits,
    pub recorder: Arc<Recorder>,
    /// Answers where no account does: the address of a demo upstream.
    pub demo: Option<Url>,
    pub trust: Trust,
}

/// Relays requests.
pub struct Relay {
    parts: Parts,
    options: Options,
    sticky: Sticky,
    upstreams: Upstreams,
    room: Room,
    figures: Figures,
    ids: Ids,
}

/// What a client asks an upstream for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    Message,
    /// How many tokens a message has.
    Count,
}

impl Wants {
    fn path(self) -> &'static str {
        match self {
            Self::Message => "/v1/messages",
            Self::Count => "/v1/messages/count_tokens",
        }
    }
}

/// A request that has been let in.
struct Call {
    wants: Wants,
    key: ApiKey,
    asked: Asked,
    /// Those that go upstream.
    headers: HeaderMap,
    query: Option<String>,
    body: Bytes,
    request_id: String,
    /// The room that its body takes.
    _held: Held,
}

/// What came with a request beside its body.
pub struct Head<'a> {
    pub headers: &'a HeaderMap,
    pub query: Option<&'a str>,
    pub request_id: &'a str,
}

impl Relay {
    /// # Errors
    /// When the system has no randomness.
    pub fn new(parts: Parts, options: Options, metrics: &Metrics) -> io::Result<Self> {
        Ok(Self {
            sticky: Sticky::new(parts.records.clone(), options.sticky),
            upstreams: Upstreams::new(options.connect, parts.trust.clone()),
            room: Room::default(),
            figures: Figures::new(metrics),
            ids: Ids::new()?,
            parts,
            options,
        })
    }

    /// Whose request this is. Reads nothing but its head.
    ///
    /// # Errors
    /// 401 for a key that is missing, unknown or no longer good; 503 when the stores cannot say.
    pub async fn admit(&self, head: &Head<'_>) -> Result<ApiKey, Refusal> {
        let presented = credential::presented(head.headers)?;
        let presented = presented.ok_or(keys::Refusal::Missing)?;
        credential::keep_out_of(head.query, presented)?;
        Ok(self.parts.keys.authenticate(presented).await?)
    }

    /// Whether this key may talk to Claude with this client, before its body is read.
    ///
    /// # Errors
    /// 403, with the reason.
    pub fn check(&self, key: &ApiKey, wants: Wants, headers: &HeaderMap) -> Result<(), Refusal> {
        if !key.may_use_claude() {
            let message = "This API key is not allowed to use Claude.";
            return Err(Refusal::new(403, "permission_denied", message));
        }
        if wants == Wants::Count {
            return Ok(());
        }
        let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let refused = |why| {
            let refusal = Refusal::new(403, "client_not_allowed", why).with("userAgent", agent);
            refusal.with("allowedClients", key.allowed_clients())
        };
        key.allows_client(agent).map_err(refused)
    }

    /// Room for the beginning of a body of this announced length, or of any length. It grows as the body comes.
    ///
    /// # Errors
    /// 529 when too much is under way.
    pub fn room(&self, key: &ApiKey, announced: Option<u64>) -> Result<Held, Refusal> {
        self.room.hold(&key.record().key.id, announced)
    }

    /// Relays a request whose key is good. Ends when the caller does not wait for it any more: the upstream is let
    /// go, and what it has begun by then is counted.
    ///
    /// # Errors
    /// What the client is told instead of an answer.
    pub async fn call(
        self: &Arc<Self>,
        (key, wants): (ApiKey, Wants),
        head: &Head<'_>,
        (body, held): (Bytes, Held),
    ) -> Result<Response<Body>, Refusal> {
        let asked = Asked::read(head.headers, &body)?;
        key.allows_model(&asked.model).map_err(|why| Refusal::new(403, "model_not_allowed", why))?;
        self.parts.keys.used(&key);
        // The key has been good a moment ago, so it is text.
        let presented = credential::presented(head.headers)?.unwrap_or_default();
        let call = Call {
            wants,
            headers: headers::up(head.headers, presented),
            query: head.query.map(str::to_owned),
            request_id: head.request_id.to_owned(),
            _held: held.of(body.len()),
            key,
            asked,
            body,
        };
        let relay = self.clone();
        let relayed = AbortOnDropHandle::new(tokio::spawn(async move { relay.forward(call).await }));
        let failed = |_| Refusal::new(500, "internal", "The relay failed; its log has the reason.");
        relayed.await.map_err(failed)?
    }
}

impl From<keys::Refusal> for Refusal {
    fn from(refusal: keys::Refusal) -> Self {
        use keys::Refusal::{Deleted, Disabled, Expired, Malformed, Missing, Store, Unknown, Unreadable};
        let code = match &refusal {
            Missing => "missing_api_key",
            Malformed => "malformed_api_key",
            Unknown => "invalid_api_key",
            Disabled => "disabled_api_key",
            Deleted => "deleted_api_key",
            Expired(_) => "expired_api_key",
            Unreadable(_) => "unreadable_api_key",
            Store(error) => return Self::storage(error),
        };
        Self::new(401, code, refusal.to_string())
    }
}
