//! Windows of usage: one, or all that there are, with what Claude Relay Service says they cost.

use redis::Value;

use super::call::{Call, Effect};
use super::totals::{Place, STORED, counts};
use super::{Redis, layout, script};
use crate::store::maintenance::{Skipped, Windows};
use crate::store::usage::{Counts, Window};
use crate::store::{Key, Result, kind};

/// How many keys one step looks at, and how many windows one script reads at most.
const KEYS_PER_STEP: u32 = 1_000;
const WINDOWS_PER_SCRIPT: usize = 200;
/// Micro-dollars of a dollar.
const MICRO: f64 = 1_000_000.0;

/// What is where the counters of a window would be.
pub(super) enum Held {
    Counts(Counts),
    Nothing,
    /// A key of this type, which holds no counters.
    Other(String),
}

impl Redis {
    pub(super) async fn count_windows(&self, cursor: Option<&str>, every: bool) -> Result<Windows> {
        let call = self.wire.begin()?;
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor.unwrap_or("0")).arg("MATCH").arg("usage:*").arg("COUNT").arg(KEYS_PER_STEP);
        let [next, keys] = layout::array(call.cmd(Effect::Reads, &scan).await?)?;
        let names = layout::list(keys)?.into_iter().filter_map(|key| layout::text(key).ok());
        let found = names.filter_map(|name| Some((window_of(&name)?, name)));
        let found: Vec<_> = found.filter(|((_, window), _)| every || *window == Window::Total).collect();
        let places: Vec<_> = found.iter().map(|((subject, window), _)| Place::new(subject, window)).collect();
        let mut windows = Windows::default();
        for (((subject, window), name), held) in found.into_iter().zip(read(&call, &places).await?) {
            match held {
                Held::Counts(counts) => windows.counted.push((format!("{subject}:{window}"), counts)),
                Held::Nothing => {}
                Held::Other(of) => {
                    let reason = format!("counters are a hash; this is a {of}");
                    windows.skipped.push(Skipped { key: name, reason });
                }
            }
        }
        let next = layout::text(next)?;
        windows.next = (next != "0").then_some(next);
        Ok(windows)
    }
}

/// What is at each of these places.
pub(super) async fn read(call: &Call, places: &[Place]) -> Result<Vec<Held>> {
    let mut held = Vec::with_capacity(places.len());
    for part in places.chunks(WINDOWS_PER_SCRIPT) {
        let mut read = script::WINDOWS.prepare_invoke();
        read.arg(STORED);
        for place in part {
            read.arg(&place.key).arg(&place.cost_key).arg(place.fields.as_slice());
        }
        for answer in layout::list(call.script(Effect::Reads, &read).await?)? {
            held.push(decode(answer)?);
        }
    }
    Ok(held)
}

fn decode(answer: Value) -> Result<Held> {
    let values = match answer {
        Value::Array(values) => values,
        kind => {
            let kind = layout::text(kind)?;
            return Ok(if kind == "none" { Held::Nothing } else { Held::Other(kind) });
        }
    };
    let mut values = values;
    // Claude Relay Service counts dollars in a key beside the hash; we count in the hash.
    let theirs =
        values.pop().and_then(|cost| layout::text(cost).ok()).and_then(|cost| cost.parse::<f64>().ok());
    if theirs.is_none() && values.iter().all(|value| *value == Value::Nil) {
        return Ok(Held::Nothing);
    }
    let values: [Value; STORED] = values.try_into().map_err(|_| layout::unexpected("the counters"))?;
    let mut counts = counts(values.map(|value| whole(&value)));
    if let Some(cost) = counts.last_mut() {
        *cost = cost.saturating_add((theirs.unwrap_or(0.0).max(0.0) * MICRO).round() as i64);
    }
    Ok(Held::Counts(counts))
}

/// The whole part of a number; 0 for what is none.
fn whole(value: &Value) -> i64 {
    let number = || match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse::<f64>().ok(),
        _ => None,
    };
    layout::integer(value).unwrap_or_else(|| number().map_or(0, |number| number.floor() as i64))
}

/// The window whose counters a key holds, and whose they are.
fn window_of(name: &str) -> Option<(String, Window)> {
    let rest = name.strip_prefix("usage:")?;
    let (subject, window) = match rest.split_once(':') {
        None => (rest, Window::Total),
        Some((span, rest)) => {
            let (subject, at) = rest.split_once(':')?;
            let window = match span {
                "hourly" => format!("hourly:{}", at.replacen(':', "T", 1)),
                span => format!("{span}:{at}"),
            };
            (subject, Window::parse(&window).filter(|_| subject != "index")?)
        }
    };
    let valid = Key::new(&kind::USAGE, &format!("{subject}:{window}")).is_ok() && !subject.is_empty();
    valid.then(|| (subject.to_owned(), window))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_told_from_what_lies_beside_them() {
        let id = |name| window_of(name).map(|(subject, window)| format!("{subject}:{window}"));
        assert_eq!(id("usage:k1").as_deref(), Some("k1:total"));
        assert_eq!(id("usage:daily:k1:2026-01-02").as_deref(), Some("k1:daily:2026-01-02"));
        assert_eq!(id("usage:monthly:k1:2026-01").as_deref(), Some("k1:monthly:2026-01"));
        assert_eq!(id("usage:hourly:k1:2026-01-02:03").as_deref(), Some("k1:hourly:2026-01-02T03"));
        for other in [
            "usage:daily:index:2026-01-02",
            "usage:model:daily:claude:2026-01-02",
            "usage:k1:model:daily:claude:2026-01-02",
            "usage:cost:total:k1",
            "usage:cost:daily:k1:2026-01-02",
            "usage:global:total",
            "usage:records:k1",
            "usage:opus:weekly:k1:2026-W01",
        ] {
            assert_eq!(id(other), None, "{other}");
        }
    }
}
