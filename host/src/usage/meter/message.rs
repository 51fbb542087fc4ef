//! The parts of an answer that say something about usage. Every field may be missing.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use crate::store::usage::MAX_COUNT;
use crate::usage::Tokens;

/// A part of an answer that matters here.
pub(super) enum Part {
    Start(Message),
    Whole(Message),
    /// Cumulative: what it names takes the place of what was said before.
    Delta(Usage),
    /// Bytes of text, of thoughts or of a tool's input.
    Content(u64),
    Stop,
    /// The error's type.
    Error(String),
}

#[derive(Default)]
pub(super) struct Message {
    pub(super) id: Option<String>,
    pub(super) model: Option<String>,
    pub(super) usage: Usage,
}

/// The longest name of a model or id of a message that is taken over, in bytes.
const MAX_TEXT: usize = 128;

impl Part {
    /// None for what says nothing about usage, or is not JSON.
    pub(super) fn parse(data: &[u8]) -> Option<Self> {
        let Typed { kind } = serde_json::from_slice(data).ok()?;
        match &*kind {
            // Most events of a stream.
            "content_block_delta" => {
                let Grown { delta: Content { text, thinking, partial_json } } =
                    serde_json::from_slice(data).ok()?;
                let parts = [text, thinking, partial_json];
                Some(Self::Content(parts.iter().flatten().map(|part| part.len() as u64).sum()))
            }
            "message_start" => {
                let Started { message } = serde_json::from_slice(data).ok()?;
                Some(Self::Start(message.into()))
            }
            "message" => serde_json::from_slice::<Raw>(data).ok().map(|message| Self::Whole(message.into())),
            "message_delta" => {
                let Changed { usage } = serde_json::from_slice(data).ok()?;
                Some(Self::Delta(Usage::read(&usage)))
            }
            "message_stop" => Some(Self::Stop),
            "error" => {
                let Failed { error } = serde_json::from_slice(data).ok()?;
                let kind = error.get("type").and_then(Value::as_str).unwrap_or("error");
                Some(Self::Error(kind.chars().take(MAX_TEXT).collect()))
            }
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Grown<'a> {
    #[serde(borrow)]
    delta: Content<'a>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(default, borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    thinking: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    partial_json: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Started {
    #[serde(default)]
    message: Raw,
}

#[derive(Deserialize)]
struct Changed {
    #[serde(default)]
    usage: Value,
}

#[derive(Deserialize)]
struct Failed {
    #[serde(default)]
    error: Value,
}

/// A message as it comes: values of any type, so that one that is odd spoils no other.
#[derive(Default, Deserialize)]
struct Raw {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    model: Value,
    #[serde(default)]
    usage: Value,
}

impl From<Raw> for Message {
    fn from(raw: Raw) -> Self {
        let text = |value: Value| match value {
            Value::String(text) if is_name(&text) => Some(text),
            _ => None,
        };
        Self { id: text(raw.id), model: text(raw.model), usage: Usage::read(&raw.usage) }
    }
}

/// Whether a text will do as the name of a model: as usage events take it.
pub(in crate::usage) fn is_name(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// The counts of a `usage` object, as far as it has them.
#[derive(Default)]
pub(super) struct Usage {
    input: Option<u64>,
    output: Option<u64>,
    created: Option<u64>,
    created_5m: Option<u64>,
    created_1h: Option<u64>,
    read: Option<u64>,
}

impl Usage {
    fn read(value: &Value) -> Self {
        let of = |object: &Value, name: &str| Some(object.get(name)?.as_u64()?.min(MAX_COUNT));
        let created = value.get("cache_creation").unwrap_or(&Value::Null);
        Self {
            input: of(value, "input_tokens"),
            output: of(value, "output_tokens"),
            created: of(value, "cache_creation_input_tokens"),
            created_5m: of(created, "ephemeral_5m_input_tokens"),
            created_1h: of(created, "ephemeral_1h_input_tokens"),
            read: of(value, "cache_read_input_tokens"),
        }
    }

    pub(super) fn tells_output(&self) -> bool {
        self.output.is_some()
    }

    /// Takes the place of what was said before, where it says anything.
    pub(super) fn over(&self, tokens: &mut Tokens) {
        let set = |held: &mut u64, said: Option<u64>| *held = said.unwrap_or(*held);
        set(&mut tokens.input, self.input);
        set(&mut tokens.output, self.output);
        set(&mut tokens.cache_read, self.read);
        set(&mut tokens.cache_creation_5m, self.created_5m);
        set(&mut tokens.cache_creation_1h, self.created_1h);
        // What was written for a time that is not said was written for five minutes.
        if let Some(created) = self.created {
            let hour = tokens.cache_creation_1h.min(created);
            (tokens.cache_creation_1h, tokens.cache_creation_5m) = (hour, created - hour);
        }
    }
}
