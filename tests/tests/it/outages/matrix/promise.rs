//! The outages, and what is promised in each.

use std::time::Duration;

use super::super::Stage;

/// One outage, and what ends it.
pub(super) struct Outage {
    pub(super) name: &'static str,
    pub(super) lost: Lost,
    pub(super) begin: fn(&mut Stage),
    pub(super) end: fn(&mut Stage),
    /// How long the longest answer takes until the breaker is open, and in words.
    pub(super) until_open: (Duration, &'static str),
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Lost {
    Redis,
    Postgres,
    Both,
}

/// How long an answer takes at most once the breaker is open.
pub(super) const AFTERWARDS: (Duration, &str) = (Duration::from_millis(50), "50 ms");
const SOON: (Duration, &str) = (Duration::from_millis(500), "<= 500 ms");
const LATE: (Duration, &str) = (Duration::from_secs(2), "<= 2 s");
/// One store after the other keeps silent.
const LATER: (Duration, &str) = (Duration::from_secs(3), "<= 3 s");

pub(super) static OUTAGES: [Outage; 6] = [
    Outage {
        name: "Redis frozen",
        lost: Lost::Redis,
        begin: |s| s.redis.pause(),
        end: |s| s.redis.resume(),
        until_open: LATE,
    },
    Outage {
        name: "Redis dead",
        lost: Lost::Redis,
        begin: |s| s.redis.kill(),
        end: |s| s.redis.restart(),
        until_open: SOON,
    },
    Outage {
        name: "PostgreSQL frozen",
        lost: Lost::Postgres,
        begin: |s| s.postgres.pause(),
        end: |s| s.postgres.resume(),
        until_open: LATE,
    },
    Outage {
        name: "PostgreSQL dead",
        lost: Lost::Postgres,
        begin: |s| s.postgres.kill(),
        end: |s| s.postgres.restart(),
        until_open: SOON,
    },
    Outage {
        name: "both frozen",
        lost: Lost::Both,
        begin: |s| {
            s.redis.pause();
            s.postgres.pause();
        },
        end: |s| {
            s.redis.resume();
            s.postgres.resume();
        },
        until_open: LATER,
    },
    Outage {
        name: "both dead",
        lost: Lost::Both,
        begin: |s| {
            s.redis.kill();
            s.postgres.kill();
        },
        end: |s| {
            s.redis.restart();
            s.postgres.restart();
        },
        until_open: SOON,
    },
];

/// What is answered to each operation, and what is then owed to the other store.
pub(super) type Row = ([&'static str; 5], &'static str);

/// Usage waits on this machine's disk.
const NOTHING: Row = (["503", "503", "503", "503", "200 local"], "nothing");
pub(super) const ALL_BY_POSTGRES: Row =
    (["200", "200", "200 postgres", "200 postgres", "200 postgres"], "by PostgreSQL to Redis");
/// Redis syncs its file once a second while PostgreSQL has the last word.
pub(super) const ALL_BY_REDIS: Row =
    (["200", "200", "200 redis-2s", "200 redis-2s", "200 redis-2s"], "by Redis to PostgreSQL");
/// It syncs every write while it is the only one.
const REDIS_ALONE: Row = (["200", "200", "200 redis", "200 redis", "200 redis"], "by Redis to PostgreSQL");

/// What is promised.
pub(super) fn promised(strategy: &str, lost: Lost) -> Row {
    match (strategy, lost) {
        (_, Lost::Both) | ("redis_only", Lost::Redis) | ("postgres_only", Lost::Postgres) => NOTHING,
        ("database_first", Lost::Postgres) => (["200", "200", "503", "503", "200 local"], "nothing"),
        ("redis_only", Lost::Postgres) => REDIS_ALONE,
        (_, Lost::Redis) => ALL_BY_POSTGRES,
        (_, Lost::Postgres) => ALL_BY_REDIS,
    }
}
