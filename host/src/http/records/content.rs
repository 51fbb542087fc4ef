//! What a record is to hold.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::http::error::{Problem, Result};
use crate::store::Fields;
use crate::store::clock::now_ms;
use crate::strategy::records::Change;

/// How many fields a record may have.
const MAX_FIELDS: usize = 1_000;
/// The longest name of a field, in bytes.
const MAX_FIELD_NAME: usize = 128;
/// The longest life of a record that expires: ten years, in seconds.
const MAX_TTL: u32 = 315_360_000;

/// The body of a PUT.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Content {
    fields: Sent,
    ttl_seconds: Option<u32>,
}

impl Content {
    /// # Errors
    /// Names the field that no record can have.
    pub(super) fn change(self) -> Result<Change> {
        let fields = check(self.fields)?;
        let expires_at = self.ttl_seconds.map(expiry).transpose()?;
        Ok(Change { fields, deleted: false, expires_at })
    }
}

/// Fields as they were sent: a map would hide a name that is there twice.
struct Sent(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Sent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Pairs)
    }
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Sent;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object whose values are strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sent, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Sent(pairs))
    }
}

fn check(Sent(sent): Sent) -> Result<Fields> {
    if sent.len() > MAX_FIELDS {
        let detail = format!("a record has at most {MAX_FIELDS} fields; this one has {}", sent.len());
        return Err(Problem::bad("too-many-fields", detail));
    }
    let invalid = |detail: String| Err(Problem::bad("invalid-field", detail));
    let mut fields = Fields::new();
    for (name, value) in sent {
        let shown: String = name.chars().take(80).collect();
        if name.is_empty() || name.len() > MAX_FIELD_NAME {
            return invalid(format!("a field's name has 1 to {MAX_FIELD_NAME} bytes; not so {shown:?}"));
        }
        if name.starts_with('_') || name.contains('\0') {
            return invalid(format!(
                "a field's name holds no NUL and does not begin with _; not so {shown:?}"
            ));
        }
        if value.contains('\0') {
            return invalid(format!("the value of {shown:?} holds a NUL"));
        }
        if fields.insert(name, value).is_some() {
            return invalid(format!("the field {shown:?} is there more than once"));
        }
    }
    Ok(fields)
}

fn expiry(seconds: u32) -> Result<i64> {
    if !(1..=MAX_TTL).contains(&seconds) {
        return Err(Problem::bad("invalid-ttl", format!("ttl_seconds is 1 to {MAX_TTL}")));
    }
    Ok(now_ms() + i64::from(seconds) * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(pairs: &[(&str, &str)]) -> Sent {
        Sent(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn refused(name: &str, value: &str) -> bool {
        check(sent(&[(name, value)])).is_err()
    }

    #[test]
    fn fields_are_checked() {
        assert!(!refused("a", "") && !refused("schlüssel", "ü") && !refused(&"x".repeat(128), "x"));
        assert!(refused("", "x") && refused("_v", "x") && refused("a\0", "x") && refused("a", "\0"));
        assert!(refused(&"x".repeat(129), "x"));
        let many = (0..=MAX_FIELDS).map(|n| (n.to_string(), String::new())).collect();
        assert_eq!(check(Sent(many)).unwrap_err().code, "too-many-fields");
    }

    #[test]
    fn a_name_is_there_once() {
        let Err(problem) = check(sent(&[("a", "1"), ("b", "1"), ("a", "1")])) else { panic!("accepted") };
        assert_eq!(problem.code, "invalid-field");
        assert!(format!("{problem:?}").contains("\\\"a\\\""), "{problem:?}");
    }

    #[test]
    fn a_life_has_bounds() {
        assert!(expiry(0).is_err() && expiry(MAX_TTL + 1).is_err());
        assert!(expiry(1).is_ok() && expiry(MAX_TTL).is_ok());
    }
}
