//! What a check tells.

use serde::{Deserialize, Serialize};

use super::judge::Reason;
use crate::store::{Fields, Version};

/// How many of each list are told; all are counted, and repaired.
const LISTED: usize = 1_000;

/// A key that the stores do not agree on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Difference {
    pub(super) key: String,
    pub(super) reason: Reason,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) redis_version: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) postgres_version: Option<Version>,
}

/// Counters that the stores do not agree on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DifferingUsage {
    pub(super) key: String,
    pub(super) redis: Option<Fields>,
    pub(super) postgres: Option<Fields>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct UsageReport {
    pub(super) compared: u64,
    pub(super) differing: Vec<DifferingUsage>,
    pub(super) differing_total: u64,
}

/// What was done about a difference, or what a person should do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Advice {
    pub(super) key: String,
    pub(super) action: String,
}

/// How many live records each store was seen to hold. Equal counts do not make them consistent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Held {
    redis: u64,
    postgres: u64,
    difference: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Report {
    consistent: bool,
    counts: Held,
    pub(super) compared: u64,
    differences: Vec<Difference>,
    differences_total: u64,
    pub(super) usage: UsageReport,
    /// Of a repair only; in a dry run what it would repair.
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<Vec<Advice>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired_total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    needs_person: Option<Vec<Advice>>,
}

impl Report {
    pub(super) fn begin(&mut self, repairs: bool) {
        if repairs {
            self.repaired.get_or_insert_default();
            self.repaired_total.get_or_insert_default();
            self.needs_person.get_or_insert_default();
        }
    }

    /// So many more live records are in Redis and in PostgreSQL.
    pub(super) fn held(&mut self, [redis, postgres]: [u64; 2]) {
        self.counts.redis += redis;
        self.counts.postgres += postgres;
        self.counts.difference = self.counts.redis.abs_diff(self.counts.postgres);
    }

    pub(super) fn differs(&mut self, difference: Difference) {
        self.differences_total += 1;
        push(&mut self.differences, difference);
    }

    pub(super) fn usage_differs(&mut self, usage: DifferingUsage) {
        self.usage.differing_total += 1;
        push(&mut self.usage.differing, usage);
    }

    pub(super) fn repaired(&mut self, key: &str, action: &str) {
        *self.repaired_total.get_or_insert_default() += 1;
        push(self.repaired.get_or_insert_default(), Advice { key: key.into(), action: action.into() });
    }

    pub(super) fn needs_person(&mut self, key: &str, action: &str) {
        push(self.needs_person.get_or_insert_default(), Advice { key: key.into(), action: action.into() });
    }

    pub(super) fn end(&mut self) {
        self.consistent = self.differences_total == 0 && self.usage.differing_total == 0;
    }
}

fn push<T>(list: &mut Vec<T>, item: T) {
    if list.len() < LISTED {
        list.push(item);
    }
}
