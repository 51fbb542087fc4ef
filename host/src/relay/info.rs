//! What a client may ask about its key, in Claude Relay Service's shapes.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Relay;
use super::refusal::Refusal;
use crate::keys::ApiKey;
use crate::store::kind::USAGE;
use crate::store::{Key, Window};

/// What clients are told that there is: an id, a name for people, and when it came out.
const MODELS: [(&str, &str, &str); 9] = [
    ("claude-opus-4-5-20251101", "Claude Opus 4.5", "2025-11-01T00:00:00Z"),
    ("claude-opus-4-5", "Claude Opus 4.5", "2025-11-01T00:00:00Z"),
    ("claude-haiku-4-5-20251001", "Claude Haiku 4.5", "2025-10-01T00:00:00Z"),
    ("claude-haiku-4-5", "Claude Haiku 4.5", "2025-10-01T00:00:00Z"),
    ("claude-sonnet-4-5-20250929", "Claude Sonnet 4.5", "2025-09-29T00:00:00Z"),
    ("claude-sonnet-4-5", "Claude Sonnet 4.5", "2025-09-29T00:00:00Z"),
    ("claude-opus-4-1-20250805", "Claude Opus 4.1", "2025-08-05T00:00:00Z"),
    ("claude-sonnet-4-20250514", "Claude Sonnet 4", "2025-05-14T00:00:00Z"),
    ("claude-3-5-haiku-20241022", "Claude Haiku 3.5", "2024-10-22T00:00:00Z"),
];

impl Relay {
    /// The models that the key may use, for clients of Anthropic's shape and of Claude Relay Service's.
    pub fn models(&self, key: &ApiKey) -> Value {
        let data: Vec<_> =
            MODELS.into_iter().filter(|(id, ..)| key.allows_model(id).is_ok()).map(view).collect();
        let end = |at: Option<&Value>| at.map_or(Value::Null, |model| model["id"].clone());
        let (first, last) = (end(data.first()), end(data.last()));
        json!({ "object": "list", "data": data, "has_more": false, "first_id": first, "last_id": last })
    }

    /// # Errors
    /// 404 when there is none of this id, or the key may not use it.
    pub fn model(&self, key: &ApiKey, id: &str) -> Result<Value, Refusal> {
        let found = MODELS.into_iter().find(|(known, ..)| *known == id && key.allows_model(id).is_ok());
        found.map(view).ok_or_else(|| Refusal::new(404, "unknown_model", "There is no such model here."))
    }

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

fn view((id, name, created): (&str, &str, &str)) -> Value {
    let seconds = created.parse::<Timestamp>().map_or(0, |at| at.as_second());
    json!({
        "type": "model",
        "id": id,
        "display_name": name,
        "created_at": created,
        "object": "model",
        "created": seconds,
        "owned_by": "anthropic",
    })
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
