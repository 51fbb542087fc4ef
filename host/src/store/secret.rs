//! What nobody outside the host is shown of a record: credentials that another program has left in plain text.
//!
//! They are on their way to be sealed. Until then neither the store API nor a strategy sees them.

use std::borrow::Cow;

use serde_json::Value;

use super::Key;
use super::kind::ACCOUNT;

/// What a credential begins with that is sealed here.
pub const FORM: &str = "sy1.";
/// What stands in place of one in plain text. It is not sealed either, so that nobody can write it back.
const HIDDEN: &str = "(not sealed yet)";
/// Hex digits of the vector that Claude Relay Service begins with.
const VECTOR: usize = 32;

/// Whether this text looks sealed. That it opens is another matter.
pub fn is_sealed(text: &str) -> bool {
    text.starts_with(FORM) || is_relay_service(text)
}

/// Whether this has the shape of what Claude Relay Service seals.
pub fn is_relay_service(text: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts = text.split_once(':');
    parts.is_some_and(|(iv, sealed)| iv.len() == VECTOR && is_hex(iv) && is_hex(sealed))
}

/// A field of a record as it may be shown.
pub fn shown<'a>(key: &Key, name: &str, value: &'a str) -> Cow<'a, str> {
    match name {
        "apiKey" if *key.kind == ACCOUNT && !value.is_empty() && !is_sealed(value) => HIDDEN.into(),
        "proxy" if *key.kind == ACCOUNT => proxy(value),
        _ => value.into(),
    }
}

/// What cannot be read may hold anything.
fn proxy(field: &str) -> Cow<'_, str> {
    if matches!(field.trim(), "" | "null") {
        return field.into();
    }
    let Ok(Value::Object(mut proxy)) = serde_json::from_str(field) else { return HIDDEN.into() };
    match proxy.get("password") {
        None | Some(Value::Null) => return field.into(),
        Some(Value::String(text)) if text.is_empty() || is_sealed(text) => return field.into(),
        Some(_) => proxy.insert("password".into(), HIDDEN.into()),
    };
    Value::Object(proxy).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::kind::SESSION;

    #[test]
    fn nothing_in_plain_text_is_shown_of_an_account() {
        let (account, session) = (Key::new(&ACCOUNT, "a").unwrap(), Key::new(&SESSION, "a").unwrap());
        for (name, plain) in [
            ("apiKey", "canary"),
            ("proxy", r#"{"type":"http","host":"h","port":1,"password":"canary"}"#),
            ("proxy", r#"{"password":["canary"]}"#),
            ("proxy", "http://u:canary@h"),
        ] {
            let seen = shown(&account, name, plain);
            assert!(!seen.contains("canary"), "{seen}");
            assert_eq!(shown(&session, name, plain), plain);
        }
        let theirs = format!("{}:{}", "0f".repeat(16), "1e".repeat(16));
        for (name, sealed) in [
            ("apiKey", "sy1.a.b.c"),
            ("apiKey", &theirs),
            ("apiKey", ""),
            ("proxy", ""),
            ("proxy", "{}"),
            ("proxy", r#"{"host":"h","password":""}"#),
            ("proxy", r#"{"host":"h","password":"sy1.a.b.c"}"#),
            ("name", "canary"),
        ] {
            assert_eq!(shown(&account, name, sealed), sealed);
        }
    }
}
