//! The records that the load is about, and where both stores keep them.

use crate::history::KeyIndex;

/// How many records there are.
pub const KEYS: KeyIndex = 200;
/// How many of them take a good part of the load.
pub const HOT: KeyIndex = 10;
/// How many API keys have usage: the first ones.
pub const SUBJECTS: KeyIndex = 20;

/// Name, prefix of its keys in Redis.
pub const KINDS: [(&str, &str); 3] =
    [("api_key", "apikey:"), ("account", "claude_console_account:"), ("session", "session:")];

/// Kinds take turns, so that each has its part of the hot ones.
fn kind(key: KeyIndex) -> (&'static str, &'static str) {
    match key % 5 {
        0 | 1 => KINDS[0],
        2 | 3 => KINDS[2],
        _ => KINDS[1],
    }
}

pub fn id(key: KeyIndex) -> String {
    format!("t{key}")
}

/// The key of an id, if it is one of ours.
pub fn of_id(id: &str) -> Option<KeyIndex> {
    id.strip_prefix('t')?.parse().ok().filter(|key| *key < KEYS)
}

/// `kind/id`, as a mark names it.
pub fn name(key: KeyIndex) -> String {
    format!("{}/{}", kind(key).0, id(key))
}

/// The key that a mark names.
pub fn of_name(name: &str) -> Option<KeyIndex> {
    let key = of_id(name.split_once('/')?.1)?;
    (self::name(key) == name).then_some(key)
}

pub fn redis_key(key: KeyIndex) -> String {
    format!("{}{}", kind(key).1, id(key))
}

pub fn redis_tombstone(key: KeyIndex) -> String {
    format!("switchyard:tombstone:{}:{}", kind(key).0, id(key))
}

/// The value in the index of API keys.
pub fn hash(key: KeyIndex) -> String {
    format!("hash-of-{key}")
}

pub fn has_index(key: KeyIndex) -> bool {
    kind(key).0 == "api_key"
}

/// The n-th of those that have usage.
pub fn subject(n: usize) -> KeyIndex {
    n as KeyIndex % SUBJECTS
}

/// The id of an event.
pub fn event(number: u64) -> String {
    format!("e{number}")
}

pub fn of_event(id: &str) -> Option<u64> {
    id.strip_prefix('e')?.parse().ok()
}

/// What an event counts, so that a lost one and a doubled one do not make up for each other.
pub fn tokens(event: u64) -> u64 {
    1 + event % 97
}
