//! What the demo upstream reads of a request.

use serde::Deserialize;

use super::act::Act;

/// The longest part of what the user said that is repeated.
const REPEATED: usize = 200;

/// A request for a message.
pub(super) struct Asked {
    pub(super) model: String,
    pub(super) stream: bool,
    /// The last thing the user said.
    pub(super) text: String,
    /// About four bytes each.
    pub(super) tokens: u64,
    /// Whether it marks what is to be cached, and whether for an hour.
    pub(super) caches: (bool, bool),
}

#[derive(Deserialize)]
struct Body {
    model: String,
    #[serde(default)]
    stream: bool,
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Content,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Blocks(Vec<Block>),
}

#[derive(Deserialize)]
struct Block {
    text: Option<String>,
}

impl Asked {
    /// None when this is no request for a message.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let Body { model, stream, messages } = serde_json::from_slice(body).ok()?;
        let last = messages.into_iter().rev().find(|message| message.role == "user");
        let text = match last.map(|message| message.content) {
            None => String::new(),
            Some(Content::Text(text)) => text,
            Some(Content::Blocks(blocks)) => {
                blocks.into_iter().rev().find_map(|block| block.text).unwrap_or_default()
            }
        };
        let has = |word: &[u8]| body.windows(word.len()).any(|window| window == word);
        let caches = has(b"\"cache_control\"");
        Some(Self {
            model,
            stream,
            text,
            tokens: (body.len() as u64 / 4).max(1),
            caches: (caches, caches && has(b"\"1h\"")),
        })
    }

    /// What the user wants it to do, as in `[demo:cut]`.
    pub(super) fn act(&self) -> Option<Act> {
        let (_, rest) = self.text.rsplit_once("[demo:")?;
        Act::parse(rest.split_once(']')?.0)
    }

    /// The beginning of what the user said, in one line.
    pub(super) fn repeated(&self) -> String {
        let line = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        line.chars().take(REPEATED).collect()
    }
}
