//! From one account to the next, until one answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde_json::Value;

use super::attempt::{Answer, attempt};
use super::bill::Bill;
use super::body::Body;
use super::headers::REQUEST_ID;
use super::judge::Told;
use super::refusal::Refusal;
use super::stream::Relayed;
use super::{Call, Relay, Wants, sticky};
use crate::accounts::{NoAccount, Outcome, Upstream, Wanted};
use crate::limits::{Caps, Exceeded, Reservation, Spent, WeekStart};
use crate::store::usage::is_claude;
use crate::telemetry::Metrics;
use crate::usage::{Attempt, OpenAttempt, Tokens};

/// Accounts that are tried for one request.
const ATTEMPTS: usize = 4;
/// Bytes of a prompt to a token, for what is reserved.
const BYTES_A_TOKEN: u64 = 4;
/// The most output that is reserved: what a client allows is mostly far more than what comes.
const RESERVED_OUTPUT: u64 = 4_096;

/// Under which name the demo upstream is counted.
const DEMO: &str = "demo";

const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

/// Attempts by how they ended.
pub(super) struct Figures(Family<Ended, Counter>);

impl Figures {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let attempts = Family::default();
        metrics.register("relay_attempts", "Attempts at upstreams, by how they ended.", attempts.clone());
        Self(attempts)
    }

    fn count(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Ok => "ok",
            Outcome::RateLimited { .. } => "rate_limited",
            Outcome::Overloaded => "overloaded",
            Outcome::Failed => "failed",
            Outcome::Unauthorized => "unauthorized",
            Outcome::Refused => "refused",
        };
        self.0.get_or_create(&Ended { outcome }).inc();
    }
}

impl Relay {
    pub(super) async fn forward(&self, call: Call) -> Result<Response<Body>, Refusal> {
        let reserved = match call.wants {
            Wants::Message => Some(self.reserve(&call).await?),
            Wants::Count => None,
        };
        match self.ask(&call).await {
            Ok((upstream, answer, usage)) => {
                let bill = usage.zip(reserved).map(|(usage, reserved)| self.bill(&call, usage, reserved));
                Ok(self.answer(call, upstream, answer, bill))
            }
            Err(told) => {
                if let Some(reserved) = reserved {
                    reserved.settle(Spent::default());
                }
                deliver(told, &call.request_id)
            }
        }
    }

    /// One account after the other.
    async fn ask(&self, call: &Call) -> Result<(Upstream, Answer, Option<OpenAttempt>), Told> {
        let sticky = call.asked.session.as_deref().map(|session| sticky::id(call.key.id(), session));
        let mut preferred = match &sticky {
            Some(id) => self.sticky.account(id).await,
            None => None,
        };
        let (mut tried, mut told) = (Vec::new(), None::<Told>);
        while tried.len() < ATTEMPTS {
            let stays_with = preferred.take();
            let wanted = Wanted {
                model: &call.asked.model,
                bound: call.key.bound(),
                sticky: stays_with.as_deref(),
                tried: &tried,
            };
            let upstream = match self.choose(&wanted).await {
                Ok(upstream) => upstream,
                Err(none) => return Err(Told::Refused(none.into()).or(told)),
            };
            let mut usage = self.open(call, &upstream);
            let outcome = attempt(&self.upstreams, &self.options, call, &upstream, &mut usage).await;
            let judged = outcome.as_ref().map_or_else(|failed| failed.outcome, |_| Outcome::Ok);
            self.parts.accounts.report_of(&upstream, judged);
            self.figures.count(judged);
            match outcome {
                Ok(answer) => {
                    if let (Some(id), Wants::Message) = (&sticky, call.wants) {
                        self.sticky.keep(id, &upstream.id);
                    }
                    return Ok((upstream, answer, usage));
                }
                Err(failed) if !failed.elsewhere => return Err(failed.told),
                Err(failed) => told = Some(failed.told.or(told)),
            }
            tried.push(upstream.id.clone());
        }
        Err(told.unwrap_or_else(|| Told::Refused(NoAccount::None.into())))
    }

    /// Where there is no account at all, the demo upstream serves, if there is one.
    async fn choose(&self, wanted: &Wanted<'_>) -> Result<Upstream, NoAccount> {
        let chosen = self.parts.accounts.choose(wanted).await;
        match (chosen, &self.parts.demo) {
            (Err(NoAccount::None), Some(demo)) if wanted.tried.is_empty() => {
                Upstream::made_up(DEMO, demo.clone()).ok_or(NoAccount::None)
            }
            (chosen, _) => chosen,
        }
    }

    /// What it will about come to is set aside before the call.
    async fn reserve(&self, call: &Call) -> Result<Reservation, Refusal> {
        if !self.parts.recorder.has_room() {
            return Err(Refusal::overloaded("The relay cannot record what is used at the moment."));
        }
        let input = call.body.len() as u64 / BYTES_A_TOKEN;
        let tokens =
            Tokens { input, output: call.asked.max_tokens.min(RESERVED_OUTPUT), ..Tokens::default() };
        let cost_micro = self.parts.recorder.prices().cost(&call.asked.model, &tokens).micro_usd;
        let estimate = Spent { tokens: tokens.total(), cost_micro };
        let begun = self.parts.limits.begin(call.key.id(), &call.request_id, &caps(call), estimate).await;
        Ok(begun?)
    }

    fn answer(&self, call: Call, upstream: Upstream, answer: Answer, bill: Option<Bill>) -> Response<Body> {
        match answer {
            Answer::Plain { headers, body, seen } => {
                if let Some(bill) = bill {
                    bill.finish(&seen);
                }
                response(StatusCode::OK, headers, Body::whole(body))
            }
            Answer::Stream { mut headers, first, rest } => {
                headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
                headers.insert(NO_BUFFERING, HeaderValue::from_static("no"));
                let relayed =
                    Relayed::new((first, rest), upstream, bill, self.options.silence, call.request_id);
                response(StatusCode::OK, headers, Body::Stream(Box::new(relayed)))
            }
        }
    }

    /// What is recorded of an attempt: each one has its own event.
    fn open(&self, call: &Call, upstream: &Upstream) -> Option<OpenAttempt> {
        let open = || {
            self.parts.recorder.open(Attempt {
                event_id: self.ids.next().simple().to_string(),
                key_id: call.key.id().to_owned(),
                account_id: Some(upstream.id.clone()),
                model: call.asked.model.clone(),
                request_id: Some(call.request_id.clone()),
            })
        };
        (call.wants == Wants::Message).then(open)
    }

    fn bill(&self, call: &Call, usage: OpenAttempt, reserved: Reservation) -> Bill {
        Bill::new(usage, reserved, Arc::clone(self.parts.recorder.prices()), call.asked.model.clone())
    }
}

fn caps(call: &Call) -> Caps {
    let limits = call.key.limits();
    Caps {
        concurrency: limits.concurrency,
        window: limits.window,
        window_requests: limits.window_requests,
        window_tokens: limits.window_tokens,
        window_cost_micro: limits.window_cost_micro,
        daily_cost_micro: limits.daily_cost_micro,
        // As in Claude Relay Service, which counts nothing else in it.
        weekly_cost_micro: if is_claude(&call.asked.model) { limits.weekly_cost_micro } else { 0 },
        week: WeekStart { day: limits.week.0, hour: limits.week.1 },
        total_cost_micro: limits.total_cost_micro,
    }
}

fn deliver(told: Told, request_id: &str) -> Result<Response<Body>, Refusal> {
    match told {
        Told::Refused(refusal) => Err(refusal),
        Told::Forwarded { status, headers, body } => {
            let named = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or(request_id);
            let body = with_id(body, named);
            Ok(response(status, headers, Body::whole(body)))
        }
    }
}

/// An error as it is; one that does not name its request gets the name.
fn with_id(body: Bytes, request_id: &str) -> Bytes {
    match serde_json::from_slice(&body) {
        Ok(Value::Object(mut error)) if !error.contains_key("request_id") => {
            error.insert("request_id".into(), request_id.into());
            Value::Object(error).to_string().into()
        }
        _ => body,
    }
}

fn response(status: StatusCode, headers: hyper::HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    response
}

impl From<NoAccount> for Refusal {
    fn from(none: NoAccount) -> Self {
        let message = sentence(&none.to_string());
        match none {
            NoAccount::None => Self::new(503, "no_account", message).lasting(),
            NoAccount::AllCooling { retry_after, rate_limited: true } => {
                Self::new(429, "accounts_rate_limited", message).after(seconds(retry_after))
            }
            NoAccount::AllCooling { retry_after, .. } => {
                Self::overloaded(message).after(seconds(retry_after))
            }
            NoAccount::Store(error) => Self::storage(&error),
            NoAccount::Credential(_) => Self::new(503, "account_unusable", message).lasting(),
        }
    }
}

/// With a capital at the beginning and a full stop at the end.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

impl From<Exceeded> for Refusal {
    fn from(exceeded: Exceeded) -> Self {
        let refusal = Self::new(exceeded.status(), exceeded.code(), exceeded.to_string());
        let refusal = Self { extra: exceeded.relay_service_fields(), ..refusal };
        match exceeded.retry_after() {
            Some(wait) => refusal.after(seconds(wait)),
            None => refusal,
        }
    }
}

/// Whole seconds, rounded up.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}
