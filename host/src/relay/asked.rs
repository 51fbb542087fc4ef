//! What the relay reads of a body. It goes upstream byte for byte, whatever else it holds.

use std::fmt;
use std::ops::Range;

use hyper::header::HeaderMap;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::refusal::Refusal;

/// The longest name of a model, in bytes.
const MAX_MODEL: usize = 256;
/// The longest id of a session, in bytes.
const MAX_SESSION: usize = 256;
/// What Claude Code names its session in.
const SESSION: &str = "x-claude-code-session-id";

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) model: String,
    /// Where the model's name stands in the body, with its quotes.
    pub(super) model_at: Range<usize>,
    pub(super) stream: bool,
    pub(super) max_tokens: u64,
    /// The conversation that it belongs to, as Claude Code names it.
    pub(super) session: Option<String>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    model: &'a RawValue,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    max_tokens: Option<Count>,
    #[serde(default)]
    metadata: Option<Metadata>,
    /// Present, and an array.
    #[serde(rename = "messages")]
    _messages: Array,
}

/// What only the upstream has to understand.
#[derive(Deserialize)]
#[serde(untagged)]
enum Count {
    Whole(u64),
    Other(IgnoredAny),
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    user_id: Option<User>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum User {
    Text(String),
    Other(IgnoredAny),
}

/// An array of anything.
struct Array;

impl<'de> Deserialize<'de> for Array {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Array;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Array, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Array)
            }
        }
        deserializer.deserialize_seq(Any)
    }
}

impl Asked {
    /// # Errors
    /// Says what is missing or wrong, and never what was found: it may be a secret.
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Refusal> {
        // A derived reader would also take an array, as the list of its fields.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(Refusal::bad("invalid_body", "The body is not a JSON object."));
        }
        let read: Body<'_> = serde_json::from_slice(body).map_err(|error| wrong(&error))?;
        let model: String = serde_json::from_str(read.model.get()).unwrap_or_default();
        if model.is_empty() || model.len() > MAX_MODEL {
            let message = format!("Missing or invalid field: model (1 to {MAX_MODEL} bytes).");
            return Err(Refusal::bad("invalid_body", message));
        }
        // It is a part of the body.
        let start = (read.model.get().as_ptr() as usize).saturating_sub(body.as_ptr() as usize);
        let model_at = start..start + read.model.get().len();
        let user = read.metadata.and_then(|metadata| metadata.user_id).and_then(|user| match user {
            User::Text(text) => session_of(&text),
            User::Other(_) => None,
        });
        let named = headers.get(SESSION).and_then(|session| session.to_str().ok()).map(str::to_owned);
        let fits = |session: &String| (1..=MAX_SESSION).contains(&session.len());
        Ok(Self {
            model,
            model_at,
            stream: read.stream.unwrap_or(false),
            max_tokens: match read.max_tokens {
                Some(Count::Whole(count)) => count,
                _ => 0,
            },
            session: named.or(user).filter(fits),
        })
    }
}

/// What is wrong with a body.
fn wrong(error: &serde_json::Error) -> Refusal {
    let text = error.to_string();
    // Names of fields that are known here, and types; nothing of what was sent.
    let message = if text.contains("missing field `messages`") || text.contains("expected an array") {
        "Missing or invalid field: messages (must be an array).".to_owned()
    } else if let Some((_, field)) = text.split_once("duplicate field `") {
        let field = field.split('`').next().unwrap_or_default();
        format!("The body has the field {field} twice; send it once.")
    } else if text.contains("struct Metadata") {
        "Invalid field: metadata (must be an object).".to_owned()
    } else if text.contains("expected a boolean") {
        "Invalid field: stream (must be true or false).".to_owned()
    } else if text.contains("`model`") {
        "Missing or invalid field: model (must be text).".to_owned()
    } else if error.is_data() {
        // What does not fit is quoted before what was expected.
        let expected = text.rsplit_once(", expected ").map_or("something else", |(_, expected)| expected);
        format!("A field of the body has the wrong type: expected {expected}.")
    } else {
        format!("The body is not JSON: {text}.")
    };
    Refusal::bad("invalid_body", message).with("detail", "see https://docs.claude.com/en/api/messages")
}

/// The session within `metadata.user_id`: the end of `user_…_account_…_session_…`, or a field of a JSON text.
fn session_of(user: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Parts {
        session_id: Option<String>,
    }
    if user.starts_with('{') {
        return serde_json::from_str::<Parts>(user).ok()?.session_id;
    }
    user.rsplit_once("_session_").map(|(_, session)| session.to_owned())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn read(body: &str) -> Result<Asked, String> {
        Asked::read(&HeaderMap::new(), body.as_bytes()).map_err(|refusal| refusal.message)
    }

    #[test]
    fn a_body_is_read_as_far_as_the_relay_needs_it() {
        let body = r#"{"model":"claude-x","max_tokens":9,"unknown":{"a":[1]},"stream":true,
            "metadata":{"user_id":"user_1_account_2_session_abc"},"messages":[{"role":"system"}]}"#;
        let expected = ("claude-x", true, 9, Some("abc"));
        let asked = read(body).unwrap();
        let seen = (asked.model.as_str(), asked.stream, asked.max_tokens, asked.session.as_deref());
        assert_eq!(seen, expected);
        assert_eq!(&body[asked.model_at], "\"claude-x\"");
        let bare = read(r#"{"messages":[],"model":"m\u0041","max_tokens":1.5,"stream":null}"#).unwrap();
        assert_eq!((bare.model.as_str(), bare.stream, bare.max_tokens, bare.session), ("mA", false, 0, None));
    }

    #[test]
    fn a_session_is_found_in_either_form_and_the_header_comes_first() {
        let json = r#"{"model":"m","messages":[],"metadata":{"user_id":"{\"session_id\":\"s-1\"}"}}"#;
        assert_eq!(read(json).unwrap().session.as_deref(), Some("s-1"));
        let headers = HeaderMap::from_iter([(
            hyper::header::HeaderName::from_static(SESSION),
            HeaderValue::from_static("s-2"),
        )]);
        assert_eq!(Asked::read(&headers, json.as_bytes()).unwrap().session.as_deref(), Some("s-2"));
        let other = r#"{"model":"m","messages":[],"metadata":{"user_id":17}}"#;
        assert_eq!(read(other).unwrap().session, None);
    }

    #[test]
    fn what_is_wrong_is_said_without_what_was_found() {
        for (body, says) in [
            (r#"{"model":"m"}"#, "messages"),
            (r#"{"model":"m","messages":"sk-secret"}"#, "messages"),
            (r#"{"model":"m","messages":{"a":1}}"#, "messages"),
            (r#"{"messages":[]}"#, "model"),
            (r#"{"model":"","messages":[]}"#, "model"),
            (r#"{"model":17,"messages":[]}"#, "model"),
            (r#"{"model":"m","messages":[],"stream":"sk-secret"}"#, "stream (must be true or false)"),
            (r#"{"model":"m","model":"n","messages":[]}"#, "has the field model twice"),
            (r#"{"model":"m","messages":[],"messages":[]}"#, "has the field messages twice"),
            (r#"{"model":"m","messages":[],"metadata":"sk-secret"}"#, "metadata (must be an object)"),
            (r#"{"model":"m","messages":[]"#, "not JSON"),
            ("sk-secret", "not a JSON object"),
            ("[]", "not a JSON object"),
            ("", "not a JSON object"),
        ] {
            let refusal = read(body).unwrap_err();
            assert!(refusal.contains(says) && !refusal.contains("sk-secret"), "{body}: {refusal}");
        }
    }
}
