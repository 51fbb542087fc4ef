//! What the background tasks ask about the stores and the strategies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::engine::Needs;
use crate::recovery::degrade::{Look, Seen};
use crate::recovery::drain::Needed;
use crate::recovery::health::Health;
use crate::strategy::{IsUp, Strategies};

/// How long other nodes may take to follow a switch while a store fails.
const OTHERS_FOLLOW: Duration = Duration::from_secs(30);

/// What is in force or chosen needs, or did a moment ago: other nodes may be about to follow.
pub(super) fn needed(strategies: &Arc<Strategies>) -> Needed {
    let (strategies, last) = (strategies.clone(), Mutex::new([None::<Instant>; 2]));
    Box::new(move || {
        // Not held: a generation that is held is not drained.
        let (active, chosen) = (strategies.active.enter().needs, strategies.chosen_needs());
        let now = [active.redis || chosen.redis, active.postgres || chosen.postgres];
        let mut last = last.lock();
        for (last, _) in last.iter_mut().zip(now).filter(|(_, needed)| *needed) {
            *last = Some(Instant::now());
        }
        let [redis, postgres] = last.map(|at| at.is_some_and(|at| at.elapsed() < OTHERS_FOLLOW));
        Needs { redis, postgres }
    })
}

/// Whether a store takes writes. One that is switched off does not.
pub(super) fn is_up(health: &Arc<Health>) -> IsUp {
    let health = health.clone();
    Box::new(move |which| health.stores().iter().any(|store| store.store == which.name() && store.up))
}

/// How a store is. One that is switched off is not missed.
pub(super) fn look(health: &Arc<Health>) -> Look {
    let health = health.clone();
    Box::new(move |which| {
        let stores = health.stores();
        match stores.into_iter().find(|store| store.store == which.name()) {
            Some(store) => Seen { up: store.up, since_ms: store.since, reason: store.error },
            None => Seen { up: true, since_ms: 0, reason: None },
        }
    })
}
