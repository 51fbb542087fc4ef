//! One usage event: read field by field, so that a refusal can name what is wrong and where.

use jiff::fmt::temporal::Pieces;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use crate::http::error::{Problem, Result};
use crate::store::kind::{ACCOUNT, API_KEY, USAGE};
use crate::store::usage::MAX_COUNT;
use crate::store::{Key, Kind, UsageEvent};

/// The longest id of an event and the longest name of a model, in bytes.
const MAX_TEXT: usize = 128;
/// 2000-01-01: what is older is a mistake in units.
const EARLIEST: Timestamp = Timestamp::constant(946_684_800, 0);
/// How far clocks may disagree.
const LATEST: SignedDuration = SignedDuration::from_hours(24);

/// Reads the event at this index of its batch.
pub(super) fn parse(index: usize, event: Value) -> Result<UsageEvent> {
    let refused = |what: String| Problem::bad("invalid-event", format!("events[{index}]{what}"));
    let Value::Object(event) = event else { return Err(refused(" is not an object".into())) };
    read(event).map_err(|Flaw { field, what }| refused(format!(".{field} {what}")))
}

struct Flaw {
    field: String,
    what: String,
}

fn flaw<T>(field: &str, what: impl Into<String>) -> Result<T, Flaw> {
    Err(Flaw { field: field.to_owned(), what: what.into() })
}

fn read(mut event: Map<String, Value>) -> Result<UsageEvent, Flaw> {
    let read = UsageEvent {
        id: id(&mut event)?,
        key_id: subject(&mut event)?,
        account_id: account(&mut event)?,
        model: model(&mut event)?,
        at: at(&mut event)?,
        input_tokens: count(&mut event, "input_tokens")?,
        output_tokens: count(&mut event, "output_tokens")?,
        cache_creation_5m_tokens: count(&mut event, "cache_creation_5m_tokens")?,
        cache_creation_1h_tokens: count(&mut event, "cache_creation_1h_tokens")?,
        cache_read_tokens: count(&mut event, "cache_read_tokens")?,
        cost_micro_usd: count(&mut event, "cost_micro_usd")?,
        request_id: request(&mut event)?,
        partial: flag(&mut event, "partial")?,
    };
    match event.keys().next() {
        Some(unknown) => flaw(&unknown.chars().take(80).collect::<String>(), "is not a field of an event"),
        None => Ok(read),
    }
}

fn text(event: &mut Map<String, Value>, field: &str) -> Result<String, Flaw> {
    match event.remove(field) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => flaw(field, "is not a string"),
        None => flaw(field, "is missing"),
    }
}

fn id(event: &mut Map<String, Value>) -> Result<String, Flaw> {
    let id = text(event, "id")?;
    match is_id(&id) {
        true => Ok(id),
        false => flaw("id", format!("has 1 to {MAX_TEXT} visible ASCII characters")),
    }
}

fn is_id(id: &str) -> bool {
    (1..=MAX_TEXT).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
}

fn request(event: &mut Map<String, Value>) -> Result<Option<String>, Flaw> {
    match event.remove("request_id") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) if is_id(&id) => Ok(Some(id)),
        Some(_) => flaw("request_id", format!("has 1 to {MAX_TEXT} visible ASCII characters")),
    }
}

fn flag(event: &mut Map<String, Value>, field: &str) -> Result<bool, Flaw> {
    match event.remove(field) {
        None => Ok(false),
        Some(Value::Bool(is)) => Ok(is),
        Some(_) => flaw(field, "is neither true nor false"),
    }
}

/// Whose usage it is: with the longest window it must still be an id.
fn subject(event: &mut Map<String, Value>) -> Result<String, Flaw> {
    let key_id = record_id(&API_KEY, "key_id", text(event, "key_id")?)?;
    match Key::new(&USAGE, &format!("{key_id}:hourly:2000-01-01T00")) {
        Ok(_) => Ok(key_id),
        Err(_) => flaw("key_id", "is too long"),
    }
}

fn account(event: &mut Map<String, Value>) -> Result<Option<String>, Flaw> {
    match event.remove("account_id") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) => record_id(&ACCOUNT, "account_id", id).map(Some),
        Some(_) => flaw("account_id", "is not a string"),
    }
}

fn record_id(kind: &'static Kind, field: &str, id: String) -> Result<String, Flaw> {
    match Key::new(kind, &id) {
        Ok(_) => Ok(id),
        Err(error) => flaw(field, format!("is no id: {error}")),
    }
}

fn model(event: &mut Map<String, Value>) -> Result<String, Flaw> {
    let model = text(event, "model")?;
    match (1..=MAX_TEXT).contains(&model.len()) && !model.chars().any(char::is_control) {
        true => Ok(model),
        false => flaw("model", format!("has 1 to {MAX_TEXT} bytes and no control characters")),
    }
}

fn at(event: &mut Map<String, Value>) -> Result<Timestamp, Flaw> {
    let text = text(event, "at")?;
    let latest = Timestamp::now().checked_add(LATEST).unwrap_or(Timestamp::MAX);
    match text.parse() {
        Ok(at) if (EARLIEST..=latest).contains(&at) => Ok(at),
        Err(_) if !is_instant(&text) => {
            flaw("at", "is not a time as RFC 3339 has it, such as 2026-01-31T12:00:00Z")
        }
        _ => flaw("at", "is before 2000 or more than a day from now"),
    }
}

/// Whether this has the form of a time, even of one that no `Timestamp` can hold, as the last day of 9999.
fn is_instant(text: &str) -> bool {
    Pieces::parse(text).is_ok_and(|pieces| pieces.time().is_some() && pieces.offset().is_some())
}

fn count(event: &mut Map<String, Value>, field: &str) -> Result<u64, Flaw> {
    match event.remove(field).map(|value| value.as_u64()) {
        None => Ok(0),
        Some(Some(count)) if count <= MAX_COUNT => Ok(count),
        Some(_) => flaw(field, format!("is not a whole number from 0 to {MAX_COUNT}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(field: &str, value: Value) -> Option<String> {
        let mut event = json!({"id": "e", "key_id": "k", "model": "m", "at": "2026-01-31T12:00:00Z"});
        event[field] = value;
        parse(3, event).err().map(|problem| format!("{problem:?}"))
    }

    #[test]
    fn counts_are_whole_and_bounded() {
        for value in [json!(-1), json!(1.5), json!("1"), json!(MAX_COUNT + 1), json!(1e300), json!(null)] {
            let refusal = refusal("input_tokens", value.clone()).unwrap_or_else(|| panic!("{value} passed"));
            assert!(refusal.contains("events[3].input_tokens"), "{refusal}");
        }
        assert_eq!(refusal("input_tokens", json!(MAX_COUNT)), None);
    }

    #[test]
    fn a_time_out_of_range_is_not_called_malformed() {
        for (at, what) in [
            ("9999-12-31T23:59:59Z", "is before 2000 or more than a day from now"),
            ("0000-01-01T00:00:00+14:00", "is before 2000"),
            ("2026-02-30T00:00:00Z", "is not a time as RFC 3339 has it"),
            ("2026-01-31", "is not a time as RFC 3339 has it"),
            ("2026-01-31T12:00:00", "is not a time as RFC 3339 has it"),
        ] {
            let refusal = refusal("at", json!(at)).unwrap_or_else(|| panic!("{at} passed"));
            assert!(refusal.contains(what), "{at}: {refusal}");
        }
    }

    #[test]
    fn texts_are_bounded() {
        let long = "x".repeat(129);
        for (field, value) in [
            ("id", json!("")),
            ("id", json!("a b")),
            ("id", json!(long)),
            ("id", json!(7)),
            ("key_id", json!("a:b")),
            ("key_id", json!("x".repeat(250))),
            ("account_id", json!("a/b")),
            ("model", json!("a\nb")),
            ("at", json!("yesterday")),
            ("at", json!("1999-12-31T23:59:59Z")),
            ("at", json!("9000-01-01T00:00:00Z")),
            ("request_id", json!("a b")),
            ("request_id", json!(1)),
            ("partial", json!("yes")),
            ("extra", json!(1)),
        ] {
            let refusal = refusal(field, value.clone()).unwrap_or_else(|| panic!("{field} {value} passed"));
            assert!(refusal.contains(&format!("events[3].{field}")), "{refusal}");
        }
        assert_eq!(refusal("account_id", json!(null)), None);
    }
}
