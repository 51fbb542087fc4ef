//! Usage: counters in Claude Relay Service's hashes, folded from events that are counted once each.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::call::Effect;
use super::windows::{self, Held};
use super::{Redis, layout, script};
use crate::planted;
use crate::store::usage::{Counts, UsageEvent, Window, counter_fields};
use crate::store::{Backlog, Key, Mark, Record, Result, StoreError, Usage, Version};

const DAY_MS: u64 = 24 * 3_600 * 1_000;
/// How long the id of an event is remembered: a repetition within this time does not count.
const EVENT_MS: u64 = 2 * DAY_MS;
/// How many events one script forgets to owe.
const EVENTS_PER_SCRIPT: usize = 1_000;
pub(super) const STORED: usize = 10;

/// The names of the counters in the hash of all time and in the hashes of a month, a day, an hour;
/// what they count is in [`stored`].
const TOTAL: [&str; STORED] = [
    "totalRequests",
    "totalInputTokens",
    "totalOutputTokens",
    "totalEphemeral5mTokens",
    "totalEphemeral1hTokens",
    "totalCacheReadTokens",
    "costMicroUsd",
    "totalCacheCreateTokens",
    "totalTokens",
    "totalAllTokens",
];
const SPAN: [&str; STORED] = [
    "requests",
    "inputTokens",
    "outputTokens",
    "ephemeral5mTokens",
    "ephemeral1hTokens",
    "cacheReadTokens",
    "costMicroUsd",
    "cacheCreateTokens",
    "tokens",
    "allTokens",
];

/// What one event adds to each stored counter: ours in their order, then the sums that are kept beside them.
pub(super) fn stored(counts: &Counts) -> [i64; STORED] {
    let [requests, input, output, five_minutes, hour, read, cost] = *counts;
    let (created, core) = (five_minutes + hour, input + output);
    [requests, input, output, five_minutes, hour, read, cost, created, core, core + created + read]
}

/// Our counters from the stored ones. What was written to a cache for an unknown time counts as 5 minutes.
pub(super) fn counts(stored: [i64; STORED]) -> Counts {
    let [requests, input, output, five_minutes, hour, read, cost, created, ..] = stored;
    [requests, input, output, five_minutes.max(created.saturating_sub(hour)), hour, read, cost]
}

/// Where the counters of a window are.
pub(super) struct Place {
    pub(super) key: String,
    /// Where Claude Relay Service counts dollars.
    pub(super) cost_key: String,
    pub(super) fields: &'static [&'static str; STORED],
    /// 0: for ever.
    pub(super) life_ms: u64,
}

impl Place {
    pub(super) fn new(subject: &str, window: &Window) -> Self {
        let (key, life_ms) = match window {
            Window::Total => (format!("usage:{subject}"), 0),
            Window::Monthly(at) => (format!("usage:monthly:{subject}:{at}"), 365 * DAY_MS),
            Window::Daily(at) => (format!("usage:daily:{subject}:{at}"), 32 * DAY_MS),
            Window::Hourly(at) => (format!("usage:hourly:{subject}:{}", at.replace('T', ":")), 7 * DAY_MS),
        };
        let fields = if *window == Window::Total { &TOTAL } else { &SPAN };
        let rest = key.strip_prefix("usage:").unwrap_or(&key);
        let cost_key = match window {
            Window::Total => format!("usage:cost:total:{rest}"),
            _ => format!("usage:cost:{rest}"),
        };
        Self { key, cost_key, fields, life_ms }
    }
}

/// How many keys to look at in one step, and how many steps to take at most: a hundred million keys.
const KEYS_PER_STEP: u32 = 1_000;
const MAX_STEPS: usize = 100_000;

impl Redis {
    /// Whether there are counters of any key.
    pub(super) async fn has_totals(&self) -> Result<bool> {
        let mut cursor = String::from("0");
        for _ in 0..MAX_STEPS {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg("usage:*").arg("COUNT").arg(KEYS_PER_STEP);
            let [next, keys] = layout::array(self.wire.begin()?.cmd(Effect::Reads, &scan).await?)?;
            if !layout::list(keys)?.is_empty() {
                return Ok(true);
            }
            cursor = layout::text(next)?;
            if cursor == "0" {
                return Ok(false);
            }
        }
        Err(StoreError::Other("too many keys to look through".into()))
    }

    /// The counters of a window as a record; its version is the number of requests.
    pub(super) async fn get_totals(&self, key: &Key) -> Result<Option<Arc<Record>>> {
        let window =
            key.id.split_once(':').and_then(|(subject, window)| Some((subject, Window::parse(window)?)));
        let Some((subject, window)) = window else { return Ok(None) };
        let place = Place::new(subject, &window);
        let [held] = &windows::read(&self.wire.begin()?, &[place]).await?[..] else { return Ok(None) };
        let counts = match held {
            Held::Counts(counts) => *counts,
            Held::Nothing => return Ok(None),
            Held::Other(kind) => return Err(StoreError::Other(format!("the counters are a {kind}"))),
        };
        Ok(Some(Arc::new(Record {
            key: key.clone(),
            version: counts[0] as Version,
            deleted: false,
            fields: counter_fields(&counts),
            expires_at: None,
            cached_at: None,
        })))
    }

    pub(super) async fn count(&self, usage: &Usage) -> Result<u64> {
        if usage.events.is_empty() {
            return Ok(0);
        }
        let mut add = batch(usage)?;
        let new = self.wire.begin()?.write(&mut add).await?;
        match layout::integer(&new) {
            Some(new) if new >= 0 => Ok(new as u64),
            Some(_) => {
                Err(StoreError::Paused("Redis counts no usage while its counters are compared".into()))
            }
            None => Err(layout::unexpected("a number")),
        }
    }

    pub(super) async fn owed_events(&self, limit: u32) -> Result<Vec<UsageEvent>> {
        let mut read = redis::cmd("HRANDFIELD");
        read.arg(layout::OWED).arg(limit).arg("WITHVALUES");
        let mut events = Vec::new();
        for pair in layout::list(self.wire.begin()?.cmd(Effect::Reads, &read).await?)? {
            let [id, json] = layout::array(pair)?;
            match serde_json::from_str(&layout::text(json)?) {
                Ok(event) => events.push(event),
                Err(error) => tracing::error!(id = layout::text(id)?, %error, "an owed event is unreadable"),
            }
        }
        Ok(events)
    }

    pub(super) async fn settle_events(&self, ids: &[String]) -> Result<()> {
        for ids in ids.chunks(EVENTS_PER_SCRIPT) {
            let mut counted = script::COUNTED.key(layout::OWED);
            counted.arg(ids);
            self.wire.begin()?.write(&mut counted).await?;
        }
        Ok(())
    }

    pub(super) async fn owed(&self) -> Result<Backlog> {
        let mut pipe = redis::pipe();
        pipe.cmd("ZCARD").arg(layout::DIRTY).cmd("HLEN").arg(layout::OWED);
        pipe.cmd("ZRANGE").arg(layout::DIRTY).arg(0).arg(0).arg("WITHSCORES");
        let answer = self.wire.begin()?.pipe(Effect::Reads, &pipe).await?;
        let [records, usage, oldest] = layout::array(answer)?;
        let count = |value| layout::integer(value).unwrap_or(0) as u64;
        Ok(Backlog::new(count(&records), count(&usage), layout::score(oldest)))
    }
}

/// A batch as `add.lua` takes it.
fn batch(usage: &Usage) -> Result<redis::ScriptInvocation<'static>> {
    let mut places: BTreeMap<(&str, Window), usize> = BTreeMap::new();
    let mut add = script::ADD.key(layout::OWED);
    add.arg(EVENT_MS).arg(u8::from(usage.mark == Mark::Dirty)).arg(STORED);
    let windows: Vec<_> = usage.events.iter().map(|event| event.windows(usage.offset)).collect();
    for (event, windows) in usage.events.iter().zip(&windows) {
        for window in windows {
            // KEYS counts from 1, and begins with the owed events.
            let position = places.len() + 2;
            places.entry((&event.key_id, window.clone())).or_insert_with(|| {
                let place = Place::new(&event.key_id, window);
                add.key(place.key).arg(place.life_ms).arg(place.fields.as_slice());
                position
            });
        }
    }
    for (event, windows) in usage.events.iter().zip(windows) {
        let json = serde_json::to_string(event).map_err(|error| StoreError::Other(error.to_string()))?;
        add.arg(layout::event(&counted_as(event))).arg(&event.id).arg(json).arg(windows.len());
        for window in windows {
            add.arg(places[&(event.key_id.as_str(), window)]);
        }
        add.arg(stored(&event.counts()).as_slice());
    }
    Ok(add)
}

/// By what a repeated event is recognised.
fn counted_as(event: &UsageEvent) -> String {
    match planted::is("counter-without-event-id") {
        true => uuid::Uuid::now_v7().to_string(),
        false => event.id.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::usage::COUNTERS;

    #[test]
    fn what_is_stored_reads_back_as_what_was_counted() {
        let counted: Counts = [1, 2, 3, 4, 5, 6, 7];
        assert_eq!(stored(&counted), [1, 2, 3, 4, 5, 6, 7, 9, 5, 20]);
        assert_eq!(counts(stored(&counted)), counted);
        assert_eq!(COUNTERS.len(), counted.len());
    }

    #[test]
    fn cache_writes_without_a_duration_are_five_minute_writes() {
        let mut crs = [0; STORED];
        crs[7] = 10;
        crs[4] = 3;
        assert_eq!(counts(crs)[3..5], [7, 3]);
    }
}
