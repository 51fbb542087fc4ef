//! Clears cached copies, and nothing that is not a copy.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use crate::store::side::{Side, Sides};
use crate::store::{Key, Kind, Result, StoreError, Version};

const PAGE: u32 = 250;
const AT_ONCE: usize = 16;
/// Between two steps: live traffic comes first.
const REST: Duration = Duration::from_millis(2);

/// What was cleared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cleared {
    #[serde(rename = "clearedKeys")]
    pub keys: u64,
    pub message: String,
}

/// Clears the copies in this process; and those in Redis that are clean, that PostgreSQL holds, and whose kind
/// need not be whole there. A record that only Redis holds stays, and so does everything while PostgreSQL is away or
/// what is in force does not read it: nobody would fetch what was dropped.
///
/// With a `pattern` only copies in Redis whose key it matches are dropped and counted: `*` is any text, `?` one
/// character.
///
/// # Errors
/// When Redis does not answer.
pub async fn clear(sides: &Sides, reads_postgres: bool, pattern: Option<&str>) -> Result<Cleared> {
    let Some(redis) = &sides.redis else {
        return Ok(Cleared { keys: 0, message: "Redis is switched off: there are no copies".into() });
    };
    let near = redis.backend.forget_near().await?;
    let counted = if pattern.is_some() { 0 } else { near };
    let message = |rest: &str| format!("{near} copies in this process are forgotten; {rest}");
    let Some(postgres) = &sides.postgres else {
        let rest = "Redis is the only store, so that everything in it stays";
        return Ok(Cleared { keys: counted, message: message(rest) });
    };
    if !reads_postgres {
        let rest = "what is in Redis stays, because the active strategy does not read PostgreSQL";
        return Ok(Cleared { keys: counted, message: message(rest) });
    }
    let mut dropped = 0;
    for kind in Kind::public().filter(|kind| !kind.whole) {
        match clear_kind(redis, postgres, kind, pattern).await {
            Ok(more) => dropped += more,
            Err(Away(error)) => {
                let rest = format!("what is in Redis stays, because PostgreSQL cannot be asked: {error}");
                return Ok(Cleared { keys: counted + dropped, message: message(&rest) });
            }
        }
    }
    let rest = format!("{dropped} copies in Redis are dropped. API keys and accounts stay there, whole");
    Ok(Cleared { keys: counted + dropped, message: message(&rest) })
}

/// A store that could not be asked.
struct Away(StoreError);

impl From<StoreError> for Away {
    fn from(error: StoreError) -> Self {
        Self(error)
    }
}

async fn clear_kind(
    redis: &Side,
    postgres: &Side,
    kind: &'static Kind,
    pattern: Option<&str>,
) -> Result<u64, Away> {
    let wanted =
        |id: &str| pattern.is_none_or(|pattern| matches(pattern, &format!("{}{id}", kind.redis_prefix)));
    let (mut cursor, mut dropped) = (None::<String>, 0);
    loop {
        let page = redis.backend.scan(kind, cursor.as_deref(), PAGE).await?;
        let records = page.records.into_iter().filter(|record| wanted(&record.key.id));
        let held = records.map(|record| async move {
            let held = postgres.backend.get(&record.key).await?;
            let is_copy = held.is_some_and(|held| held.version >= record.version);
            Ok::<_, StoreError>(is_copy.then(|| (record.key.clone(), record.version)))
        });
        let copies: Vec<Option<(Key, Version)>> =
            stream::iter(held).buffer_unordered(AT_ONCE).try_collect().await?;
        let copies: Vec<_> = copies.into_iter().flatten().collect();
        if !copies.is_empty() {
            dropped += redis.backend.drop_copies(kind, &copies).await?;
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
        tokio::time::sleep(REST).await;
    }
    // Copies of this process may have been read before they were dropped.
    redis.backend.forget_near().await?;
    Ok(dropped)
}

/// Whether the whole text is as the pattern says. Takes no more steps than the product of their lengths.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut seen) = (0, 0);
    // The last star, and how much of the text it stands for.
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == text[seen] => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((place, until)) = star else { return false };
                star = Some((place, until + 1));
                (at, seen) = (place + 1, until + 1);
            }
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_pattern_matches_the_whole_of_a_key() {
        for (pattern, text, expected) in [
            ("session:*", "session:a", true),
            ("*", "", true),
            ("session:?", "session:é", true),
            ("session:?", "session:ab", false),
            ("*:a*b", "session:a-a-b", true),
            ("*:a*b", "session:a-a-bc", false),
            ("session", "session:a", false),
            ("session:a", "session:a", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
