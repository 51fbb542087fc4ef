//! Windows of usage: one, or all that there are, with what Claude Relay Service says they cost.

use redis::Value;

use super::call::{Call, Effect};
use super::place::{COST, Place, STORED, counts, window_of};
use super::{Redis, layout, script};
use crate::store::maintenance::{Skipped, Windows};
use crate::store::usage::{Counts, Window};
use crate::store::{Result, StoreError};

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
        if cursor.is_some_and(|cursor| cursor.parse::<u64>().is_err()) {
            return Err(StoreError::Unsupported("Redis has not given this cursor: begin without one".into()));
        }
        let call = self.wire.begin()?;
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor.unwrap_or("0")).arg("MATCH").arg("*usage:*").arg("COUNT").arg(KEYS_PER_STEP);
        let [next, keys] = layout::array(call.cmd(Effect::Reads, &scan).await?)?;
        let names = layout::list(keys)?.into_iter().filter_map(|key| layout::text(key).ok());
        let found = names.filter_map(|name| Some((window_of(&name)?, name)));
        let found: Vec<_> = found.filter(|((_, window), _)| every || *window == Window::Total).collect();
        let places: Vec<_> = found.iter().map(|((subject, window), _)| Place::new(subject, window)).collect();
        let mut windows = Windows::default();
        for (((subject, window), name), held) in found.into_iter().zip(read(&call, &places).await?) {
            match held {
                Held::Counts(counts) => windows.counted.push((subject.id(&window), counts)),
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
    // Claude Relay Service counts dollars in a key beside the hash, and so do we: that key has the whole of it, unless
    // it has expired.
    let dollars = values.pop().and_then(|cost| layout::text(cost).ok()).and_then(|cost| micro(&cost));
    if dollars.is_none() && values.iter().all(|value| *value == Value::Nil) {
        return Ok(Held::Nothing);
    }
    let values: [Value; STORED] = values.try_into().map_err(|_| layout::unexpected("the counters"))?;
    let mut stored = values.map(|value| whole(&value));
    stored[COST - 1] = stored[COST - 1].max(dollars.unwrap_or(0));
    Ok(Held::Counts(counts(stored)))
}

/// Dollars as a decimal number, in micro-dollars: the nearest. None for what is no number.
fn micro(dollars: &str) -> Option<i64> {
    let dollars = dollars.trim();
    let (whole, part) = dollars.split_once('.').unwrap_or((dollars, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) {
        // Negative, or with an exponent.
        return dollars.parse::<f64>().ok().map(|dollars| (dollars.max(0.0) * MICRO).round() as i64);
    }
    let whole = whole.parse::<i64>().unwrap_or(i64::MAX).saturating_mul(1_000_000);
    let part = format!("{part:0<7}");
    let micro = part.get(..6)?.parse::<i64>().ok()?;
    Some(whole.saturating_add(micro).saturating_add(i64::from(part.as_bytes()[6] >= b'5')))
}

/// The whole part of a number; 0 for what is none.
fn whole(value: &Value) -> i64 {
    let number = || match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse::<f64>().ok(),
        _ => None,
    };
    layout::integer(value).unwrap_or_else(|| number().map_or(0, |number| number.floor() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_read_to_the_nearest_millionth() {
        for (dollars, expected) in [
            ("1.25", 1_250_000),
            ("0.0000005", 1),
            ("0.00000049999", 0),
            ("10000000.000001", 10_000_000_000_001),
            ("9000000000000.00000100000000001", 9_000_000_000_000_000_001),
            ("3", 3_000_000),
            ("1e-3", 1_000),
            ("-2", 0),
        ] {
            assert_eq!(micro(dollars), Some(expected), "{dollars}");
        }
        assert_eq!(micro("much"), None);
    }
}
