//! What PostgreSQL has shown, Redis does not take back: another node may write to PostgreSQL alone, and the drain has
//! yet to carry that over.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Side, Which};
use crate::store::Record;
use crate::store::kind::Visibility;
use crate::store::stale::redis_has_failed;

/// While it lives, Redis answers for no record that PostgreSQL shows before it has caught up with that.
pub struct ShownNoted(Option<Arc<Side>>);

impl ShownNoted {
    /// One at a time.
    pub fn on(redis: Option<&Arc<Side>>) -> Self {
        redis.iter().for_each(|redis| redis.lag.notes_shown.store(true, Ordering::Release));
        Self(redis.cloned())
    }
}

impl Drop for ShownNoted {
    fn drop(&mut self) {
        self.0.iter().for_each(|redis| redis.lag.notes_shown.store(false, Ordering::Release));
    }
}

impl Side {
    /// A read has found this, and is about to answer it.
    pub(super) fn note_found(&self, record: &Arc<Record>) {
        self.note_age(record);
        if self.which == Which::Redis || record.key.kind.visibility != Visibility::Public {
            return;
        }
        if let Some(redis) = self.other()
            && (redis.lag.notes_shown.load(Ordering::Acquire) || redis_has_failed())
        {
            redis.lags_behind(record);
        }
    }
}
