//! Usage: counters in Claude Relay Service's hashes, folded from events that are counted once each.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::Offset;

use super::beside::{self, Counter};
use super::call::Effect;
use super::place::{COST, DAY_MS, Place, STORED, stored};
use super::windows::{self, Held};
use super::{Redis, layout, script};
use crate::planted;
use crate::store::usage::{Group, Subject, UsageEvent, counter_fields};
use crate::store::{Backlog, Key, Mark, Record, Result, StoreError, Usage, Version};

/// How long the id of an event is remembered: a repetition within this time does not count.
const EVENT_MS: u64 = 2 * DAY_MS;
/// How many events one script forgets to owe.
const EVENTS_PER_SCRIPT: usize = 1_000;
/// How many windows one script counts in, beside those of its last event: Redis serves nobody else meanwhile.
const WINDOWS_PER_SCRIPT: usize = 1_000;

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
        let Some((subject, window)) = Subject::of_id(&key.id) else { return Ok(None) };
        let place = Place::new(&subject, &window);
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
        let (call, mut new, mut parts) = (self.wire.begin()?, 0, vec![Part::default()]);
        for event in usage.events.iter() {
            if parts.last().is_none_or(Part::is_full) {
                parts.push(Part::default());
            }
            if let Some(part) = parts.last_mut() {
                part.add(event, usage.offset);
            }
        }
        // An event counts once, so that a caller who is refused in the middle may repeat all of them.
        for part in parts.into_iter().filter(|part| !part.events.is_empty()) {
            let answer = call.write(&mut part.script(usage)?).await?;
            new += match layout::integer(&answer) {
                Some(new) if new >= 0 => new as u64,
                Some(_) => {
                    let closed = "Redis counts no usage while its counters are compared";
                    return Err(StoreError::Paused(closed.into()));
                }
                None => return Err(layout::unexpected("a number")),
            };
        }
        Ok(new)
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

/// What one script counts.
#[derive(Default)]
struct Part<'a> {
    /// The windows, and their places among them, counted from 1.
    windows: HashMap<Counter, usize>,
    places: Vec<Place>,
    /// Those of each group, and the groups, counted from 1.
    grouped: Vec<Vec<usize>>,
    groups: HashMap<Group<'a>, usize>,
    /// Each with its group.
    events: Vec<(&'a UsageEvent, usize)>,
}

impl<'a> Part<'a> {
    fn is_full(&self) -> bool {
        self.places.len() >= WINDOWS_PER_SCRIPT
    }

    fn add(&mut self, event: &'a UsageEvent, offset: Offset) {
        let Self { windows, places, grouped, groups, events } = self;
        let group = groups.entry(event.group(offset)).or_insert_with(|| {
            let position = |counter| {
                *windows.entry(counter).or_insert_with_key(|counter| {
                    places.push(counter.place());
                    places.len()
                })
            };
            grouped.push(Counter::of(event, offset).into_iter().map(position).collect());
            grouped.len()
        });
        events.push((event, *group));
    }

    /// As `add.lua` takes it.
    fn script(&self, usage: &Usage) -> Result<redis::ScriptInvocation<'static>> {
        let mut add = script::ADD.key(layout::OWED);
        add.arg(EVENT_MS).arg(u8::from(usage.mark == Mark::Dirty)).arg(STORED).arg(COST);
        add.arg(beside::LISTED_MS).arg(beside::LISTED).arg(self.places.len());
        for place in &self.places {
            add.arg(&place.key).arg(place.life_ms).arg(&place.index.0).arg(&place.index.1);
            add.arg(&place.cost_key).arg(place.cost_life_ms).arg(&place.real_cost_key);
            add.arg(place.fields.as_slice());
        }
        add.arg(self.grouped.len());
        for windows in &self.grouped {
            add.arg(windows.len()).arg(windows);
        }
        for (event, group) in &self.events {
            let json = serde_json::to_string(event).map_err(|error| StoreError::Other(error.to_string()))?;
            let request = if usage.replayed { String::new() } else { beside::request(event) };
            add.arg(layout::event(&counted_as(event))).arg(&event.id).arg(json);
            add.arg(&event.key_id).arg(beside::week_hour(event, usage.offset)).arg(request);
            add.arg(group).arg(stored(&event.counts()).as_slice());
        }
        Ok(add)
    }
}

/// By what a repeated event is recognised.
fn counted_as(event: &UsageEvent) -> String {
    match planted::is("counter-without-event-id") {
        true => uuid::Uuid::now_v7().to_string(),
        false => event.id.clone(),
    }
}
