//! The models that a key may use: those with a price, and those that its accounts name.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::Relay;
use super::refusal::Refusal;
use crate::accounts::Served;
use crate::keys::ApiKey;

/// The most models of a page.
const MAX_PAGE: usize = 1_000;

impl Relay {
    /// A page of the models that the key may use, for clients of Anthropic's shape and of Claude Relay Service's.
    /// All of them unless the query has a `limit`; `after_id` and `before_id` say where it begins and ends.
    ///
    /// # Errors
    /// 400 for a query that cannot be followed, 503 when the accounts cannot be read.
    pub async fn models(&self, key: &ApiKey, query: Option<&str>) -> Result<Value, Refusal> {
        let served = self.served(key).await?;
        let mut models = self.parts.recorder.prices().models();
        models.retain(|model| served.has(model));
        for named in served.named() {
            if !models.iter().any(|model| model.eq_ignore_ascii_case(named)) {
                models.push(named.to_owned());
            }
        }
        models.retain(|model| key.allows_model(model).is_ok());
        page(&models, query.unwrap_or_default())
    }

    /// # Errors
    /// 404 when there is none of this id, or the key may not use it; 503 when the accounts cannot be read.
    pub async fn model(&self, key: &ApiKey, id: &str) -> Result<Value, Refusal> {
        let served = self.served(key).await?;
        let priced = self.parts.recorder.prices().knows(id) && served.has(id);
        let known = priced || served.named().any(|named| named == id);
        if known && key.allows_model(id).is_ok() {
            return Ok(view(id));
        }
        Err(Refusal::new(
            404,
            "unknown_model",
            "There is no such model here, or this API key may not use it.",
        ))
    }

    async fn served(&self, key: &ApiKey) -> Result<Served, Refusal> {
        match self.parts.demo {
            // It answers to every name that no account does.
            Some(_) => Ok(Served::Any),
            None => Ok(self.parts.accounts.served(key.bound()).await?),
        }
    }
}

fn page(models: &[String], query: &str) -> Result<Value, Refusal> {
    let unfit =
        |what: &str| Refusal::bad("invalid_query", format!("{what} is not one that can be followed."));
    let (mut start, mut end, mut limit, mut backwards) = (0, models.len(), MAX_PAGE, false);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let place = || models.iter().position(|model| *model == *value).ok_or_else(|| unfit(&name));
        match &*name {
            "limit" => {
                let given = value.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
                limit = given.ok_or_else(|| unfit("limit"))?;
            }
            "after_id" => start = place()? + 1,
            "before_id" => (end, backwards) = (place()?, true),
            _ => {}
        }
    }
    let end = end.max(start);
    let (from, to) = match backwards {
        true => (start.max(end.saturating_sub(limit)), end),
        false => (start, end.min(start + limit)),
    };
    let has_more = if backwards { from > start } else { to < end };
    let page = &models[from..to];
    let data: Vec<_> = page.iter().map(|model| view(model)).collect();
    let (first, last) = (page.first(), page.last());
    Ok(json!({ "object": "list", "data": data, "has_more": has_more, "first_id": first, "last_id": last }))
}

/// A model as both worlds show it. When it came out is known of those that have the date in their name; the others say
/// the beginning of time, as Anthropic has it.
fn view(id: &str) -> Value {
    let released = released(id).unwrap_or(Timestamp::UNIX_EPOCH);
    json!({
        "type": "model",
        "id": id,
        "display_name": display_name(id),
        "created_at": released.to_string(),
        "object": "model",
        "created": released.as_second(),
        "owned_by": "anthropic",
    })
}

fn released(id: &str) -> Option<Timestamp> {
    let (_, date) = id.rsplit_once('-')?;
    let date =
        Some(date).filter(|date| is_date(date)).and_then(|date| Date::strptime("%Y%m%d", date).ok())?;
    TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()
}

fn is_date(word: &str) -> bool {
    word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// `claude-opus-4-5-20251101` is Claude Opus 4.5. Names of others are left as they are.
fn display_name(id: &str) -> String {
    if !id.starts_with("claude-") {
        return id.to_owned();
    }
    let mut name = String::new();
    for word in id.split('-').filter(|word| !is_date(word) && *word != "latest") {
        let number = word.bytes().all(|byte| byte.is_ascii_digit());
        let follows_number = name.ends_with(|end: char| end.is_ascii_digit());
        match (name.is_empty(), number && follows_number) {
            (true, _) => {}
            (false, true) => name.push('.'),
            (false, false) => name.push(' '),
        }
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_a_name_for_people_and_a_date_where_its_own_name_says_them() {
        for (id, name, created) in [
            ("claude-opus-4-5", "Claude Opus 4.5", "1970-01-01T00:00:00Z"),
            ("claude-opus-4-5-20251101", "Claude Opus 4.5", "2025-11-01T00:00:00Z"),
            ("claude-3-5-haiku-latest", "Claude 3.5 Haiku", "1970-01-01T00:00:00Z"),
            ("claude-sonnet-5", "Claude Sonnet 5", "1970-01-01T00:00:00Z"),
            ("claude-sonnet-5-99999999", "Claude Sonnet 5", "1970-01-01T00:00:00Z"),
            ("glm-4.6", "glm-4.6", "1970-01-01T00:00:00Z"),
        ] {
            let view = view(id);
            assert_eq!((&view["display_name"], &view["created_at"]), (&json!(name), &json!(created)), "{id}");
        }
    }

    #[test]
    fn pages_follow_each_other_in_both_directions() {
        let models: Vec<_> = "abcde".chars().map(String::from).collect();
        let ids = |query: &str| {
            let page = page(&models, query).unwrap();
            let ids = page["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap());
            assert_eq!(page["first_id"], page["data"][0]["id"], "{query}");
            (ids.collect::<String>(), page["has_more"].as_bool().unwrap())
        };
        for (query, page, more) in [
            ("", "abcde", false),
            ("limit=2", "ab", true),
            ("limit=2&after_id=b", "cd", true),
            ("limit=2&after_id=d", "e", false),
            ("after_id=e", "", false),
            ("limit=2&before_id=e", "cd", true),
            ("limit=2&before_id=c", "ab", false),
            ("beta=true", "abcde", false),
        ] {
            assert_eq!(ids(query), (page.to_owned(), more), "{query}");
        }
        for wrong in ["limit=0", "limit=1001", "limit=x", "after_id=z", "before_id="] {
            assert_eq!(page(&models, wrong).unwrap_err().status, 400, "{wrong}");
        }
    }
}
