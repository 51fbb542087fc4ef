//! What a client may ask about its key, in Claude Relay Service's shapes.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Relay;
use super::refusal::Refusal;
use crate::keys::ApiKey;
use crate::store::kind::USAGE;
use crate::store::{Key, Window};

impl Relay {
    pub fn me(&self, key: &ApiKey) -> Value {
        json!({
            "id": format!("user_{}", key.id()),
            "type": "user",
            "display_name": key.name(),
            "created_at": key.field("createdAt"),
        })
    }

    /// # Errors
    /// 503 when the stores do not answer.
    pub async fn key_info(&self, key: &ApiKey) -> Result<Value, Refusal> {
        let mut usage = self.totals(key).await?;
        usage["averages"] = averages(&usage, key);
        let info = json!({
            "id": key.id(),
            "name": key.name(),
            "tokenLimit": number(key, "tokenLimit"),
            "usage": usage,
        });
        Ok(json!({ "keyInfo": info, "timestamp": Timestamp::now() }))
    }

    /// # Errors
    /// As [`Self::key_info`].
    pub async fn usage(&self, key: &ApiKey) -> Result<Value, Refusal> {
        let limits = json!({
            "tokens": number(key, "tokenLimit"),
            "requests": number(key, "rateLimitRequests"),
        });
        Ok(json!({ "usage": self.totals(key).await?, "limits": limits, "timestamp": Timestamp::now() }))
    }

    async fn totals(&self, key: &ApiKey) -> Result<Value, Refusal> {
        let now = self.parts.records.offset.to_datetime(Timestamp::now());
        let day = Window::Daily(now.strftime("%Y-%m-%d").to_string());
        let month = Window::Monthly(now.strftime("%Y-%m").to_string());
        let (total, daily, monthly) = futures::try_join!(
            self.window(key, Window::Total),
            self.window(key, day),
            self.window(key, month),
        )?;
        Ok(json!({ "total": total, "daily": daily, "monthly": monthly }))
    }

    /// What a key has used in a window; zeros when nothing.
    async fn window(&self, key: &ApiKey, window: Window) -> Result<Value, Refusal> {
        let unfit = |_| Refusal::new(500, "internal", "This key's usage cannot be looked up.");
        let id = Key::new(&USAGE, &format!("{}:{window}", key.id())).map_err(unfit)?;
        let read = self.parts.records.get(&id).await.map_err(|error| Refusal::storage(&error))?;
        let count = |name: &str| -> u64 {
            let field = read.value.as_ref().and_then(|record| record.fields.get(name));
            field.and_then(|count| count.parse().ok()).unwrap_or(0)
        };
        let (input, output) = (count("input_tokens"), count("output_tokens"));
        let created = count("cache_creation_5m_tokens") + count("cache_creation_1h_tokens");
        let read = count("cache_read_tokens");
        Ok(json!({
            "requests": count("requests"),
            "tokens": input + output,
            "inputTokens": input,
            "outputTokens": output,
            "cacheCreateTokens": created,
            "cacheReadTokens": read,
            "allTokens": input + output + created + read,
            "cost": count("cost_micro_usd") as f64 / 1e6,
        }))
    }
}

fn number(key: &ApiKey, field: &str) -> u64 {
    key.field(field).parse().unwrap_or(0)
}

/// Per minute and per day since the key was made.
fn averages(usage: &Value, key: &ApiKey) -> Value {
    let created = key.field("createdAt").parse::<Timestamp>().ok();
    let seconds = created.map_or(0, |at| Timestamp::now().as_second() - at.as_second()).max(60) as f64;
    let total = |name: &str| usage["total"][name].as_f64().unwrap_or(0.0);
    let (requests, tokens) = (total("requests"), total("allTokens"));
    let (minutes, days) = (seconds / 60.0, (seconds / 86_400.0).max(1.0));
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    json!({
        "rpm": rounded(requests / minutes),
        "tpm": rounded(tokens / minutes),
        "dailyRequests": rounded(requests / days),
        "dailyTokens": rounded(tokens / days),
    })
}
