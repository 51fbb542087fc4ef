//! What that program does to its database with each request, and reads for a limit.

use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan as _};

use super::RelayService;

/// A request that it has relayed, of uncached tokens only.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    pub key: &'static str,
    pub account: &'static str,
    pub model: &'static str,
    pub at: Timestamp,
    pub input: u64,
    pub dollars: f64,
}

/// The periods of a time, as its keys name them.
struct Periods {
    day: String,
    month: String,
    hour: String,
}

impl Periods {
    fn of(at: Timestamp) -> Self {
        let at = Offset::UTC.to_datetime(at);
        let [day, month, hour] =
            ["%Y-%m-%d", "%Y-%m", "%Y-%m-%d:%H"].map(|form| at.strftime(form).to_string());
        Self { day, month, hour }
    }
}

/// The week of a key that begins on this day (Monday is 1) at this hour, as the key of its cost names it.
pub fn week_key(key: &str, at: Timestamp, day: i64, hour: i64) -> String {
    let local = Offset::UTC.to_datetime(at);
    let since = i64::from(local.weekday().to_monday_zero_offset()) * 24 + i64::from(local.hour());
    let began = local - ((since - (day - 1) * 24 - hour).rem_euclid(168)).hours();
    format!("usage:opus:weekly:{key}:{}", began.strftime("%Y-%m-%dT%H"))
}

impl RelayService {
    /// Counts a request as it does, in the week that begins on Monday unless another was named.
    pub async fn count(&self, request: Request, week: (i64, i64)) {
        let Request { key, account, model, at, dollars, .. } = request;
        let Periods { day, month, hour } = Periods::of(at);
        for hash in [format!("usage:{key}"), format!("account_usage:{account}")] {
            self.raise(
                &hash,
                &["totalTokens", "totalInputTokens", "totalAllTokens"],
                "totalRequests",
                request,
            )
            .await;
        }
        let spans = [("daily", &day), ("monthly", &month), ("hourly", &hour)];
        for (span, at) in spans {
            for hash in [format!("usage:{span}:{key}:{at}"), format!("account_usage:{span}:{account}:{at}")] {
                self.raise(&hash, &["tokens", "inputTokens", "allTokens"], "requests", request).await;
            }
            let by_model = [
                format!("usage:model:{span}:{model}:{at}"),
                format!("usage:{key}:model:{span}:{model}:{at}"),
                format!("account_usage:model:{span}:{account}:{model}:{at}"),
            ];
            for hash in &by_model {
                self.raise(hash, &["inputTokens", "allTokens"], "requests", request).await;
            }
            for paid in ["realCostMicro", "ratedCostMicro"] {
                self.run(&["HINCRBY", &by_model[1], paid, &format!("{:.0}", dollars * 1e6)]).await;
            }
            self.pay(&format!("usage:cost:{span}:{key}:{at}"), dollars).await;
        }
        let sums = [format!("usage:global:daily:{day}"), format!("usage:global:monthly:{month}")];
        for hash in sums.iter().map(String::as_str).chain(["usage:global:total"]) {
            self.raise(hash, &["inputTokens", "allTokens"], "requests", request).await;
        }
        for total in ["usage:cost:total:", "usage:cost:real:total:"] {
            self.pay(&format!("{total}{key}"), dollars).await;
        }
        self.pay(&format!("usage:cost:real:daily:{key}:{day}"), dollars).await;
        self.pay(&week_key(key, at, week.0, week.1), dollars).await;
        let member = format!("{account}:{model}");
        self.run(&["SADD", &format!("account_usage:model:daily:index:{day}"), &member]).await;
        let listed = format!(r#"{{"timestamp":"{at:.3}","model":"{model}","cost":{dollars}}}"#);
        self.run(&["LPUSH", &format!("usage:records:{key}"), &listed]).await;
    }

    async fn raise(&self, hash: &str, tokens: &[&str], requests: &str, request: Request) {
        for field in tokens {
            self.run(&["HINCRBY", hash, field, &request.input.to_string()]).await;
        }
        self.run(&["HINCRBY", hash, requests, "1"]).await;
    }

    async fn pay(&self, key: &str, dollars: f64) {
        self.run(&["INCRBYFLOAT", key, &dollars.to_string()]).await;
    }

    /// What it reads in a key of dollars, in micro-dollars.
    pub async fn paid(&self, key: &str) -> u64 {
        let dollars: Option<f64> = self.0.ask(&["GET", key]).await;
        (dollars.unwrap_or_default() * 1e6).round() as u64
    }
}
