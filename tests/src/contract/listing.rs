//! Lists of keys: what belongs to them, in which order, page by page.

use std::sync::Arc;

use switchyard::store::list::{Filter, ListQuery, Place, Sort, State};
use switchyard::store::{Backend, Record, StoreError, kind};

use super::{BASE, key, put, record, tombstone};

/// Keys in every state, with names, times and tags that meet.
async fn fill(store: &Arc<dyn Backend>) -> Vec<Record> {
    let mut records = Vec::new();
    for n in 0..60_u64 {
        let created = format!("2025-0{}-01T00:00:00.00{}Z", n % 3 + 1, n % 5);
        let used = if n % 4 == 0 { String::new() } else { format!("2026-01-0{}T10:00:00.000Z", n % 9 + 1) };
        let name = ["anna", "Bert", "ärger", "Anna", "zoë \u{1F980}"][n as usize % 5];
        let name = if n % 7 == 0 { name.repeat(60) } else { name.to_owned() };
        let tags = ["[]", r#"["red"]"#, r#"["red","blue \"x\""]"#, "broken"][n as usize % 4];
        let (active, deleted) = (n % 3 != 0, n % 5 == 0);
        let pairs = [
            ("name", &*name),
            ("createdAt", &created),
            ("lastUsedAt", &used),
            ("isActive", if active && !deleted { "true" } else { "false" }),
            ("isDeleted", if deleted { "true" } else { "false" }),
            ("tags", tags),
            ("apiKey", &format!("hash {n}")),
        ];
        records.push(record(&key(&kind::API_KEY, &format!("k{n:02}")), BASE + n, &pairs));
    }
    for record in &records {
        put(store, record).await.expect("a put");
    }
    store.set_complete(&kind::API_KEY).await.expect("complete");
    records
}

/// What the list should be, from the records alone.
fn expected(records: &[Record], query: &ListQuery) -> Vec<String> {
    let belong = records.iter().filter(|record| !record.deleted && query.filter.matches(record));
    let mut places: Vec<_> = belong.map(|record| query.sort.place(record)).collect();
    places.sort_by(|a, b| (&a.value, &a.id).cmp(&(&b.value, &b.id)));
    if query.descending {
        places.reverse();
    }
    places.into_iter().map(|place| place.id).collect()
}

/// Every page of a list, one after the other.
async fn pages(store: &Arc<dyn Backend>, query: &ListQuery) -> Vec<String> {
    let (mut ids, mut query) = (Vec::new(), query.clone());
    for _ in 0..200 {
        let page = store.list(&kind::API_KEY, &query).await.expect("a page");
        assert!(page.records.len() <= query.limit as usize);
        ids.extend(page.records.iter().map(|record| record.key.id.to_string()));
        let Some(next) = page.next else { return ids };
        query.after = Some(Place::parse(&next).expect("a cursor"));
    }
    panic!("a list without an end: {query:?}");
}

async fn hold_against(store: &Arc<dyn Backend>, records: &[Record]) {
    let states = [State::Present, State::Active, State::Disabled, State::Deleted, State::All];
    let tags = [None, Some("red"), Some("blue \"x\""), Some("none")];
    for (n, state) in states.into_iter().enumerate() {
        for (m, tag) in tags.into_iter().enumerate() {
            for sort in [Sort::CreatedAt, Sort::LastUsedAt, Sort::Name] {
                let search = [None, Some("NN"), Some("ä")][(n + m) % 3].map(str::to_owned);
                let filter = Filter { state, tag: tag.map(str::to_owned), search };
                let descending = (n + m + sort as usize).is_multiple_of(2);
                let query = ListQuery { filter, sort, descending, after: None, limit: 7 };
                assert_eq!(pages(store, &query).await, expected(records, &query), "{query:?}");
            }
        }
    }
}

pub async fn filtered_sorted_and_in_pages(store: Arc<dyn Backend>) {
    let records = fill(&store).await;
    hold_against(&store, &records).await;
}

/// Lists follow what is written: a new name, another state, a tag less, a use, an end.
pub async fn lists_follow_writes(store: Arc<dyn Backend>) {
    let mut records = fill(&store).await;
    for (n, record) in records.iter_mut().enumerate() {
        record.version += 1_000;
        match n % 6 {
            0 => drop(record.fields.insert("name".into(), format!("Renamed {n}"))),
            1 => drop(record.fields.insert("isActive".into(), "false".into())),
            2 => drop(record.fields.insert("tags".into(), "[\"green\"]".into())),
            3 => drop(record.fields.insert("lastUsedAt".into(), "2026-02-03T04:05:06.789Z".into())),
            4 => *record = tombstone(&record.key, record.version),
            _ => continue,
        }
        put(&store, record).await.expect("a put");
    }
    hold_against(&store, &records).await;
}

/// A page goes on where the last one ended, though that record is gone.
pub async fn a_place_outlives_its_record(store: Arc<dyn Backend>) {
    let mut records = fill(&store).await;
    for sort in [Sort::CreatedAt, Sort::Name] {
        let query = ListQuery { sort, limit: 5, ..ListQuery::default() };
        let page = store.list(&kind::API_KEY, &query).await.expect("a page");
        let (last, next) = (page.records.last().expect("records"), page.next.expect("a further page"));
        let order = expected(&records, &query);
        put(&store, &tombstone(&last.key, BASE + 5_000)).await.expect("a put");
        let rest = ListQuery { after: Place::parse(&next), ..query };
        assert_eq!(pages(&store, &rest).await, order[5..]);
        records.retain(|record| record.key != last.key);
    }
}

pub async fn no_lists_of_other_kinds(store: Arc<dyn Backend>) {
    let refused = store.list(&kind::ACCOUNT, &ListQuery::default()).await;
    assert!(matches!(refused, Err(StoreError::Unsupported(_))));
}
