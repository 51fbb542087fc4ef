//! What a person is told when a limit is in the way.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::calendar::Calendar;
use super::{Cap, Caps, Refusal};
use crate::store::allowance::HELD;

/// How soon to try again when a call in flight may end at any moment.
const SOON: Duration = Duration::from_secs(1);

/// Why a call was not admitted. Displays a sentence for the person who wanted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exceeded {
    Concurrency {
        limit: u64,
        current: u64,
    },
    Requests {
        limit: u64,
        current: u64,
        reset_at: Timestamp,
    },
    Tokens {
        limit: u64,
        current: u64,
        reset_at: Timestamp,
    },
    /// Micro-dollars, as in those that follow.
    WindowCost {
        limit: u64,
        current: u64,
        reset_at: Timestamp,
    },
    DailyCost {
        limit: u64,
        current: u64,
        reset_at: Timestamp,
    },
    WeeklyCost {
        limit: u64,
        current: u64,
        reset_at: Timestamp,
    },
    TotalCost {
        limit: u64,
        current: u64,
    },
    /// The limit is not reached, but calls in flight have reserved what is left of it, or what the last ones have
    /// cost is not counted yet.
    Reserved {
        cap: Cap,
        limit: u64,
        current: u64,
    },
    /// Whether a limit is in the way cannot be told.
    Unavailable(String),
}

impl Exceeded {
    pub(super) fn new(caps: &Caps, refusal: Refusal, now: &Calendar) -> Self {
        let Refusal { cap, current, reserved, reset } = refusal;
        let limit = limit(caps, cap);
        if reserved && cap != Cap::Concurrency {
            return Self::Reserved { cap, limit, current };
        }
        let reset_at = now.now.checked_add(reset.unwrap_or(SOON)).unwrap_or(Timestamp::MAX);
        match cap {
            Cap::Concurrency => Self::Concurrency { limit, current },
            Cap::Requests => Self::Requests { limit, current, reset_at },
            Cap::Tokens => Self::Tokens { limit, current, reset_at },
            Cap::WindowCost => Self::WindowCost { limit, current, reset_at },
            Cap::DailyCost => Self::DailyCost { limit, current, reset_at: now.midnight() },
            Cap::WeeklyCost => Self::WeeklyCost { limit, current, reset_at: now.next_week() },
            Cap::TotalCost => Self::TotalCost { limit, current },
        }
    }

    /// The HTTP status: 402 where the budget is used up, so that clients do not try again, 429 where waiting helps,
    /// 503 where it cannot be told.
    pub fn status(&self) -> u16 {
        match self {
            Self::DailyCost { .. } | Self::WeeklyCost { .. } | Self::TotalCost { .. } => 402,
            Self::Unavailable(_) => 503,
            _ => 429,
        }
    }

    /// How long to wait before trying again; none where that does not help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            // By then it is counted what calls that have ended have cost.
            Self::Reserved { cap: Cap::DailyCost | Cap::WeeklyCost | Cap::TotalCost, .. } => Some(HELD),
            Self::Concurrency { .. } | Self::Reserved { .. } | Self::Unavailable(_) => Some(SOON),
            Self::Requests { reset_at, .. }
            | Self::Tokens { reset_at, .. }
            | Self::WindowCost { reset_at, .. } => {
                let left = reset_at.duration_since(Timestamp::now());
                Some(Duration::try_from(left).unwrap_or(SOON).max(SOON))
            }
            Self::DailyCost { .. } | Self::WeeklyCost { .. } | Self::TotalCost { .. } => None,
        }
    }

    /// As Claude Relay Service names it, where it has the limit.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Concurrency { .. } => "concurrency_limit_exceeded",
            Self::Requests { .. } | Self::Tokens { .. } | Self::WindowCost { .. } => "rate_limit_exceeded",
            Self::DailyCost { .. } => "daily_cost_limit_exceeded",
            Self::WeeklyCost { .. } => "weekly_opus_cost_limit_exceeded",
            Self::TotalCost { .. } => "total_cost_limit_exceeded",
            Self::Reserved { .. } => "limit_reserved",
            Self::Unavailable(_) => "limits_unavailable",
        }
    }

    /// The fields that Claude Relay Service puts beside the error. Costs are dollars there.
    pub fn relay_service_fields(&self) -> Map<String, Value> {
        let cost = |limit: &u64, current: &u64| json!({ "currentCost": dollars(*current), "costLimit": dollars(*limit) });
        let mut fields = match self {
            Self::Concurrency { limit, current } => {
                json!({ "currentConcurrency": current, "concurrencyLimit": limit })
            }
            Self::Requests { limit, current, .. } => {
                json!({ "currentRequests": current, "requestLimit": limit })
            }
            Self::Tokens { limit, current, .. } => json!({ "currentTokens": current, "tokenLimit": limit }),
            Self::WindowCost { limit, current, .. }
            | Self::DailyCost { limit, current, .. }
            | Self::WeeklyCost { limit, current, .. }
            | Self::TotalCost { limit, current } => cost(limit, current),
            Self::Reserved { cap: Cap::Tokens | Cap::Requests, limit, current } => {
                json!({ "currentTokens": current, "tokenLimit": limit })
            }
            Self::Reserved { limit, current, .. } => cost(limit, current),
            Self::Unavailable(_) => json!({}),
        };
        if let Some(reset_at) = self.reset_at() {
            fields["resetAt"] = json!(reset_at.to_string());
        }
        if let (Some(wait), true) = (self.retry_after(), self.reset_at().is_some()) {
            fields["remainingMinutes"] = json!(wait.as_secs().div_ceil(60));
        }
        match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }

    /// When the limit is whole again, if that is a time.
    pub fn reset_at(&self) -> Option<Timestamp> {
        match self {
            Self::Requests { reset_at, .. }
            | Self::Tokens { reset_at, .. }
            | Self::WindowCost { reset_at, .. }
            | Self::DailyCost { reset_at, .. }
            | Self::WeeklyCost { reset_at, .. } => Some(*reset_at),
            _ => None,
        }
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usd = |micro: &u64| format!("${:.2}", dollars(*micro));
        match self {
            Self::Concurrency { limit, current } => {
                write!(f, "This key may have {limit} requests in flight at once, and has {current}; ")?;
                f.write_str("try again when one has ended.")
            }
            Self::Requests { limit, reset_at, .. } => {
                write!(
                    f,
                    "This key has made the {limit} requests it may make for now; it may again at {reset_at}."
                )
            }
            Self::Tokens { limit, current, reset_at } => {
                write!(f, "This key has used {current} of {limit} tokens; it may use more at {reset_at}.")
            }
            Self::WindowCost { limit, current, reset_at } => {
                write!(f, "This key has used {} of {} for now; ", usd(current), usd(limit))?;
                write!(f, "it may use more at {reset_at}.")
            }
            Self::DailyCost { limit, current, reset_at } => {
                write!(f, "This key has used {} of the {} it may cost a day; ", usd(current), usd(limit))?;
                write!(f, "the next day begins at {reset_at}.")
            }
            Self::WeeklyCost { limit, current, reset_at } => {
                write!(f, "This key has used {} of the {} it may cost a week; ", usd(current), usd(limit))?;
                write!(f, "the next week begins at {reset_at}.")
            }
            Self::TotalCost { limit, current } => {
                write!(f, "This key has used {} of the {} it may cost in total; ", usd(current), usd(limit))?;
                f.write_str("ask whoever gave you the key for more.")
            }
            Self::Reserved { cap, limit, .. } => write_reserved(f, *cap, *limit),
            // The reason is for whoever runs the relay.
            Self::Unavailable(_) => f.write_str(
                "Whether this API key is within its limits cannot be told at the moment, because the relay's storage \
                 does not answer. This passes by itself; try again shortly.",
            ),
        }
    }
}

fn write_reserved(f: &mut fmt::Formatter<'_>, cap: Cap, limit: u64) -> fmt::Result {
    let usd = dollars(limit);
    match cap {
        Cap::Tokens => write!(f, "This key is close to the {limit} tokens it may use for now: ")?,
        Cap::Requests | Cap::Concurrency => {
            write!(f, "This key is close to the {limit} requests it may make: ")?
        }
        Cap::WindowCost => write!(f, "This key is close to the ${usd:.2} it may use for now: ")?,
        Cap::DailyCost => write!(f, "This key is close to the ${usd:.2} it may cost a day: ")?,
        Cap::WeeklyCost => write!(f, "This key is close to the ${usd:.2} it may cost a week: ")?,
        Cap::TotalCost => write!(f, "This key is close to the ${usd:.2} it may cost in total: ")?,
    }
    f.write_str(match cap {
        Cap::DailyCost | Cap::WeeklyCost | Cap::TotalCost => {
            "its requests that are under way, or have ended a moment ago and are still being counted, may use up the \
             rest. Try again in 3 seconds."
        }
        _ => "its requests that are under way may use up the rest. Try again when one of them has ended.",
    })
}

fn limit(caps: &Caps, cap: Cap) -> u64 {
    match cap {
        Cap::Concurrency => caps.concurrency.into(),
        Cap::Requests => caps.window_requests,
        Cap::Tokens => caps.window_tokens,
        Cap::WindowCost => caps.window_cost_micro,
        Cap::DailyCost => caps.daily_cost_micro,
        Cap::WeeklyCost => caps.weekly_cost_micro,
        Cap::TotalCost => caps.total_cost_micro,
    }
}

fn dollars(micro: u64) -> f64 {
    micro as f64 / 1_000_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_and_may_be_used_up_is_said_with_when_to_try_again() {
        let reserved = |cap| Exceeded::Reserved { cap, limit: 10_000_000, current: 9_999_999 };
        for (cap, says, seconds) in [
            (Cap::DailyCost, ["$10.00 it may cost a day", "still being counted"], 3),
            (Cap::WeeklyCost, ["$10.00 it may cost a week", "Try again in 3 seconds"], 3),
            (Cap::TotalCost, ["$10.00 it may cost in total", "Try again in 3 seconds"], 3),
            (Cap::WindowCost, ["$10.00 it may use for now", "when one of them has ended"], 1),
            (Cap::Tokens, ["10000000 tokens it may use for now", "when one of them has ended"], 1),
        ] {
            let (sentence, wait) = (reserved(cap).to_string(), reserved(cap).retry_after());
            assert!(says.iter().all(|part| sentence.contains(part)), "{sentence}");
            assert_eq!(
                (reserved(cap).status(), wait),
                (429, Some(Duration::from_secs(seconds))),
                "{sentence}"
            );
        }
    }
}
