//! Lists: the first of all that match.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Memory;
use crate::store::clock::now_ms;
use crate::store::list::{ListQuery, Place};
use crate::store::{Kind, Page, Record};

impl Memory {
    pub(super) fn list_records(&self, kind: &'static Kind, query: &ListQuery) -> Page {
        let (now, limit) = (now_ms(), query.page());
        let mut first: BTreeMap<(String, Arc<str>), Arc<Record>> = BTreeMap::new();
        let state = self.state.read();
        for record in state.kinds.get(kind.name).into_iter().flat_map(BTreeMap::values) {
            let place = (query.sort.value(record), record.key.id.clone());
            let follows = |after: &Place| {
                let held = (&*place.0, &*place.1);
                let after = (&*after.value, &*after.id);
                if query.descending { held < after } else { held > after }
            };
            let wanted = record.is_live(now) && query.after.as_ref().is_none_or(follows);
            if wanted && query.filter.matches(record) {
                first.insert(place, record.clone());
                if first.len() > limit + 1 {
                    if query.descending {
                        first.pop_first()
                    } else {
                        first.pop_last()
                    };
                }
            }
        }
        drop(state);
        let mut records: Vec<_> = first.into_values().collect();
        if query.descending {
            records.reverse();
        }
        query.page_of(records)
    }
}
