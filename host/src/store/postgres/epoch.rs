//! The epoch, as PostgreSQL knows it. Redis keeps the rest of what the nodes agree on.

use std::time::Duration;

use super::failure;
use super::reserve::Reserve;
use crate::store::Result;
use crate::store::epoch::{Authority, Control, Proposal};

/// Raises the epoch to the proposed one, if there is one and it is greater; answers the one that holds.
pub(super) async fn control(reserve: &Reserve, proposal: Option<&Proposal>) -> Result<Control> {
    let proposed = proposal.map_or(0, |proposal| proposal.epoch as i64);
    let mut loan = reserve.lend().await?;
    let held = sqlx::query_scalar(
        "with raised as (update epoch set value = $1 where value < $1 returning value) \
         select coalesce((select value from raised), (select value from epoch))",
    )
    .bind(proposed)
    .fetch_one(loan.connection())
    .await;
    let held: i64 = loan.end(held, failure::of_write)?;
    Ok(Control {
        epoch: held.max(0) as u64,
        authority: Authority::Postgres,
        cause: String::new(),
        by: String::new(),
        age: Duration::ZERO,
        lost: 0,
        holds: 0,
        syncs_all: false,
    })
}
