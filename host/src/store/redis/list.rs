//! Lists, by those that Claude Relay Service keeps: see `listed.lua`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use redis::Value;

use super::call::{Call, Effect};
use super::{Redis, layout, script};
use crate::store::clock::now_ms;
use crate::store::list::{self, ListQuery, Place, Sort, State};
use crate::store::{Key, Kind, Page, Record, Result, StoreError};

/// How many records one script reads, and how many ids it looks at, at most.
const RECORDS_PER_SCRIPT: usize = 200;
const IDS_PER_SCRIPT: usize = 2_000;
/// How many scripts one page takes at most. Where few belong to the list, a page may be shorter than asked for.
const SCRIPTS_PER_PAGE: usize = 20;

/// What one script answers.
struct Part {
    records: Vec<Arc<Record>>,
    /// Where the next one begins, unless the list ends here.
    next: Option<Place>,
}

impl Redis {
    pub(super) async fn list_records(&self, kind: &'static Kind, query: &ListQuery) -> Result<Page> {
        list::listed(kind)?;
        if !self.wire.adopted.load(Ordering::Acquire) {
            return Err(StoreError::Unavailable("the lists of the records in Redis are being built".into()));
        }
        let (call, limit, mut after) = (self.wire.begin()?, query.page(), query.after.clone());
        let mut records: Vec<Arc<Record>> = Vec::new();
        for _ in 0..SCRIPTS_PER_PAGE {
            let wanted = (limit + 1 - records.len()).min(RECORDS_PER_SCRIPT);
            let part = part(&call, kind, query, after.as_ref(), wanted).await?;
            records.extend(part.records);
            if records.len() > limit {
                records.truncate(limit);
                after = records.last().map(|record| place(query.sort, record));
                break;
            }
            after = part.next;
            if after.is_none() {
                break;
            }
        }
        Ok(Page { records, next: after.map(|place| place.cursor()) })
    }
}

/// Where the lists have a record. What cannot be read as a time is at 0 there.
fn place(sort: Sort, record: &Record) -> Place {
    let place = sort.place(record);
    match sort {
        Sort::Name => place,
        Sort::CreatedAt | Sort::LastUsedAt => {
            Place { value: list::moment_text(list::moment(&place.value)), ..place }
        }
    }
}

async fn part(
    call: &Call,
    kind: &'static Kind,
    query: &ListQuery,
    after: Option<&Place>,
    wanted: usize,
) -> Result<Part> {
    let (now, sort, filter) = (now_ms(), query.sort, &query.filter);
    let value = |place: &Place| match sort {
        Sort::Name => place.value.clone(),
        Sort::CreatedAt | Sort::LastUsedAt => list::moment(&place.value).to_string(),
    };
    let mut list = script::LIST.key(format!("{}idx:{}", kind.redis_prefix, sort.field()));
    list.arg(kind.redis_prefix).arg(layout::tombstones(kind));
    list.arg(if sort == Sort::Name { "name" } else { "score" }).arg(u8::from(query.descending));
    list.arg(u8::from(after.is_some())).arg(after.map(value).unwrap_or_default());
    list.arg(after.map_or("", |place| &place.id)).arg(wanted).arg(IDS_PER_SCRIPT);
    list.arg(state(filter.state)).arg(filter.tag.as_deref().unwrap_or_default());
    list.arg(filter.search.as_deref().unwrap_or_default().to_ascii_lowercase());
    let mut answer = layout::list(call.script(Effect::Reads, &list).await?)?.into_iter();
    let entries = layout::list(answer.next().unwrap_or(Value::Array(Vec::new())))?;
    let next = match (answer.next(), answer.next()) {
        (Some(value), Some(id)) => Some(place_of(sort, layout::text(value)?, layout::text(id)?)?),
        _ => None,
    };
    let mut records = Vec::with_capacity(entries.len());
    for entry in entries {
        let [id, read, name] = layout::array(entry)?;
        let Ok(key) = Key::new(kind, &layout::text(id)?) else { continue };
        // One that another program made unreadable does not stop the others.
        let Ok(Some(record)) = layout::decode_read(&key, read, now) else { continue };
        // Another program may have left behind the entry of a former name.
        let is_at_home =
            layout::text(name).is_ok_and(|name| sort.value(&record) == name) || sort != Sort::Name;
        if record.is_live(now) && is_at_home && filter.matches(&record) {
            records.push(Arc::new(record));
        }
    }
    Ok(Part { records, next })
}

fn place_of(sort: Sort, value: String, id: String) -> Result<Place> {
    let time = || value.parse::<f64>().map(|ms| list::moment_text(ms as i64));
    Ok(match sort {
        Sort::Name => Place { value, id },
        Sort::CreatedAt | Sort::LastUsedAt => {
            Place { value: time().map_err(|_| layout::unexpected("a time"))?, id }
        }
    })
}

fn state(state: State) -> &'static str {
    match state {
        State::Present => "present",
        State::Active => "active",
        State::Disabled => "disabled",
        State::Deleted => "deleted",
        State::All => "all",
    }
}
