//! `/admin/usage`: what was used and what it cost, from the counters.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::App;
use super::answer::Enveloped;
use super::database::reports::enveloped;
use super::error::{Asked, Problem, Result};
use super::openapi::shapes::{UsageRows, UsageSummary};
use crate::store::usage::{COUNTERS, Counts, Span, Subject, model_name};
use crate::store::{Key, StoreError, Window, kind};
use crate::usage::totals::{self, Of};

/// How many subjects a page has, unless the query says otherwise, and how many at most.
const PAGE: usize = 100;
const MOST: usize = 1_000;
/// Of how many models a summary tells today's and this month's usage.
const MODELS: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asking {
    subject: Option<Of>,
    id: Option<String>,
    model: Option<String>,
    window: Option<Span>,
    from: Option<String>,
    to: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

/// What one key, account or model has used by window; or all of them in all, a page at a time.
#[utoipa::path(
    get,
    path = "/admin/usage",
    tag = "Usage",
    params(
        ("subject" = Option<String>, Query, description = "key (the default), account or model"),
        ("id" = Option<String>, Query, description = "Of the key or the account, or the name of the model; all when it is left out"),
        ("model" = Option<String>, Query, description = "With a key: of this model alone"),
        ("window" = Option<String>, Query, description = "total (the default), monthly, weekly, daily or hourly"),
        ("from" = Option<String>, Query, description = "First day, YYYY-MM-DD in the configured offset"),
        ("to" = Option<String>, Query, description = "Last day; today by default"),
        ("cursor" = Option<String>, Query, description = "Without an id: `next` of the page before"),
        ("limit" = Option<u32>, Query, description = "Without an id: subjects a page, at most 1,000"),
    ),
    responses((status = 200, description = "Rows of counters; cost in millionths of a US dollar", body = Enveloped<UsageRows>)),
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    asking: Result<Query<Asking>, QueryRejection>,
) -> Result<Response> {
    let Query(asking) = asking.map_err(|error| Problem::bad("invalid-query", error.body_text()))?;
    let of = asking.subject.unwrap_or(Of::Key);
    match &asking.id {
        Some(id) => rows(&app, subject(of, id, asking.model.as_deref())?, &asking).await,
        None => everyone(&app, of, &asking).await,
    }
}

fn subject(of: Of, id: &str, model: Option<&str>) -> Result<Subject> {
    let named = |name: &str| match model_name(name) {
        name if name.is_empty() => Err(Problem::bad("invalid-id", "a model has a name")),
        name => Ok(name),
    };
    if of != Of::Key && model.is_some() {
        return Err(Problem::bad("invalid-query", "model goes with subject=key only"));
    }
    match (of, model) {
        (Of::Key, None) => Ok(Subject::Key(Key::new(&kind::API_KEY, id).map(|_| id.to_owned())?)),
        (Of::Key, Some(model)) => {
            let key = Key::new(&kind::API_KEY, id).map(|_| id.to_owned())?;
            Ok(Subject::KeyModel(key, named(model)?))
        }
        (Of::Account, _) => Ok(Subject::Account(Key::new(&kind::ACCOUNT, id).map(|_| id.to_owned())?)),
        (Of::Model, _) => Ok(Subject::Model(named(id)?)),
    }
}

async fn rows(app: &App, subject: Subject, asking: &Asking) -> Result<Response> {
    let span = asking.window.unwrap_or(Span::Total);
    let (from, to) = days(app, span, asking)?;
    let windows = totals::windows(span, from, to).ok_or_else(|| {
        let detail = format!("that is more than {} windows; ask for a shorter time", totals::MOST_WINDOWS);
        Problem::bad("invalid-query", detail)
    })?;
    let counted = totals::of(&app.records, &subject, &windows).await.map_err(unread)?;
    let sum = sum(counted.iter().map(|(_, counts)| counts));
    let rows: Vec<_> =
        counted.iter().map(|(window, counts)| row("window", &window.to_string(), counts)).collect();
    let total = Value::Object(counters(&sum));
    let data = json!({ "subject": subject.to_string(), "rows": rows, "total": total });
    Ok(enveloped(&data))
}

/// The first and the last day that are asked for.
fn days(app: &App, span: Span, asking: &Asking) -> Result<(Date, Date)> {
    let day = |name: &str, text: &str| {
        let day = Date::strptime("%Y-%m-%d", text);
        day.map_err(|_| Problem::bad("invalid-query", format!("{name} is a day, YYYY-MM-DD")))
    };
    let today = app.records.offset.to_datetime(Timestamp::now()).date();
    let to = asking.to.as_deref().map_or(Ok(today), |text| day("to", text))?;
    let back = match span {
        Span::Hourly | Span::Total => 0.days(),
        Span::Daily => 29.days(),
        Span::Weekly => 77.days(),
        Span::Monthly => 334.days(),
    };
    let from = match &asking.from {
        Some(text) => day("from", text)?,
        None => to.checked_sub(back).unwrap_or(to),
    };
    match from <= to {
        true => Ok((from, to)),
        false => Err(Problem::bad("invalid-query", "from is after to")),
    }
}

async fn everyone(app: &App, of: Of, asking: &Asking) -> Result<Response> {
    let by_window = asking.window.is_some_and(|window| window != Span::Total);
    if by_window || asking.from.is_some() || asking.to.is_some() || asking.model.is_some() {
        let detail = "windows are told of one subject: give its id, or leave window, from, to and model out";
        return Err(Problem::bad("invalid-query", detail));
    }
    let limit = asking.limit.unwrap_or(PAGE);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::bad("invalid-query", format!("limit is 1 to {MOST}")));
    }
    let cursor = asking.cursor.as_deref();
    // The durable store goes on after an id, Redis with a number.
    let is_id = |cursor: &str| Key::new(&kind::USAGE, cursor).is_ok() && Subject::of_id(cursor).is_some();
    if cursor.is_some_and(|cursor| cursor.parse::<u64>().is_err() && !is_id(cursor)) {
        return Err(Problem::bad("invalid-query", "cursor is what the page before answered as next"));
    }
    let page = totals::subjects(&app.records, of, cursor, limit).await.map_err(unread)?;
    let rows: Vec<_> =
        page.counted.iter().map(|(subject, counts)| row("id", name(subject), counts)).collect();
    Ok(enveloped(&json!({ "rows": rows, "next": page.next })))
}

/// All that was used, today, this month and ever, and by model.
#[utoipa::path(
    get,
    path = "/admin/usage/summary",
    tag = "Usage",
    responses((status = 200, description = "Sums, models by cost, which of them have no price, and what waits to be recorded. complete is false where models, today and this month may lack something", body = Enveloped<UsageSummary>)),
)]
pub(super) async fn summary(State(app): State<Arc<App>>) -> Result<Response> {
    // First, so that what is counted meanwhile is among the models.
    let keys = totals::of_all_keys(&app.records).await.map_err(unread)?;
    let page = totals::subjects(&app.records, Of::Model, None, MOST).await.map_err(unread)?;
    let mut models = page.counted;
    models.sort_by_key(|(_, counts)| std::cmp::Reverse((counts[COUNTERS.len() - 1], counts[0])));
    let now = app.records.offset.to_datetime(Timestamp::now());
    let windows = [Span::Daily.window(now), Span::Monthly.window(now)];
    let (mut today, mut month) = (Counts::default(), Counts::default());
    for (model, _) in models.iter().take(MODELS) {
        for (window, counts) in totals::of(&app.records, model, &windows).await.map_err(unread)? {
            let sum_of = if matches!(window, Window::Daily(_)) { &mut today } else { &mut month };
            *sum_of = sum([&*sum_of, &counts].into_iter());
        }
    }
    let of_models = sum(models.iter().map(|(_, counts)| counts));
    let are_all = page.next.is_none() && models.len() <= MODELS;
    // Claude Relay Service does not count models for all time: what it has counted is in the keys alone.
    let complete = are_all && keys.is_some_and(|keys| keys[0] <= of_models[0]);
    let total = keys.unwrap_or(of_models);
    let prices = app.usage.prices();
    let models = models.iter().map(|(model, counts)| {
        let mut row = row("model", name(model), counts);
        row["priced"] = prices.knows(name(model)).into();
        row
    });
    let data = json!({
        "total": counters(&total),
        "today": counters(&today),
        "month": counters(&month),
        "models": models.collect::<Vec<_>>(),
        "complete": complete,
        "held": app.usage.held(),
        "prices": prices.status(),
    });
    Ok(enveloped(&data))
}

/// Which prices are in force, why the file was refused if it was, and which models have none.
#[utoipa::path(
    get,
    path = "/admin/usage/prices",
    tag = "Usage",
    responses((status = 200, description = "Where the prices are from, and models that were seen without one", body = Enveloped<crate::usage::price::Status>)),
)]
pub(super) async fn prices(State(app): State<Arc<App>>) -> Response {
    enveloped(&json!(app.usage.prices().status()))
}

fn name(subject: &Subject) -> &str {
    match subject {
        Subject::Key(id) | Subject::Account(id) => id,
        Subject::Model(name) | Subject::KeyModel(_, name) => name,
    }
}

fn row(label: &str, name: &str, counts: &Counts) -> Value {
    let mut row = counters(counts);
    row.insert(label.to_owned(), name.into());
    Value::Object(row)
}

fn counters(counts: &Counts) -> Map<String, Value> {
    COUNTERS.iter().zip(counts).map(|(name, count)| ((*name).to_owned(), (*count).into())).collect()
}

fn sum<'a>(all: impl Iterator<Item = &'a Counts>) -> Counts {
    all.fold(Counts::default(), |sum, counts| std::array::from_fn(|i| sum[i].saturating_add(counts[i])))
}

fn unread(error: StoreError) -> Problem {
    Problem::store(error, Asked::Read)
}
