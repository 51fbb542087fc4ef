//! Operations and their results in words.

use serde_json::Value;

use super::table::{NOTHING, items, ms, table, text, time};

/// The most differing records that are listed for a person; `--json` has all that the server tells.
const LISTED: usize = 50;

/// What it does, such as `sync redis to postgres`.
pub(super) fn kind(operation: &Value) -> String {
    let kind = text(&operation["kind"]);
    let flag = |name: &str, word: &str| match operation[name].as_bool() {
        Some(true) => format!(" {word}"),
        _ => String::new(),
    };
    match (operation["source"].as_str(), operation["target"].as_str()) {
        (Some(source), Some(target)) => format!("{kind} {source} to {target}"),
        _ => format!("{kind}{}{}", flag("deep", "(deep)"), flag("dry_run", "(dry run)")),
    }
}

/// Whether the result has what wants a person.
pub(super) fn found(operation: &Value) -> bool {
    let result = &operation["result"];
    let some = |name: &str| result[name].as_u64().is_some_and(|count| count > 0);
    match operation["kind"].as_str() {
        Some("sync") => some("skipped_total") || !items(&result["incomplete"]).is_empty(),
        Some("check") => result["consistent"].as_bool() == Some(false),
        Some("fix") if operation["dry_run"].as_bool() == Some(true) => would_change(operation),
        Some("fix") => !items(&result["needs_person"]).is_empty(),
        _ => false,
    }
}

/// Whether the dry run of a repair found anything.
pub(super) fn would_change(operation: &Value) -> bool {
    let result = &operation["result"];
    result["consistent"].as_bool() == Some(false)
        || ["repaired", "needs_person"].iter().any(|list| !items(&result[*list]).is_empty())
}

/// An operation with its result.
pub(super) fn operation(operation: &Value) -> String {
    let mut lines = vec![format!(
        "Operation {}, {}: {}, {} of {} records, started {} (UTC) on {}",
        text(&operation["id"]),
        kind(operation),
        text(&operation["state"]),
        text(&operation["done"]),
        text(&operation["total"]),
        time(&operation["started_at"]),
        text(&operation["node"]),
    )];
    if let (Some(start), Some(end)) = (operation["started_at"].as_i64(), operation["ended_at"].as_i64()) {
        lines.push(format!("Took {}", ms(&(end - start).into())));
    }
    if let Some(error) = operation["error"].as_str() {
        lines.push(format!("Error: {}", text(&error.into())));
    }
    lines.extend(result(operation));
    lines.join("\n")
}

/// The result alone.
pub(super) fn result(operation: &Value) -> Option<String> {
    let result = operation.get("result").filter(|result| result.is_object())?;
    match operation["kind"].as_str() {
        Some("sync") => Some(sync(result)),
        Some("check") => Some(check(result)),
        Some("fix") => Some(fix(operation, result)),
        _ => Some(result.to_string()),
    }
}

fn sync(result: &Value) -> String {
    let mut lines = vec![format!(
        "Copied {}, unchanged {}, newer in the target {}, usage balances {}, skipped {}",
        text(&result["copied"]),
        text(&result["unchanged"]),
        text(&result["newer_in_target"]),
        text(&result["usage_balances"]),
        text(&result["skipped_total"]),
    )];
    let skipped = items(&result["skipped"]);
    if !skipped.is_empty() {
        lines.push(advised(skipped, &result["skipped_total"]));
    }
    let incomplete: Vec<_> = items(&result["incomplete"]).iter().map(text).collect();
    if !incomplete.is_empty() {
        let kinds = incomplete.join(", ");
        lines.push(format!("INCOMPLETE in the target: {kinds}; a missing record is unknown there"));
    }
    lines.join("\n")
}

fn check(result: &Value) -> String {
    let mut lines = Vec::new();
    lines.push(match result["consistent"].as_bool() {
        Some(true) => format!("Consistent: {} records compared", text(&result["compared"])),
        _ => format!(
            "INCONSISTENT: {} differences in {} records",
            text(&result["differences_total"]),
            text(&result["compared"])
        ),
    });
    let differences = items(&result["differences"]);
    if !differences.is_empty() {
        let rows = differences.iter().map(|it| {
            let version = |name: &str| text(&it[name]);
            let (redis, postgres) = (version("redis_version"), version("postgres_version"));
            [text(&it["key"]), text(&it["reason"]), redis, postgres]
        });
        let shown = table(["KEY", "REASON", "REDIS VERSION", "POSTGRES VERSION"], rows.take(LISTED));
        lines.push(shown + &more(differences, &result["differences_total"]));
    }
    if let Some(usage) = result.get("usage").filter(|usage| usage.is_object()) {
        lines.push(usage_totals(usage));
    }
    lines.join("\n")
}

fn usage_totals(usage: &Value) -> String {
    let differing = items(&usage["differing"]);
    let total = counted(differing, &usage["differing_total"]);
    let line = format!("Usage totals: {} compared, {total} differ", text(&usage["compared"]));
    if differing.is_empty() {
        return line;
    }
    let rows = differing.iter().map(|it| [text(&it["key"]), text(&it["redis"]), text(&it["postgres"])]);
    let shown = table(["USAGE OF", "REDIS", "POSTGRES"], rows.take(LISTED));
    format!("{line}\n{shown}{}", more(differing, &usage["differing_total"]))
}

fn fix(operation: &Value, result: &Value) -> String {
    let (repaired, needs) = (items(&result["repaired"]), items(&result["needs_person"]));
    let done = match operation["dry_run"].as_bool() {
        Some(true) => "Would repair",
        _ => "Repaired",
    };
    let total = counted(repaired, &result["repaired_total"]);
    let mut lines = vec![check(result), format!("{done} {total}; {} need a person", needs.len())];
    if !repaired.is_empty() {
        lines.push(advised(repaired, &result["repaired_total"]));
    }
    if !needs.is_empty() {
        lines.push(format!("Needs a person:\n{}", advised(needs, &Value::Null)));
    }
    lines.join("\n")
}

/// Records with what was done about them, or why they are listed.
fn advised(listed: &[Value], total: &Value) -> String {
    let why = |it: &Value| ["reason", "action"].iter().find_map(|name| it[*name].as_str().map(str::to_owned));
    let rows = listed.iter().map(|it| {
        [text(it.get("key").unwrap_or(it)), why(it).map_or(NOTHING.to_owned(), |why| text(&why.into()))]
    });
    table(["KEY", "WHY"], rows.take(LISTED)) + &more(listed, total)
}

/// How many there are, of which some may not be listed.
fn counted(listed: &[Value], total: &Value) -> u64 {
    total.as_u64().unwrap_or(0).max(listed.len() as u64)
}

/// A line on those that are not shown.
fn more(listed: &[Value], total: &Value) -> String {
    match counted(listed, total).saturating_sub(LISTED as u64) {
        0 => String::new(),
        more => format!("\n… and {more} more; --json has all that the server tells"),
    }
}
