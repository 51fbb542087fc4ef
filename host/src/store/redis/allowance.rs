//! Limits that nodes share, in Claude Relay Service's keys where it has any, so that it may go on with them.

use std::time::Duration;

use async_trait::async_trait;
use redis::{ScriptInvocation, Value};

use super::call::Effect;
use super::place::Place;
use super::{Redis, layout, script};
use crate::store::allowance::{Allowance, Ask, Cap, Ended, HELD, LEASE, Lease, Refusal, Spent, Verdict};
use crate::store::usage::{Subject, Window};
use crate::store::{Result, StoreError};

/// How long the keys live that hold a lease: longer than that.
const KEPT: Duration = Duration::from_secs(60);

fn leases(key_id: &str) -> String {
    format!("concurrency:{key_id}")
}

fn reserved(key_id: &str) -> String {
    format!("switchyard:reserved:{key_id}")
}

fn sums(key_id: &str) -> String {
    format!("switchyard:reserved:sums:{key_id}")
}

fn window(part: &str, key_id: &str) -> String {
    format!("rate_limit:{part}:{key_id}")
}

/// As `reserved.lua` names what is reserved; nothing where nothing is metered. An advance always has one: it tells
/// whether it has ended.
fn member(kind: char, spent: Spent, call: &Lease) -> String {
    let Spent { tokens, cost_micro } = spent;
    match call.caps.reserves() || call.is_advance() {
        true => format!("{kind} {tokens} {cost_micro} {}", call.lease),
        false => String::new(),
    }
}

fn millis(duration: Option<Duration>) -> u64 {
    duration.map_or(0, |duration| duration.as_millis() as u64)
}

/// A key's leases, what is reserved of it, and the sums of that.
fn add_held(script: &mut ScriptInvocation<'_>, key_id: &str) {
    script.arg(leases(key_id)).arg(reserved(key_id)).arg(sums(key_id));
}

/// The calls of each key next to each other, those of one in their order.
fn by_key<T>(calls: &[T], key_id: impl Fn(&T) -> &str) -> Vec<usize> {
    let mut order: Vec<_> = (0..calls.len()).collect();
    order.sort_by(|a, b| key_id(&calls[*a]).cmp(key_id(&calls[*b])));
    order
}

/// What is the same for all calls of a key that ask at the same time.
fn add_key(script: &mut ScriptInvocation<'_>, ask: &Ask) {
    let Ask { call: Lease { key_id, caps, .. }, today, hour, totals } = ask;
    add_held(script, key_id);
    for part in ["window_start", "requests", "tokens", "cost"] {
        script.arg(window(part, key_id));
    }
    script.arg(caps.concurrency).arg(millis(caps.window()));
    script.arg(caps.window_requests).arg(caps.window_tokens).arg(caps.window_cost_micro);
    script.arg(caps.daily_cost_micro).arg(caps.weekly_cost_micro).arg(caps.total_cost_micro);
    script.arg(if caps.reserves() { "1" } else { "" });
    script.arg(if totals.is_some() { "given" } else { "" });
    let given = totals.unwrap_or_default();
    script.arg(given.daily).arg(given.weekly).arg(given.total);
    let counts = caps.costs() && totals.is_none();
    for window in [Window::Daily(today.clone()), Window::Total] {
        if counts {
            let place = Place::new(&Subject::Key(key_id.clone()), &window);
            script.arg(place.key).arg(place.cost_key);
        } else {
            script.arg("").arg("");
        }
    }
    script.arg(key_id).arg(caps.week.day + 1).arg(caps.week.hour).arg(hour);
}

#[async_trait]
impl Allowance for Redis {
    async fn reserve(&self, asks: &[Ask]) -> Result<Vec<Result<Verdict>>> {
        let mut reserve = script::RESERVE.prepare_invoke();
        reserve.arg(millis(Some(LEASE))).arg(millis(Some(KEPT)));
        let order = by_key(asks, |ask| &ask.call.key_id);
        let alike = |a: &Ask, b: &Ask| {
            let of = |ask: &Ask| (ask.call.caps, ask.hour, ask.totals);
            a.call.key_id == b.call.key_id && of(a) == of(b) && a.today == b.today
        };
        for calls in order.chunk_by(|a, b| alike(&asks[*a], &asks[*b])) {
            add_key(&mut reserve, &asks[calls[0]]);
            reserve.arg(calls.len());
            for call in calls.iter().map(|at| &asks[*at].call) {
                reserve.arg(&call.lease).arg(call.estimate.tokens).arg(call.estimate.cost_micro);
                reserve.arg(call.size.slots).arg(call.size.requests);
            }
        }
        let answers = self.wire.begin()?.script(Effect::Writes, &reserve).await?;
        let answers = layout::list(answers)?;
        if answers.len() != asks.len() {
            return Err(layout::unexpected("limits"));
        }
        let mut verdicts = vec![Ok(Verdict::Uncounted); asks.len()];
        for (at, answer) in order.into_iter().zip(answers) {
            verdicts[at] = decode(answer);
        }
        Ok(verdicts)
    }

    async fn spend(&self, ended: &[Ended]) -> Result<()> {
        let mut spend = script::SPEND.prepare_invoke();
        spend.arg(millis(Some(KEPT))).arg(millis(Some(HELD))).arg(millis(Some(LEASE)));
        let order = by_key(ended, |ended| &ended.call.key_id);
        let alike = |a: &Lease, b: &Lease| a.key_id == b.key_id && a.caps == b.caps;
        for calls in order.chunk_by(|a, b| alike(&ended[*a].call, &ended[*b].call)) {
            let Lease { key_id, caps, .. } = &ended[calls[0]].call;
            add_held(&mut spend, key_id);
            for part in ["window_start", "tokens", "cost"] {
                spend.arg(window(part, key_id));
            }
            spend.arg(window("requests", key_id));
            spend.arg(millis(caps.window().filter(|_| caps.meters_window()))).arg(calls.len());
            for Ended { call, used, unmade } in calls.iter().map(|at| &ended[*at]) {
                let is_held = caps.costs() && used.cost_micro > 0;
                let cost = Spent { tokens: 0, cost_micro: used.cost_micro };
                spend.arg(&call.lease).arg(member('r', call.estimate, call));
                spend.arg(if is_held { member('h', cost, call) } else { String::new() });
                spend.arg(used.tokens).arg(used.cost_micro);
                spend.arg(if caps.concurrency > 0 { call.size.slots } else { 1 });
                spend.arg(if caps.window().is_some() { *unmade } else { 0 });
            }
        }
        self.wire.begin()?.script(Effect::Writes, &spend).await.map(drop)
    }

    async fn renew(&self, live: &[Lease]) -> Result<()> {
        let mut renew = script::RENEW.prepare_invoke();
        renew.arg(millis(Some(LEASE))).arg(millis(Some(KEPT)));
        for call in live {
            add_held(&mut renew, &call.key_id);
            renew.arg(if call.caps.concurrency > 0 { &call.lease } else { "" });
            renew.arg(member('r', call.estimate, call));
        }
        self.wire.begin()?.script(Effect::Writes, &renew).await.map(drop)
    }
}

fn decode(answer: Value) -> Result<Verdict> {
    let [what, current, others, reset] = layout::array(answer)?;
    let number = |value: &Value| layout::integer(value).unwrap_or(0).max(0) as u64;
    let cap = match layout::text(what)?.as_str() {
        "" => return Ok(Verdict::Admitted),
        "advanced" => {
            let left = Some(number(&reset)).filter(|ms| *ms > 0).map(Duration::from_millis);
            return Ok(Verdict::Advanced { left });
        }
        "uncounted" => return Ok(Verdict::Uncounted),
        "failed" => return Err(StoreError::Other(layout::text(current)?)),
        "concurrency" => Cap::Concurrency,
        "requests" => Cap::Requests,
        "tokens" => Cap::Tokens,
        "window-cost" => Cap::WindowCost,
        "daily-cost" => Cap::DailyCost,
        "weekly-cost" => Cap::WeeklyCost,
        "total-cost" => Cap::TotalCost,
        _ => return Err(layout::unexpected("a limit")),
    };
    let reset = Some(number(&reset)).filter(|ms| *ms > 0).map(Duration::from_millis);
    Ok(Verdict::Refused(Refusal { cap, current: number(&current), reserved: number(&others) == 1, reset }))
}
