//! Whether what a store holds may be believed: judged at each contact, and twice a second.
//!
//! Each store remembers what the other was like. A store that is not what the other remembers, or a Redis that has
//! restarted, is not read until [`super::repair`] has compared the two. While only one store can be reached, this
//! node's own memory stands in for the other's.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::debug;

use crate::store::identity::{Identity, Loss, Seen, Standing};
use crate::store::side::{Side, Sides};

/// How often a store is looked at that is not trusted, and one that is.
const LOOK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// Watches over the stores of a node.
pub struct Trust {
    sides: Sides,
    /// What this node has last seen of Redis and of PostgreSQL.
    seen: Mutex<[Option<Seen>; 2]>,
    need: watch::Sender<Need>,
}

/// What has to be done before both stores are trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Need {
    /// Whether both stores could be asked.
    pub known: bool,
    /// Redis, PostgreSQL: whether it has to be compared.
    pub compare: [bool; 2],
    /// The runs in which that was found.
    runs: [String; 2],
}

/// What was found out about one store.
#[derive(Debug, Clone)]
pub struct Judged {
    pub standing: Standing,
    /// None if it lives and ends with this process.
    pub identity: Option<Identity>,
}

/// What was found out about Redis and PostgreSQL; none of a store that cannot be asked.
pub type Verdict = [Option<Judged>; 2];

impl Trust {
    /// From now on the stores are not read before they were judged. A store without another is all there is.
    pub fn new(sides: Sides) -> Self {
        if let (Some(redis), Some(postgres)) = (&sides.redis, &sides.postgres) {
            redis.distrust();
            postgres.distrust();
        }
        Self { sides, seen: Mutex::default(), need: watch::Sender::default() }
    }

    pub fn need(&self) -> watch::Receiver<Need> {
        self.need.subscribe()
    }

    /// Looks for as long as the task lives.
    pub async fn run(self: Arc<Self>) {
        let (Some(redis), Some(postgres)) = (&self.sides.redis, &self.sides.postgres) else {
            self.need.send_replace(Need { known: true, ..Need::default() });
            return;
        };
        let mut beaten: Option<Instant> = None;
        loop {
            let due = beaten.is_none_or(|at| at.elapsed() >= LOOK.1);
            if due || !redis.is_trusted() || !postgres.is_trusted() {
                self.look(redis, postgres, due).await;
                if due {
                    beaten = Some(Instant::now());
                }
            }
            tokio::time::sleep(LOOK.0).await;
        }
    }

    /// Judges both, and acts on it.
    async fn look(&self, redis: &Side, postgres: &Side, beat: bool) {
        // The contacts before the questions: an answer says nothing of a later contact.
        let contacts = [redis, postgres].map(|side| side.backend.contact());
        let verdict = self.judge().await;
        for ((side, contact), judged) in [redis, postgres].into_iter().zip(contacts).zip(&verdict) {
            match judged {
                Some(Judged { standing: Standing::Same, .. }) => side.trust(contact),
                Some(_) => side.distrust(),
                None => {}
            }
        }
        self.need.send_if_modified(|need| {
            let now = Need::of(&verdict);
            std::mem::replace(need, now.clone()) != now
        });
        self.trust_synced(redis, &verdict).await;
        if beat {
            self.beat(redis, postgres, &verdict).await;
        }
    }

    /// Asks both stores who they are, and what they remember of each other. Changes nothing.
    pub async fn judge(&self) -> Verdict {
        let (Some(redis), Some(postgres)) = (&self.sides.redis, &self.sides.postgres) else {
            return [None, None];
        };
        // What is remembered, here and there, is asked before what a store is: that may move on meanwhile.
        let mut seen = self.seen.lock().clone();
        if let Some(seen) = &mut seen[0] {
            seen.mark = seen.mark.max(redis.taken());
        }
        let memory = redis.backend.identity().await.ok().flatten().and_then(|own| own.counterpart);
        let postgres = postgres.backend.identity().await;
        let known = redis.backend.identity().await;
        let remembered = postgres.as_ref().ok().and_then(|own| own.as_ref()?.counterpart.as_ref());
        let redis = judged(known.ok(), remembered, seen[0].as_ref());
        let same = redis.as_ref().is_some_and(|judged| judged.standing == Standing::Same);
        // A Redis that lost its data may remember an older PostgreSQL than this node does.
        let memory = memory.filter(|_| same || seen[1].is_none());
        let postgres = judged(postgres.ok(), memory.as_ref(), seen[1].as_ref());
        [redis, postgres]
    }

    /// A Redis that restarted while PostgreSQL is away is all there is. It has lost nothing if every write was on its
    /// disk before it was acknowledged.
    async fn trust_synced(&self, redis: &Side, verdict: &Verdict) {
        let [Some(Judged { standing: Standing::Lost(Loss::Restarted), identity: Some(own) }), None] = verdict
        else {
            return;
        };
        if own.synced
            && let Err(error) = redis.backend.vouch(None, &own.run, 0).await
        {
            debug!(%error, "Redis is not vouched for");
        }
    }

    /// Lets each store remember the other as it is now. Of two stores that are not trusted nothing is remembered.
    async fn beat(&self, redis: &Side, postgres: &Side, verdict: &Verdict) {
        let same = |judged: &Option<Judged>| {
            let judged = judged.as_ref().filter(|judged| judged.standing == Standing::Same)?;
            let own = judged.identity.as_ref()?;
            Some(Seen { incarnation: own.incarnation.clone()?, mark: own.mark })
        };
        let known = same(&verdict[0]);
        if let Some(known) = &known {
            self.seen.lock()[0] = Some(known.clone());
        }
        let Some(Seen { incarnation, .. }) = same(&verdict[1]) else { return };
        let beaten = async {
            let mark = postgres.backend.beat(known.as_ref()).await?;
            let now = Seen { incarnation, mark };
            self.seen.lock()[1] = Some(now.clone());
            if known.is_some() {
                redis.backend.beat(Some(&now)).await?;
            }
            Ok::<_, crate::store::StoreError>(())
        };
        if let Err(error) = beaten.await {
            debug!(%error, "no beat");
        }
    }

    /// The mark at which this node has last seen PostgreSQL.
    pub(super) fn postgres_mark(&self) -> u64 {
        self.seen.lock()[1].as_ref().map_or(0, |seen| seen.mark)
    }

    /// Both stores have been compared: what they were like before is of no interest any more.
    pub(super) fn forget(&self) {
        *self.seen.lock() = Default::default();
    }
}

fn judged(asked: Option<Option<Identity>>, remembered: Option<&Seen>, seen: Option<&Seen>) -> Option<Judged> {
    let identity = asked?;
    let standing = identity.as_ref().map_or(Standing::Same, |own| own.standing(remembered, seen));
    Some(Judged { standing, identity })
}

impl Need {
    fn of(verdict: &Verdict) -> Self {
        let compare = verdict
            .each_ref()
            .map(|judged| judged.as_ref().is_some_and(|judged| judged.standing != Standing::Same));
        let runs = verdict.each_ref().map(|judged| {
            let own = judged.as_ref().and_then(|judged| judged.identity.as_ref());
            own.map(|own| own.run.clone()).unwrap_or_default()
        });
        Self { known: verdict.iter().all(Option::is_some), compare, runs }
    }
}
