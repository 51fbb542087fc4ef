//! Where everything lies in Redis: Claude Relay Service's keys, and our own under `switchyard:`.

use redis::Value;

use crate::store::kind::API_KEY;
use crate::store::record::UNVERSIONED;
use crate::store::{Fields, Key, Kind, Record, Result, StoreError, Version};

/// Fields of a record's hash that are ours. A record may not have fields of these names.
pub(super) const VERSION: &str = "_version";
pub(super) const EXPIRES: &str = "_expires";
pub(super) const CACHED: &str = "_cached";

/// Marks of the records that the other store does not have yet: a sorted set of `kind/id` by version.
pub(super) const DIRTY: &str = "switchyard:dirty";
/// What the nodes have agreed on: see `control.lua`.
pub(super) const CONTROL: &str = "switchyard:control";
/// Usage events that the other store has not counted yet: a hash from event id to JSON.
pub(super) const OWED: &str = "switchyard:usage:owed";
/// Names of the kinds that this store holds every record of: a set.
pub(super) const COMPLETE: &str = "switchyard:complete";
/// What each node says about itself: a hash from its id.
pub(super) const NODES: &str = "switchyard:nodes";
/// The copy of the admin's choice of a strategy.
pub(super) const CHOICE: &str = "switchyard:choice";

/// Who the data is: a hash of its incarnation, the run in which it was verified, the run that lost nothing.
pub(super) const IDENTITY: &str = "switchyard:identity";
/// The greatest version ever taken: the score of the only member of a sorted set, named in `put.lua`.
pub(super) const HIGH: &str = "switchyard:high";
/// What was last seen of the other store: a hash.
pub(super) const COUNTERPART: &str = "switchyard:counterpart";
/// Who has the right to repair; expires.
pub(super) const REPAIR: &str = "switchyard:repair";
/// There while usage is counted anew, named in `add.lua`; expires.
pub(super) const CLOSED: &str = "switchyard:usage:closed";

/// How often copies of a kind were dropped: a hash from its name to a number.
pub(super) const DROPS: &str = "switchyard:drops";
/// While it is there no usage is counted.
pub(super) const USAGE_CLOSED: &str = "switchyard:usage:closed";

/// There since a database was given back to another program: what is gone was deleted by that.
pub(super) const GIVEN_BACK: &str = "switchyard:given-back";

/// How long a tombstone that both stores have is kept, in milliseconds.
pub(super) const TOMBSTONE_MS: u64 = 24 * 3_600 * 1_000;

pub(super) fn record(key: &Key) -> String {
    format!("{}{}", key.kind.redis_prefix, key.id)
}

pub(super) fn tombstones(kind: &Kind) -> String {
    format!("switchyard:tombstone:{}:", kind.name)
}

pub(super) fn tombstone(key: &Key) -> String {
    format!("{}{}", tombstones(key.kind), key.id)
}

/// The sorted set of a kind's ids.
pub(super) fn ids(kind: &Kind) -> String {
    format!("switchyard:ids:{}", kind.name)
}

pub(super) fn event(id: &str) -> String {
    format!("switchyard:event:{id}")
}

/// What the hashes begin with that led an old Claude Relay Service to a record; nothing for kinds that had none.
pub(super) fn old_index(kind: &Kind) -> &'static str {
    if *kind == API_KEY { "apikey_hash:" } else { "" }
}

/// The record that a Redis key holds, if it can hold one.
pub(super) fn key_of(redis_key: &str) -> Option<Key> {
    Kind::public().find_map(|kind| Key::new(kind, redis_key.strip_prefix(kind.redis_prefix)?).ok())
}

/// The record that a mark names.
pub(super) fn marked(member: &str) -> Option<Key> {
    let (kind, id) = member.split_once('/')?;
    Key::new(Kind::named(kind).ok()?, id).ok()
}

/// Refuses the kinds that have no place here.
pub(super) fn has_place(kind: &Kind) -> Result<()> {
    if kind.redis_prefix.is_empty() {
        return Err(StoreError::Unsupported(format!(
            "records of kind {:?} are not kept in Redis",
            kind.name
        )));
    }
    Ok(())
}

/// Refuses a record with a field that would be taken for one of ours.
pub(super) fn has_own_names(record: &Record) -> Result<()> {
    match [VERSION, EXPIRES, CACHED].iter().find(|name| record.fields.contains_key(**name)) {
        Some(name) => Err(StoreError::Unsupported(format!("a record in Redis cannot have a field {name:?}"))),
        None => Ok(()),
    }
}

/// The record in a hash; none if the hash is empty. Records without our fields are another program's.
pub(super) fn decode(key: &Key, hash: Value) -> Result<Option<Record>> {
    let mut fields = Fields::new();
    match hash {
        Value::Map(pairs) => {
            for (name, value) in pairs {
                fields.insert(text(name)?, text(value)?);
            }
        }
        Value::Array(flat) => {
            let mut flat = flat.into_iter();
            while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
                fields.insert(text(name)?, text(value)?);
            }
        }
        _ => return Err(unexpected("a hash")),
    }
    if fields.is_empty() {
        return Ok(None);
    }
    let mut number = |name| fields.remove(name).and_then(|value| value.parse::<i64>().ok());
    let (version, expires_at, cached_at) = (number(VERSION), number(EXPIRES), number(CACHED));
    let version = version.map_or(UNVERSIONED, |version| version as Version);
    Ok(Some(Record { key: key.clone(), version, deleted: false, fields, expires_at, cached_at }))
}

/// What `read.lua` answers: the record, its tombstone, or neither.
pub(super) fn decode_read(key: &Key, answer: Value, now_ms: i64) -> Result<Option<Record>> {
    let [hash, left, tombstone] = array(answer)?;
    let Some(mut record) = decode(key, hash)? else {
        let Value::BulkString(_) = tombstone else { return Ok(None) };
        let version = text(tombstone)?.parse().map_err(|_| unexpected("a version"))?;
        let (key, fields) = (key.clone(), Fields::new());
        let (expires_at, cached_at) = (None, None);
        return Ok(Some(Record { key, version, deleted: true, fields, expires_at, cached_at }));
    };
    // Another program's record may expire by its key alone. Ours say so themselves.
    if !is_ours(&record) && !record.key.kind.whole {
        record.expires_at = record.expires_at.or(integer(&left).filter(|ms| *ms >= 0).map(|ms| now_ms + ms));
    }
    Ok(Some(record))
}

/// Whether we wrote it: then it says itself when it expires.
pub(super) fn is_ours(record: &Record) -> bool {
    record.version != UNVERSIONED
}

pub(super) fn text(value: Value) -> Result<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_| unexpected("UTF-8")),
        Value::SimpleString(text) => Ok(text),
        _ => Err(unexpected("text")),
    }
}

pub(super) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}

/// The score of the one member in a list, if there is one: a pair within it, or the last of two.
pub(super) fn score(member: Value) -> Option<Version> {
    match list(member).ok()?.pop()? {
        Value::Double(score) => Some(score as Version),
        score @ Value::BulkString(_) => text(score).ok()?.parse::<f64>().ok().map(|score| score as Version),
        pair => score(pair),
    }
}

pub(super) fn list(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(items) | Value::Set(items) => Ok(items),
        _ => Err(unexpected("a list")),
    }
}

pub(super) fn array<const N: usize>(value: Value) -> Result<[Value; N]> {
    list(value)?.try_into().map_err(|_| unexpected("a list of another length"))
}

pub(super) fn unexpected(wanted: &str) -> StoreError {
    StoreError::Other(format!("Redis answered something other than {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::kind;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn key() -> Key {
        Key::new(&kind::SESSION, "a").unwrap()
    }

    #[test]
    fn a_hash_of_another_program_is_version_one_and_keeps_every_field() {
        let hash = Value::Map(vec![(bulk("name"), bulk("n")), (bulk("empty"), bulk(""))]);
        let record = decode(&key(), hash).unwrap().unwrap();
        assert_eq!((record.version, record.fields.len()), (UNVERSIONED, 2));
    }

    #[test]
    fn our_fields_are_not_fields_of_the_record() {
        let hash = [VERSION, "7", EXPIRES, "9", CACHED, "8", "f", "v"].map(bulk).to_vec();
        let record = decode(&key(), Value::Array(hash)).unwrap().unwrap();
        assert_eq!((record.version, record.expires_at, record.cached_at), (7, Some(9), Some(8)));
        assert_eq!(record.fields.into_iter().collect::<Vec<_>>(), [("f".into(), "v".into())]);
    }

    #[test]
    fn an_empty_hash_with_a_tombstone_is_a_tombstone() {
        let answer = |tombstone| Value::Array(vec![Value::Array(vec![]), Value::Int(-1), tombstone]);
        let record = decode_read(&key(), answer(bulk("9007199254740991")), 0).unwrap().unwrap();
        assert!(record.deleted);
        assert_eq!(record.version, 9_007_199_254_740_991);
        assert_eq!(decode_read(&key(), answer(Value::Nil), 0).unwrap(), None);
    }

    #[test]
    fn keys_of_records_are_told_from_all_others() {
        assert_eq!(key_of("apikey:k1").unwrap().to_string(), "api_key/k1");
        for other in ["apikey:hash_map", "apikey:idx:all", "claude_console_account:index", "usage:k1"] {
            assert_eq!(key_of(other), None, "{other}");
        }
    }
}
