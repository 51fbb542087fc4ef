//! When a store counts as lost and when as back, and what follows from that.

use std::time::{Duration, Instant};

use crate::engine::Needs;
use crate::store::side::Which;

/// How long a store must be down without a break to count as lost. Losing PostgreSQL moves all nodes, so it is
/// confirmed first; losing Redis is a node's own matter.
const CONFIRM: [(Which, Duration); 2] =
    [(Which::Redis, Duration::ZERO), (Which::Postgres, Duration::from_millis(1_500))];
/// How long a lost store must be up without a break to count as back.
pub(super) const BACK: Duration = Duration::from_secs(5);

/// How long a node that has slept may take to connect again.
const CONNECTS: Duration = Duration::from_millis(1_500);

/// How a store is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Whether it takes writes.
    pub up: bool,
    /// Milliseconds since 1970 since when it has been up or down.
    pub since_ms: i64,
    /// Why it is down.
    pub reason: Option<String>,
}

/// A store over time.
#[derive(Debug)]
pub(super) struct Watched {
    which: Which,
    seen: Seen,
    /// When it was first seen as it is.
    since: Instant,
    pub(super) lost: bool,
    doubted_until: Option<Instant>,
}

impl Watched {
    pub(super) fn new(which: Which, now: Instant) -> Self {
        let seen = Seen { up: true, since_ms: 0, reason: None };
        Self { which, seen, since: now, lost: false, doubted_until: None }
    }

    pub(super) fn note(&mut self, seen: Seen, now: Instant) {
        if (seen.up, seen.since_ms) != (self.seen.up, self.seen.since_ms) {
            self.since = now;
        }
        self.seen = seen;
        let lasting = now.saturating_duration_since(self.since);
        let confirm = CONFIRM.iter().find(|(which, _)| *which == self.which).map_or(BACK, |(_, time)| *time);
        match self.seen.up {
            false if self.doubted_until.is_some_and(|until| now < until) => {}
            false if lasting >= confirm => self.lost = true,
            true if lasting >= BACK => self.lost = false,
            _ => {}
        }
    }

    /// What was seen of it says nothing any more. It has as long to be up again as a node takes to connect.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.doubted_until = Some(now + CONNECTS);
    }

    pub(super) fn up(&self) -> bool {
        self.seen.up
    }

    /// Why it is lost, in words.
    pub(super) fn cause(&self) -> String {
        let store = match self.which {
            Which::Redis => "Redis",
            Which::Postgres => "PostgreSQL",
        };
        match &self.seen.reason {
            Some(reason) => format!("{store} is lost: {reason}"),
            None => format!("{store} is lost"),
        }
    }
}

/// What should be in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Chosen,
    RedisOnly,
    PostgresOnly,
    /// What is in force now.
    Unchanged,
}

/// All that decides about it.
pub(super) struct Outlook<'a> {
    pub(super) chosen: Needs,
    pub(super) pinned: bool,
    pub(super) redis: &'a Watched,
    pub(super) postgres: &'a Watched,
    /// A node has lost PostgreSQL, and all follow it.
    pub(super) voted: bool,
    /// Redis has the last word, so that PostgreSQL is not read.
    pub(super) preceded: bool,
}

impl Outlook<'_> {
    pub(super) fn verdict(&self) -> Verdict {
        if self.pinned {
            return Verdict::Chosen;
        }
        let Self { redis, postgres, .. } = self;
        // A store that is not back for long is better than one that is down.
        let no_redis = redis.lost && (!redis.up() || postgres.up());
        let no_postgres = (postgres.lost && (!postgres.up() || redis.up())) || (self.voted && !redis.lost);
        match (no_redis, no_postgres) {
            (true, true) => Verdict::Unchanged,
            // A store that is just back is better than one that answers nothing.
            (true, false) if self.preceded && redis.up() => Verdict::Unchanged,
            // Nothing stands in for a strategy that uses Redis alone: PostgreSQL lacks what it acknowledged.
            (true, false) if self.chosen.redis && !self.chosen.postgres => Verdict::Unchanged,
            (true, false) if self.chosen.redis => match postgres.up() {
                true => Verdict::PostgresOnly,
                false => Verdict::Unchanged,
            },
            // A vote is known from Redis itself.
            (false, true) if self.chosen.postgres => match redis.up() || self.voted {
                true => Verdict::RedisOnly,
                false => Verdict::Unchanged,
            },
            _ => Verdict::Chosen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Needs = Needs { redis: true, postgres: true };
    const REDIS: Needs = Needs { redis: true, postgres: false };
    const POSTGRES: Needs = Needs { redis: false, postgres: true };

    fn seen(up: bool, since_ms: i64) -> Seen {
        Seen { up, since_ms, reason: None }
    }

    /// A store that has been like this for so long.
    fn for_so_long(which: Which, was_lost: bool, up: bool, time: Duration) -> Watched {
        let began = Instant::now();
        let mut watched = Watched::new(which, began);
        watched.lost = was_lost;
        watched.note(seen(up, 1), began);
        watched.note(seen(up, 1), began + time);
        watched
    }

    fn verdict(chosen: Needs, redis: &Watched, postgres: &Watched, voted: bool) -> Verdict {
        Outlook { chosen, pinned: false, redis, postgres, voted, preceded: false }.verdict()
    }

    #[test]
    fn redis_is_lost_at_once_and_postgres_when_that_is_confirmed() {
        let ms = Duration::from_millis;
        assert!(for_so_long(Which::Redis, false, false, ms(0)).lost);
        assert!(!for_so_long(Which::Postgres, false, false, ms(1_400)).lost);
        assert!(for_so_long(Which::Postgres, false, false, ms(1_500)).lost);
        assert!(for_so_long(Which::Redis, true, true, ms(4_900)).lost);
        assert!(!for_so_long(Which::Redis, true, true, ms(5_000)).lost);
    }

    #[test]
    fn a_store_that_flaps_is_not_back_and_not_lost_either() {
        let began = Instant::now();
        let (mut redis, mut postgres) =
            (Watched::new(Which::Redis, began), Watched::new(Which::Postgres, began));
        for second in 0..60 {
            let at = began + Duration::from_secs(second);
            for watched in [&mut redis, &mut postgres] {
                watched.note(seen(false, second as i64 * 2), at);
                watched.note(seen(true, second as i64 * 2 + 1), at + Duration::from_millis(700));
            }
            assert!(redis.lost && !postgres.lost);
        }
    }

    #[test]
    fn a_change_that_nobody_saw_counts() {
        let began = Instant::now();
        let mut redis = Watched::new(Which::Redis, began);
        redis.note(seen(false, 1), began);
        redis.note(seen(true, 2), began);
        // Down and up again between two looks.
        redis.note(seen(true, 3), began + BACK);
        assert!(redis.lost);
    }

    #[test]
    fn a_stand_in_uses_the_store_that_is_left() {
        let fine = |which| for_so_long(which, false, true, BACK);
        let gone = |which| for_so_long(which, false, false, BACK);
        let (redis, postgres) = (fine(Which::Redis), fine(Which::Postgres));
        let (no_redis, no_postgres) = (gone(Which::Redis), gone(Which::Postgres));
        assert_eq!(verdict(BOTH, &redis, &postgres, false), Verdict::Chosen);
        assert_eq!(verdict(BOTH, &no_redis, &postgres, false), Verdict::PostgresOnly);
        assert_eq!(verdict(BOTH, &redis, &no_postgres, false), Verdict::RedisOnly);
        assert_eq!(verdict(BOTH, &no_redis, &no_postgres, false), Verdict::Unchanged);
        // What needs only the store that is left stays.
        assert_eq!(verdict(REDIS, &redis, &no_postgres, false), Verdict::Chosen);
        assert_eq!(verdict(POSTGRES, &no_redis, &postgres, false), Verdict::Chosen);
        assert_eq!(verdict(POSTGRES, &redis, &no_postgres, false), Verdict::RedisOnly);
        assert_eq!(verdict(REDIS, &no_redis, &postgres, false), Verdict::Unchanged, "falls back to none");
        // Another node's loss of PostgreSQL moves this one too, if it reaches Redis.
        assert_eq!(verdict(BOTH, &redis, &postgres, true), Verdict::RedisOnly);
        assert_eq!(verdict(BOTH, &no_redis, &postgres, true), Verdict::PostgresOnly);
    }

    #[test]
    fn a_store_that_is_just_back_is_better_than_one_that_is_gone() {
        let returning = for_so_long(Which::Redis, true, true, Duration::ZERO);
        let gone = for_so_long(Which::Postgres, false, false, BACK);
        assert_eq!(verdict(BOTH, &returning, &gone, false), Verdict::RedisOnly);
    }

    #[test]
    fn postgres_does_not_stand_in_while_redis_is_up_and_has_the_last_word() {
        let returning = for_so_long(Which::Redis, true, true, Duration::ZERO);
        let gone = for_so_long(Which::Redis, true, false, BACK);
        let postgres = &for_so_long(Which::Postgres, false, true, BACK);
        let verdict = |redis, preceded| {
            Outlook { chosen: BOTH, pinned: false, redis, postgres, voted: false, preceded }.verdict()
        };
        assert_eq!(verdict(&returning, false), Verdict::PostgresOnly);
        assert_eq!(verdict(&returning, true), Verdict::Unchanged);
        assert_eq!(verdict(&gone, true), Verdict::PostgresOnly, "it takes writes");
    }

    #[test]
    fn a_pinned_choice_stays() {
        let (redis, postgres) =
            (for_so_long(Which::Redis, false, false, BACK), for_so_long(Which::Postgres, false, true, BACK));
        let (redis, postgres) = (&redis, &postgres);
        let outlook = Outlook { chosen: BOTH, pinned: true, redis, postgres, voted: true, preceded: false };
        assert_eq!(outlook.verdict(), Verdict::Chosen);
    }
}
