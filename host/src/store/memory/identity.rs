//! It lives and ends with this process: there is nothing to tell it by.

use async_trait::async_trait;

use super::super::identity::Lineage;
use super::super::{Kind, MAX_PAGE, Page, Result};
use super::Memory;

#[async_trait]
impl Lineage for Memory {
    async fn tombstones(&self, kind: &'static Kind, cursor: Option<&str>, limit: u32) -> Result<Page> {
        use std::ops::Bound::{Excluded, Unbounded};
        let limit = limit.clamp(1, MAX_PAGE) as usize;
        let state = self.state.read();
        let Some(records) = state.kinds.get(kind.name) else { return Ok(Page::default()) };
        let after = records.range::<str, _>((cursor.map_or(Unbounded, Excluded), Unbounded));
        let deleted = after.map(|(_, record)| record).filter(|record| record.deleted);
        let records: Vec<_> = deleted.take(limit).cloned().collect();
        let next = records.last().filter(|_| records.len() == limit).map(|r| r.key.id.to_string());
        Ok(Page { records, next })
    }
}
