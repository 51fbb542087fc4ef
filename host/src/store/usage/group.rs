//! Events that count in the same windows: those are put together once for all of them.

use jiff::Timestamp;
use jiff::tz::Offset;

use super::UsageEvent;

/// What decides the windows that an event counts in: events of one group count in the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Group<'a> {
    key_id: &'a str,
    account_id: Option<&'a str>,
    model: &'a str,
    /// The shortest window.
    hour: i64,
}

/// The hours from 1970-01-01 to this moment, in the offset of usage.
pub fn hour(at: Timestamp, offset: Offset) -> i64 {
    (at.as_second() + i64::from(offset.seconds())).div_euclid(3_600)
}

impl UsageEvent {
    pub fn group(&self, offset: Offset) -> Group<'_> {
        let Self { key_id, account_id, model, at, .. } = self;
        Group { key_id, account_id: account_id.as_deref(), model, hour: hour(*at, offset) }
    }
}
