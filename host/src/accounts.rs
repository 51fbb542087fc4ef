//! Upstreams, their sealed credentials, their health, and which one is next.
//!
//! # Layout
//! - [`seal`]: credentials at rest; `relay_service`: as Claude Relay Service seals them
//! - [`handing`]: credentials that are taken over or given back
//! - `account`, [`proxy`]: what a record says
//! - [`health`]: how an upstream has answered of late; `quota`: what it may cost a day
//! - `snapshot`: all accounts as of a moment ago; `served`: the models that they have; `status`: what is written
//!   back for people
//! - [`edit`], [`groups`], [`rewrap`]: what an admin does; `draft` goes in, `view` comes out
//!
//! A choice asks no store while the snapshot is fresh. What a node knows of an account's health it knows alone;
//! the others find out by themselves.

mod account;
mod draft;
pub mod edit;
pub mod groups;
pub mod handing;
pub mod health;
pub mod proxy;
mod quota;
mod relay_service;
pub mod rewrap;
pub mod seal;
mod served;
mod shape;
mod snapshot;
mod status;
mod view;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;
use url::Url;

use self::account::Account;
pub use self::account::{Credential, plain_credential};
use self::health::Readiness;
pub use self::health::{InFlight, Outcome};
pub use self::proxy::{Proxy, ProxyKind};
use self::seal::Seals;
pub use self::served::Served;
pub use self::shape::Shape;
use self::snapshot::{Snapshot, Snapshots};
use crate::secrets::Secrets;
use crate::store::StoreError;
use crate::store::clock::now_ms;
use crate::strategy::records::Records;
use crate::telemetry::Seldom;

/// What a key's binding to a group begins with.
const GROUP: &str = "group:";
/// What is waited at least before an account is asked again.
const LEAST_WAIT: Duration = Duration::from_secs(1);

/// What a request needs of an account.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub model: &'a str,
    /// What its key is bound to: the id of an account, or `group:` and the id of a group.
    pub bound: Option<&'a str>,
    /// The account that has served this session so far.
    pub sticky: Option<&'a str>,
    /// Accounts that this request has tried.
    pub tried: &'a [String],
}

/// An account to ask, and how. Counts as a call under way while it lives.
#[derive(Debug)]
pub struct Upstream {
    pub id: String,
    pub name: String,
    /// What paths such as `/v1/messages` are appended to; its own path may end in a slash.
    pub base_url: Url,
    pub credential: Credential,
    pub proxy: Option<Proxy>,
    /// Sent in place of the client's.
    pub user_agent: Option<String>,
    /// What this upstream calls the model, where that is something else.
    pub model: Option<String>,
    settings: u64,
    _in_flight: InFlight,
}

/// Why there is no account to ask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAccount {
    #[error("no upstream account serves this model for this key; the operator has to add or enable one")]
    None,
    #[error("every upstream account for this model is at its limit; retry in {} seconds", retry_after.as_secs())]
    AllCooling {
        /// At least a second.
        retry_after: Duration,
        /// Whether it is only their rates that they wait for.
        rate_limited: bool,
    },
    #[error("the upstream accounts cannot be read at the moment; retry in a moment")]
    Store(StoreError),
    /// Names the account, and nothing of the credential.
    #[error("{0}; the operator has to correct it")]
    Credential(String),
}

/// Chooses accounts and remembers how they answered.
pub struct Accounts {
    records: Arc<Records>,
    seals: Arc<Seals>,
    snapshots: Arc<Snapshots>,
    /// Rises with each choice.
    choices: AtomicU64,
}

/// What has kept a choice from accounts that would do.
#[derive(Default)]
struct Obstacles {
    soonest: Option<Duration>,
    /// Something else than a rate limit keeps one of them.
    is_busy: bool,
    broken: Option<String>,
}

impl Upstream {
    /// One that is no account: nothing is remembered of it.
    pub fn made_up(id: &str, base_url: Url) -> Option<Self> {
        Some(Self {
            id: id.to_owned(),
            name: id.to_owned(),
            base_url,
            credential: Credential::ApiKey(id.to_owned().into()),
            proxy: None,
            user_agent: None,
            model: None,
            settings: 0,
            _in_flight: InFlight::begin(&Arc::default(), 0)?,
        })
    }
}

impl Accounts {
    pub fn new(records: Arc<Records>, secrets: &Secrets) -> Self {
        let snapshots = Snapshots::new(records.clone());
        Self { records, seals: Arc::new(Seals::new(secrets)), snapshots, choices: AtomicU64::new(0) }
    }

    /// The account to ask next. A bound one comes first; while it is absent, switched off or at its limit, the
    /// shared ones serve, as in Claude Relay Service. A group's members serve alone. Among those that are ready:
    /// the session's, then by priority (the smaller number first), then the one with the fewest calls under way,
    /// then the one whose turn it is. One that has failed a moment ago is asked when no other is ready.
    ///
    /// # Errors
    /// When there is none to ask now.
    pub async fn choose(&self, wanted: &Wanted<'_>) -> Result<Upstream, NoAccount> {
        let snapshot = self.snapshots.current().await.map_err(NoAccount::Store)?;
        let (mut obstacles, now) = (Obstacles::default(), now_ms());
        for mut candidates in pools(&snapshot, wanted.bound)? {
            candidates.retain(|account| self.would_do(account, wanted, now));
            while let Some(at) = best(&candidates, wanted, &mut obstacles) {
                let account = candidates.swap_remove(at);
                if let Some(upstream) = self.take(&account, wanted, &mut obstacles).await {
                    return Ok(upstream);
                }
            }
        }
        Err(obstacles.into())
    }

    /// Notes what came of a call: the account rests, or is well again.
    pub fn report(&self, account: &str, outcome: Outcome) {
        if let Some(account) = self.snapshots.last(account) {
            self.note(&account, Some(outcome));
        }
    }

    /// As [`Self::report`]; an answer to a credential or an address that has changed since says nothing about
    /// the new one.
    pub fn report_of(&self, upstream: &Upstream, outcome: Outcome) {
        if let Some(account) = self.snapshots.last(&upstream.id) {
            self.note(&account, (account.settings == upstream.settings).then_some(outcome));
        }
    }

    fn note(&self, account: &Arc<Account>, outcome: Option<Outcome>) {
        let note = |outcome| account.health.note(outcome, account.settings, Instant::now());
        if outcome.is_some_and(note) || status::is_use_due(account) {
            status::write_soon(&self.records, &self.snapshots, &self.seals, account);
        }
    }

    fn would_do(&self, account: &Account, wanted: &Wanted<'_>, now_ms: i64) -> bool {
        account.serves(now_ms)
            && account.model(wanted.model).is_some()
            && !wanted.tried.iter().any(|tried| tried == account.id())
    }

    async fn take(
        &self,
        account: &Arc<Account>,
        wanted: &Wanted<'_>,
        obstacles: &mut Obstacles,
    ) -> Option<Upstream> {
        let most = account.health.most(account.settings, account.max_in_flight);
        let Some(in_flight) = InFlight::begin(&account.health, most) else {
            obstacles.rests(LEAST_WAIT, false);
            return None;
        };
        let access = match account.access(&self.seals).await {
            Ok(access) => access.clone(),
            Err(why) => {
                static SELDOM: Seldom = Seldom::new();
                if SELDOM.is_due() {
                    warn!(account = account.id(), why, "an account cannot be used");
                }
                let id = account.id();
                obstacles.broken = Some(format!("the upstream account {id:?} cannot be used: {why}"));
                return None;
            }
        };
        account.health.chosen.store(self.choices.fetch_add(1, Relaxed) + 1, Relaxed);
        let model = account.model(wanted.model).filter(|called| *called != wanted.model);
        Some(Upstream {
            id: account.id().to_owned(),
            name: account.name().to_owned(),
            base_url: access.base_url,
            credential: access.credential,
            proxy: access.proxy,
            user_agent: account.user_agent.clone(),
            model: model.map(str::to_owned),
            settings: account.settings,
            _in_flight: in_flight,
        })
    }
}

type Pool = Vec<Arc<Account>>;

/// Where to look, in this order.
fn pools(snapshot: &Snapshot, bound: Option<&str>) -> Result<Vec<Pool>, NoAccount> {
    let find = |id: &str| snapshot.accounts.get(id).cloned();
    if let Some(group) = bound.and_then(|bound| bound.strip_prefix(GROUP)) {
        let members = snapshot.group(group).map_err(NoAccount::Store)?.unwrap_or_default();
        return Ok(vec![members.iter().filter_map(|id| find(id)).collect()]);
    }
    let bound: Pool = bound.and_then(find).into_iter().collect();
    let shared = snapshot.accounts.values().filter(|account| account.shared).cloned().collect();
    Ok(vec![bound, shared])
}

/// The one to ask first of those that may be asked now. Notes how long the others rest.
fn best(candidates: &Pool, wanted: &Wanted<'_>, obstacles: &mut Obstacles) -> Option<usize> {
    let now = Instant::now();
    let rank = |(at, account): (usize, &Arc<Account>)| {
        let health = &account.health;
        let spare = match account.readiness(now) {
            Readiness::Ready => false,
            Readiness::Spare => true,
            Readiness::Resting(left) => {
                obstacles.rests(left, account.is_rate_limited(now));
                return None;
            }
            Readiness::Refused => {
                obstacles.refused(account);
                return None;
            }
        };
        let strange = wanted.sticky != Some(account.id());
        let load = (health.in_flight.load(Relaxed), health.chosen.load(Relaxed));
        Some(((spare, strange, account.priority, load), at))
    };
    candidates.iter().enumerate().filter_map(rank).min().map(|(_, at)| at)
}

impl Obstacles {
    fn rests(&mut self, left: Duration, rate_limited: bool) {
        self.is_busy |= !rate_limited;
        self.soonest = Some(self.soonest.map_or(left, |soonest| soonest.min(left)));
    }

    fn refused(&mut self, account: &Account) {
        self.broken = Some(format!("the upstream refuses the credential of the account {:?}", account.id()));
    }
}

impl From<Obstacles> for NoAccount {
    fn from(Obstacles { soonest, is_busy, broken }: Obstacles) -> Self {
        match (soonest, broken) {
            (Some(left), _) => {
                // Whole seconds, and never too early.
                let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
                let retry_after = Duration::from_secs(seconds).max(LEAST_WAIT);
                Self::AllCooling { retry_after, rate_limited: !is_busy }
            }
            (None, Some(why)) => Self::Credential(why),
            (None, None) => Self::None,
        }
    }
}
