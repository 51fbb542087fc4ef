//! Counting usage anew: what was counted is forgotten in bounded steps, while nothing else is counted.

use super::beside::{Counter, is_in_everything, last_hour};
use super::call::Effect;
use super::identity::CLAIM_MS;
use super::place::{COST, STORED, is_counter, stored};
use super::{Redis, layout, script};
use crate::store::identity::{Recount, Recounted};
use crate::store::maintenance::Counted;
use crate::store::usage::{Subject, Window};
use crate::store::{Result, StoreError};

/// How many keys one step looks at.
const KEYS_PER_STEP: u32 = 1_000;

impl Redis {
    pub(super) async fn take_recount_step(&self, holder: &str, step: Recount) -> Result<Recounted> {
        let (name, next, rest) = match step {
            Recount::Close => ("close", None, Vec::new()),
            Recount::Open => ("open", None, Vec::new()),
            Recount::Finish => ("finish", None, Vec::new()),
            Recount::Add(openings) => ("add", None, opened(&openings)),
            Recount::Forget(cursor) => {
                let (next, names) = self.counted(&cursor).await?;
                ("forget", next, names)
            }
        };
        let mut recount = script::RECOUNT.key(layout::REPAIR);
        recount.key(layout::CLOSED).key(layout::COMPLETE);
        recount.arg(name).arg(holder).arg(CLAIM_MS).arg(rest);
        let answer = self.wire.begin()?.write(&mut recount).await?;
        if layout::integer(&answer) != Some(1) {
            return Err(StoreError::Unavailable("the right to count Redis's usage anew was lost".into()));
        }
        Ok(next.map_or(Recounted::Done, Recounted::More))
    }

    /// Some keys of counters and of ids of counted events, and where to go on. The cursor names what is looked for
    /// and where: counters first.
    async fn counted(&self, cursor: &str) -> Result<(Option<String>, Vec<String>)> {
        let (ids, at) = cursor.strip_prefix("ids ").map_or((false, cursor), |at| (true, at));
        let pattern = if ids { layout::event("*") } else { "*usage:*".into() };
        let mut scan = redis::cmd("SCAN");
        scan.arg(at).arg("MATCH").arg(pattern).arg("COUNT").arg(KEYS_PER_STEP);
        let [next, names] = layout::array(self.wire.begin()?.cmd(Effect::Reads, &scan).await?)?;
        let names = layout::list(names)?.into_iter().map(layout::text).collect::<Result<Vec<_>>>()?;
        let next = match (layout::text(next)?.as_str(), ids) {
            ("0", true) => None,
            ("0", false) => Some("ids 0".into()),
            (next, true) => Some(format!("ids {next}")),
            (next, false) => Some(next.into()),
        };
        Ok((next, names.into_iter().filter(|name| ids || is_counter(name)).collect()))
    }
}

/// Windows and what they begin with, as `recount.lua` takes them.
fn opened(openings: &[Counted]) -> Vec<String> {
    let mut words = vec![STORED.to_string(), COST.to_string()];
    for (id, counts) in openings {
        let Some((subject, window)) = Subject::of_id(id) else { continue };
        let everything = match subject {
            Subject::Key(_) if is_in_everything(&window) => Some(Counter::Everything(window.clone())),
            _ => None,
        };
        for counter in [Some(Counter::Window(subject, window)), everything].into_iter().flatten() {
            let (place, (api_key, hour)) = (counter.place(), week(&counter));
            words.extend([place.key, place.life_ms.to_string()]);
            words.extend([
                place.cost_key,
                place.cost_life_ms.to_string(),
                place.real_cost_key,
                api_key,
                hour,
            ]);
            words.extend(place.fields.iter().map(|&field| field.to_owned()));
            words.extend(stored(counts).map(|count| count.to_string()));
        }
    }
    words
}

/// The API key and the hour that a week is counted by: the last one of a key's day, for nobody knows more of a
/// balance. Empty for other counters.
fn week(counter: &Counter) -> (String, String) {
    let Counter::Window(Subject::Key(id), window @ Window::Daily(_)) = counter else {
        return Default::default();
    };
    let hour = window.first_day().and_then(last_hour).map_or_else(String::new, |hour| hour.to_string());
    (id.clone(), hour)
}
