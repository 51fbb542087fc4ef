//! Counting usage: ids, events and totals of many batches in one statement.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, LazyLock};

use jiff::tz::Offset;
use sqlx::PgConnection;

use super::failure;
use super::lane::Reply;
use crate::store::usage::{COUNTERS, encode, model_name};
use crate::store::{Mark, Result, UsageEvent};

/// A batch of events on its way into the store.
pub(super) struct Add {
    pub(super) events: Arc<Vec<UsageEvent>>,
    pub(super) offset: Offset,
    pub(super) mark: Mark,
    /// The writer's epoch.
    pub(super) epoch: u64,
    pub(super) reply: Reply<u64>,
}

/// The most events that batches may have for a further one to join them in a statement.
const TOGETHER: usize = 4_096;

/// Counts batches, and tells each how many of its events were new.
pub(super) async fn run(adds: Vec<Add>, connection: &mut PgConnection) -> Result<()> {
    let mut adds = adds.into_iter().peekable();
    while let Some(first) = adds.next() {
        let mut events = first.events.len();
        let mut together = vec![first];
        while let Some(next) = adds.next_if(|next| events + next.events.len() <= TOGETHER) {
            events += next.events.len();
            together.push(next);
        }
        count(together, connection).await?;
    }
    Ok(())
}

async fn count(adds: Vec<Add>, connection: &mut PgConnection) -> Result<()> {
    match insert(&adds, connection).await {
        Ok(new) => {
            for (add, new) in adds.into_iter().zip(new) {
                // Nobody may wait any more.
                let _ = add.reply.send(Ok(new));
            }
            Ok(())
        }
        Err(error) => {
            let error = failure::of_write(&error);
            let spared = failure::spares_connection(&error);
            if spared && adds.len() > 1 {
                // One of them is to blame: each for itself.
                for add in adds {
                    Box::pin(count(vec![add], connection)).await?;
                }
                return Ok(());
            }
            adds.into_iter().for_each(|add| {
                let _ = add.reply.send(Err(error.clone()));
            });
            if spared { Ok(()) } else { Err(error) }
        }
    }
}

/// Counts the events of all batches; answers the number of new ones in each. Of events with one id the
/// first is the one that counts.
async fn insert(adds: &[Add], connection: &mut PgConnection) -> sqlx::Result<Vec<u64>> {
    let mut owners: HashMap<&str, usize> = HashMap::new();
    let mut offered: Vec<(&UsageEvent, &Add)> = Vec::new();
    for (owner, add) in adds.iter().enumerate() {
        for event in add.events.iter() {
            if let Entry::Vacant(vacant) = owners.entry(&event.id) {
                vacant.insert(owner);
                offered.push((event, add));
            }
        }
    }
    let mut new = vec![0; adds.len()];
    for id in fresh(&offered, adds.iter().map(|add| add.epoch).min(), connection).await? {
        if let Some(owner) = owners.get(id.as_str()) {
            new[*owner] += 1;
        }
    }
    Ok(new)
}

/// Offers events with distinct ids; answers the ids of the new ones.
async fn fresh(
    offered: &[(&UsageEvent, &Add)],
    epoch: Option<u64>,
    connection: &mut PgConnection,
) -> sqlx::Result<Vec<String>> {
    let events = || offered.iter().map(|(event, _)| *event);
    let (grouped, counted, totals) = grouped(offered);
    let mut query = sqlx::query_scalar(STATEMENT.as_str())
        .bind(events().map(|event| event.id.as_str()).collect::<Vec<_>>())
        .bind(offered.iter().map(|(_, add)| add.mark == Mark::Dirty).collect::<Vec<_>>())
        .bind(events().map(|event| event.at.as_microsecond()).collect::<Vec<_>>())
        .bind(events().map(|event| event.key_id.as_str()).collect::<Vec<_>>())
        .bind(events().map(|event| event.account_id.as_deref()).collect::<Vec<_>>())
        .bind(events().map(|event| event.model.as_str()).collect::<Vec<_>>())
        .bind(counted)
        .bind(totals);
    for counter in 1..COUNTERS.len() {
        query = query.bind(events().map(|event| event.counts()[counter]).collect::<Vec<_>>());
    }
    query
        .bind(epoch.map(|epoch| epoch as i64))
        .bind(events().map(|event| event.request_id.as_deref()).collect::<Vec<_>>())
        .bind(events().map(|event| event.partial).collect::<Vec<_>>())
        .bind(events().map(|event| encode(&model_name(&event.model)).into_owned()).collect::<Vec<_>>())
        .bind(grouped)
        .fetch_all(connection)
        .await
}

/// The group of each event, and those of the totals that the groups count in, beside these.
fn grouped(offered: &[(&UsageEvent, &Add)]) -> (Vec<i32>, Vec<i32>, Vec<String>) {
    let (mut groups, mut totals, mut grouped) = (HashMap::new(), Vec::new(), Vec::new());
    for &(event, add) in offered {
        let next = groups.len() as i32;
        let group = groups.entry((event.group(add.offset), add.offset.seconds())).or_insert_with(|| {
            totals.extend(event.totals(add.offset).into_iter().map(|total| (next, total)));
            next
        });
        grouped.push(*group);
    }
    let (counted, totals) = totals.into_iter().unzip();
    (grouped, counted, totals)
}

/// Inserts the ids ($1) that are new, in order, so that no two statements wait for each other; then their
/// events, and what these add to the totals ($8) of the windows that their groups ($7) count in.
static STATEMENT: LazyLock<String> = LazyLock::new(|| {
    let list = |part: &dyn Fn(&str) -> String, names: &[&str]| {
        names.iter().map(|name| part(name)).collect::<Vec<_>>().join(", ")
    };
    let values = &COUNTERS[1..];
    let arrays: Vec<_> = (9..9 + values.len()).map(|n| format!("${n}::bigint[]")).collect();
    // Totals stop at the greatest number there is.
    let most = i64::MAX;
    let sums = list(&|name| format!("least(sum({name}), {most})::bigint"), &COUNTERS);
    let by_group = list(&|name| format!("sum({name}) as {name}"), values);
    let risen = list(
        &|name| format!("{name} = least(held.{name}::numeric + excluded.{name}, {most})::bigint"),
        &COUNTERS,
    );
    let epoch = 9 + values.len();
    let (request, partial, counted_as, grouped) = (epoch + 1, epoch + 2, epoch + 3, epoch + 4);
    let (counters, values, arrays) = (COUNTERS.join(", "), values.join(", "), arrays.join(", "));
    format!(
        "with offered as materialized (\
            select id, owed, timestamptz 'epoch' + at * interval '1 microsecond' as at, key_id, account_id, \
            model, {values}, request_id, partial, counted_as, grouped from unnest($1::text[], $2::boolean[], $3::bigint[], $4::text[], \
            $5::text[], $6::text[], {arrays}, ${request}::text[], ${partial}::boolean[], ${counted_as}::text[], ${grouped}::integer[]) as event (id, owed, at, key_id, \
            account_id, model, {values}, request_id, partial, counted_as, grouped) where (select fence(${epoch}))\
        ), fresh as (\
            insert into usage_event_id (id, at, owed) select id, at, owed from offered order by id collate \"C\" \
            on conflict (id) do nothing returning id\
        ), event as (\
            insert into usage_event (id, at, key_id, account_id, model, {values}, request_id, partial, counted_as) \
            select id, at, key_id, account_id, model, {values}, request_id, partial, counted_as from offered join fresh using (id)\
        ), total as (\
            insert into usage_total as held (id, {counters}) \
            select counted.total, {sums} from (\
                select grouped, count(*) as requests, {by_group} from fresh join offered using (id) group by grouped\
            ) as by_group join unnest($7::integer[], $8::text[]) as counted (grouped, total) using (grouped) \
            group by counted.total order by counted.total collate \"C\" \
            on conflict (id) do update set {risen}\
        ) select id from fresh"
    )
});
