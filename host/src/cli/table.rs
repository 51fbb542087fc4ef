//! Values of the server as text for people.

use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde_json::Value;

use super::terminal::clean;

/// What stands where the server says nothing.
pub(super) const NOTHING: &str = "-";

/// A table without lines, so that it can be searched line by line.
pub(super) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row.map(|cell| clean(&cell).replace('\n', " ")));
    }
    let text = table.trim_fmt();
    // Each cell has a space on its left; the first one needs none.
    text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// A value in words.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        Value::String(text) => clean(text),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => other.to_string(),
    }
}

/// The items of a list, none when it is no list.
pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Milliseconds since 1970, or an ISO time, as a UTC time to the second.
pub(super) fn time(value: &Value) -> String {
    let at = value.as_i64().filter(|at| *at > 0).and_then(|at| Timestamp::from_millisecond(at).ok());
    let at = at.or_else(|| value.as_str()?.parse().ok());
    at.map_or(NOTHING.to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// How long ago a time in milliseconds since 1970, or an ISO time, was.
pub(super) fn ago(value: &Value) -> String {
    let at = value.as_i64().or_else(|| Some(value.as_str()?.parse::<Timestamp>().ok()?.as_millisecond()));
    match at {
        Some(at) => format!("{} ago", span((Timestamp::now().as_millisecond() - at).max(0) as f64)),
        None => NOTHING.to_owned(),
    }
}

/// A number of milliseconds, in the unit that suits it.
pub(super) fn ms(value: &Value) -> String {
    value.as_f64().map_or(NOTHING.to_owned(), span)
}

fn span(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{} ms", (ms * 100.0).round() / 100.0),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms if ms < 120_000.0 => format!("{} s", (ms / 100.0).round() / 10.0),
        ms if ms < 7_200_000.0 => format!("{:.0} min", ms / 60_000.0),
        ms if ms < 172_800_000.0 => format!("{:.0} h", ms / 3_600_000.0),
        ms => format!("{:.0} days", ms / 86_400_000.0),
    }
}

/// A share of one, in per cent.
pub(super) fn percent(value: &Value) -> String {
    value.as_f64().map_or(NOTHING.to_owned(), |share| format!("{:.1} %", share * 100.0))
}

/// The start of a digest, enough to tell it from others.
pub(super) fn short(digest: &Value) -> String {
    digest.as_str().map_or(NOTHING.to_owned(), |digest| clean(digest).chars().take(12).collect())
}

/// Records and usage events that one store owes the other.
pub(super) fn backlog(value: &Value) -> String {
    let count = |name: &str| value[name].as_u64();
    match (count("records"), count("usage")) {
        (None, None) => NOTHING.to_owned(),
        (Some(0) | None, Some(0) | None) => "none".to_owned(),
        (records, usage) => {
            let oldest = value["oldest_ms"].as_i64().filter(|at| *at > 0);
            let oldest = oldest.map(|at| format!(", oldest {}", ago(&at.into()))).unwrap_or_default();
            format!("{} records, {} usage{oldest}", records.unwrap_or(0), usage.unwrap_or(0))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_cannot_command_the_terminal() {
        let row = [text(&json!("\u{1b}[2Jgone")), "a\nb".to_owned()];
        let shown = table(["A", "B"], [row]);
        assert!(!shown.contains('\u{1b}') && shown.contains("gone") && shown.contains("a b"), "{shown}");
        assert_eq!(shown.lines().count(), 2, "{shown}");
    }

    #[test]
    fn spans_have_a_unit_that_suits() {
        let spans = [0.124, 42.4, 1_250.0, 180_000.0, 10_800_000.0].map(|ms| super::ms(&json!(ms)));
        assert_eq!(spans, ["0.12 ms", "42 ms", "1.3 s", "3 min", "3 h"]);
    }

    #[test]
    fn a_backlog_says_what_is_owed() {
        assert_eq!(backlog(&json!({ "records": 0, "usage": 0, "oldest_ms": 0 })), "none");
        let at = Timestamp::now().as_millisecond() - 240_000;
        let owed = json!({ "records": 12, "usage": 3, "oldest_ms": at });
        assert_eq!(backlog(&owed), "12 records, 3 usage, oldest 4 min ago");
        assert_eq!(backlog(&Value::Null), "-");
    }
}
