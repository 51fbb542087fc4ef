//! Limits that nodes share, in Claude Relay Service's keys where it has any, so that it may go on with them.

use std::time::Duration;

use async_trait::async_trait;
use redis::Value;

use super::call::Effect;
use super::place::Place;
use super::{Redis, layout, script};
use crate::store::Result;
use crate::store::allowance::{Allowance, Ask, Cap, Ended, HELD, LEASE, Lease, Refusal, Spent, Verdict};
use crate::store::usage::{Subject, Window};

/// How much longer than a lease the keys live that hold one.
const BEYOND: Duration = Duration::from_secs(30);

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

/// As `reserved.lua` names what is reserved; nothing where nothing is metered.
fn member(kind: char, spent: Spent, call: &Lease) -> String {
    let Spent { tokens, cost_micro } = spent;
    match call.caps.reserves() {
        true => format!("{kind} {tokens} {cost_micro} {}", call.lease),
        false => String::new(),
    }
}

fn millis(duration: Option<Duration>) -> u64 {
    duration.map_or(0, |duration| duration.as_millis() as u64)
}

#[async_trait]
impl Allowance for Redis {
    async fn reserve(&self, ask: &Ask<'_>) -> Result<Verdict> {
        let &Ask { key_id, lease, caps, estimate, today, hour, totals } = ask;
        let mut reserve = script::RESERVE.prepare_invoke();
        reserve.arg(leases(key_id)).arg(reserved(key_id)).arg(sums(key_id));
        for part in ["window_start", "requests", "tokens", "cost"] {
            reserve.arg(window(part, key_id));
        }
        let call = Lease { key_id: key_id.into(), lease: lease.into(), caps: *caps, estimate };
        reserve.arg(lease).arg(millis(Some(LEASE))).arg(millis(Some(BEYOND)));
        reserve.arg(member('r', estimate, &call)).arg(estimate.tokens).arg(estimate.cost_micro);
        reserve.arg(caps.concurrency).arg(millis(caps.window()));
        reserve.arg(caps.window_requests).arg(caps.window_tokens).arg(caps.window_cost_micro);
        reserve.arg(caps.daily_cost_micro).arg(caps.weekly_cost_micro).arg(caps.total_cost_micro);
        reserve.arg(if totals.is_some() { "given" } else { "" });
        let given = totals.unwrap_or_default();
        reserve.arg(given.daily).arg(given.weekly).arg(given.total);
        if caps.costs() && totals.is_none() {
            let windows = [Window::Daily(today.to_owned()), Window::Total];
            for place in windows.map(|window| Place::new(&Subject::Key(key_id.into()), &window)) {
                reserve.arg(place.key).arg(place.cost_key);
            }
            reserve.arg(key_id).arg(caps.week.day + 1).arg(caps.week.hour).arg(hour);
        }
        decode(self.wire.begin()?.script(Effect::Writes, &reserve).await?)
    }

    async fn spend(&self, ended: &[Ended]) -> Result<()> {
        let mut spend = script::SPEND.prepare_invoke();
        spend.arg(millis(Some(BEYOND))).arg(millis(Some(LEASE))).arg(millis(Some(HELD)));
        for Ended { call, used } in ended {
            let (key_id, caps) = (&*call.key_id, &call.caps);
            spend.arg(leases(key_id)).arg(reserved(key_id)).arg(sums(key_id));
            for part in ["window_start", "tokens", "cost"] {
                spend.arg(window(part, key_id));
            }
            let is_held = caps.costs() && used.cost_micro > 0;
            let cost = Spent { tokens: 0, cost_micro: used.cost_micro };
            spend.arg(&call.lease).arg(member('r', call.estimate, call));
            spend.arg(if is_held { member('h', cost, call) } else { String::new() });
            spend.arg(millis(caps.window().filter(|_| caps.meters_window())));
            spend.arg(used.tokens).arg(used.cost_micro);
        }
        self.wire.begin()?.script(Effect::Writes, &spend).await.map(drop)
    }

    async fn renew(&self, live: &[Lease]) -> Result<()> {
        let mut renew = script::RENEW.prepare_invoke();
        renew.arg(millis(Some(LEASE))).arg(millis(Some(BEYOND)));
        for call in live {
            renew.arg(leases(&call.key_id)).arg(reserved(&call.key_id)).arg(sums(&call.key_id));
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
        "uncounted" => return Ok(Verdict::Uncounted),
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
