//! Lists of API keys as people page through them: filtered, sorted, from where the last page ended.
//!
//! A place in a list is the value that it is sorted by and the id, so that a page begins where the last one ended
//! whatever was added or removed meanwhile. The values are those of the fields, and a place is good in every store.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use super::{Kind, Page, Record, Result, StoreError, kind};

/// The longest cursor that is looked at, in bytes.
const MAX_CURSOR: usize = 4_096;

/// How many characters of a time, and of a name, are looked at.
const MAX_TIME: usize = 40;
const MAX_NAME: usize = 200;

/// Which records of a listed kind, in which order, and how many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    pub filter: Filter,
    pub sort: Sort,
    pub descending: bool,
    /// Where the page before this one ended.
    pub after: Option<Place>,
    /// At most [`super::MAX_PAGE`] are answered.
    pub limit: u32,
}

/// Which records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub state: State,
    /// Has this tag.
    pub tag: Option<String>,
    /// Has this in its name; A to Z are as good as a to z.
    pub search: Option<String>,
}

/// In which state: `isDeleted` and `isActive` together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not deleted.
    #[default]
    Present,
    Active,
    /// Neither active nor deleted.
    Disabled,
    /// Deleted, and still restorable.
    Deleted,
    All,
}

/// In which order. Equal values are in byte order of id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Sort {
    #[default]
    CreatedAt,
    LastUsedAt,
    /// In byte order, with a to z for A to Z.
    Name,
}

/// A place in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// As [`Sort::value`] says.
    pub value: String,
    pub id: String,
}

impl Place {
    /// The place as a cursor that says nothing to people.
    pub fn cursor(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::json!([self.value, self.id]).to_string())
    }

    /// The place that a cursor names.
    pub fn parse(cursor: &str) -> Option<Self> {
        let bytes = (cursor.len() <= MAX_CURSOR).then(|| URL_SAFE_NO_PAD.decode(cursor).ok())??;
        let (value, id) = serde_json::from_slice(&bytes).ok()?;
        let place = Self { value, id };
        // No text in PostgreSQL holds one.
        (!place.value.contains('\0') && !place.id.contains('\0')).then_some(place)
    }
}

impl Sort {
    /// The field that decides.
    pub fn field(self) -> &'static str {
        match self {
            Self::CreatedAt => "createdAt",
            Self::LastUsedAt => "lastUsedAt",
            Self::Name => "name",
        }
    }

    /// What a record is sorted by. Times are sorted as text, which RFC 3339 with Z allows.
    pub fn value(self, record: &Record) -> String {
        let field = record.fields.get(self.field()).map_or("", String::as_str);
        match self {
            Self::Name => first(field, MAX_NAME).to_ascii_lowercase(),
            Self::CreatedAt | Self::LastUsedAt => first(field, MAX_TIME).to_owned(),
        }
    }

    /// The place of a record.
    pub fn place(self, record: &Record) -> Place {
        Place { value: self.value(record), id: record.key.id.to_string() }
    }

    fn column(self) -> &'static str {
        match self {
            Self::CreatedAt => "created_at",
            Self::LastUsedAt => "last_used_at",
            Self::Name => "sort_name",
        }
    }
}

fn first(text: &str, characters: usize) -> &str {
    text.char_indices().nth(characters).map_or(text, |(end, _)| &text[..end])
}

/// Milliseconds since 1970 of a time as Claude Relay Service writes it; 0 of anything else. `listed.lua` says the
/// same.
pub fn moment(text: &str) -> i64 {
    let bytes = text.as_bytes();
    let fits = bytes.len() >= 20 && bytes[10] == b'T' && bytes[16] == b':' && bytes.ends_with(b"Z");
    let parsed = fits.then(|| text.parse::<Timestamp>().ok()).flatten();
    parsed.map_or(0, |at| at.as_millisecond())
}

/// Such a time of some milliseconds since 1970; nothing of 0.
pub fn moment_text(ms: i64) -> String {
    let at = Timestamp::from_millisecond(ms).ok().filter(|_| ms != 0);
    at.map_or_else(String::new, |at| format!("{at:.3}"))
}

impl Filter {
    /// Whether a record belongs to the list.
    pub fn matches(&self, record: &Record) -> bool {
        let field = |name: &str| record.fields.get(name).map_or("", String::as_str);
        let (deleted, active) = (field("isDeleted") == "true", field("isActive") == "true");
        let state = match self.state {
            State::All => true,
            State::Present => !deleted,
            State::Active => active && !deleted,
            State::Disabled => !active && !deleted,
            State::Deleted => deleted,
        };
        let tagged = |tag: &String| {
            serde_json::from_str::<Vec<serde_json::Value>>(field("tags"))
                .is_ok_and(|tags| tags.iter().any(|held| held.as_str() == Some(tag)))
        };
        let named = |part: &String| field("name").to_ascii_lowercase().contains(&part.to_ascii_lowercase());
        state && self.tag.as_ref().is_none_or(tagged) && self.search.as_ref().is_none_or(named)
    }
}

impl State {
    fn condition(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Present => " and state <> 'deleted'",
            Self::Active => " and state = 'active'",
            Self::Disabled => " and state = 'disabled'",
            Self::Deleted => " and state = 'deleted'",
        }
    }
}

/// A query in the SQL that both databases speak, and the texts to bind as $1, $2 and so on.
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) texts: Vec<String>,
}

impl ListQuery {
    /// Of the table of a kind. `find` is the database's function for the place of the second text in the first.
    /// Answers one row more than the limit, if there is one.
    pub(super) fn statement(&self, kind: &Kind, columns: &str, find: &str, now_ms: i64) -> Statement {
        let (mut texts, mut conditions) = (Vec::new(), self.filter.state.condition().to_owned());
        let mut bind = |text: String| {
            texts.push(text);
            texts.len()
        };
        if let Some(tag) = &self.filter.tag {
            let quoted = bind(serde_json::Value::from(tag.as_str()).to_string());
            conditions += &format!(" and {find}(fields ->> 'tags', ${quoted}) > 0");
        }
        if let Some(part) = &self.filter.search {
            let part = bind(part.to_ascii_lowercase());
            conditions += &format!(" and {find}(sort_name, ${part}) > 0");
        }
        let (column, table) = (self.sort.column(), kind.name);
        let (beyond, order) = if self.descending { ("<", " desc") } else { (">", "") };
        if let Some(after) = &self.after {
            let (value, id) = (bind(after.value.clone()), bind(after.id.clone()));
            conditions += &format!(" and ({column}, id) {beyond} (${value}, ${id})");
        }
        let sql = format!(
            "select {columns} from {table} where not deleted and (expires_at is null or expires_at > {now_ms})\
             {conditions} order by {column}{order}, id{order} limit {}",
            self.page() + 1
        );
        Statement { sql, texts }
    }

    /// How many records a page has.
    pub(super) fn page(&self) -> usize {
        self.limit.clamp(1, super::MAX_PAGE) as usize
    }

    /// The page that these rows are, of which there is one more than that if there is a further page.
    pub(super) fn page_of(&self, mut records: Vec<Arc<Record>>) -> Page {
        let more = records.len() > self.page();
        records.truncate(self.page());
        let next = records.last().filter(|_| more).map(|record| self.sort.place(record).cursor());
        // A text search may take a part of a tag for a tag.
        records.retain(|record| self.filter.matches(record));
        Page { records, next }
    }
}

/// # Errors
/// When records of the kind cannot be listed.
pub(super) fn listed(kind: &Kind) -> Result<()> {
    if *kind == kind::API_KEY {
        return Ok(());
    }
    Err(StoreError::Unsupported(format!("there is no list of kind {:?}; scan it", kind.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        let place = Place { value: "schlüssel \"a\"".into(), id: "k1".into() };
        assert_eq!(Place::parse(&place.cursor()), Some(place));
        for wrong in ["", "x", "bnVsbA", &"A".repeat(5_000)] {
            assert_eq!(Place::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_time_is_the_text_that_it_came_from() {
        for text in ["", "2025-01-02T03:04:05.678Z", "1999-12-31T23:59:59.999Z", "2024-02-29T00:00:00.000Z"] {
            assert_eq!(moment_text(moment(text)), text);
        }
        assert_eq!(
            ["x", "2025-01-02", "2025-01-02T03:04:05+01:00", "2025-13-02T03:04:05Z"].map(moment),
            [0; 4]
        );
    }
}
