//! Whose usage is counted, and how that stands in the id of a `usage` record.

use std::borrow::Cow;
use std::fmt::{Display, Formatter};

use super::Window;
use crate::store::record::MAX_ID;

/// Whose usage a window counts. In an id: `KEY`, `account:ID`, `model:NAME` or `KEY:model:NAME`; in a name of a model
/// each byte other than `A-Z a-z 0-9 . _ @ + = -` is `~` and two hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    Key(String),
    Account(String),
    /// By the name that [`model_name`] gives.
    Model(String),
    /// A key and a model.
    KeyModel(String, String),
}

/// The most bytes that a window has in an id, with the colon before it.
const LONGEST_WINDOW: usize = ":hourly:2000-01-01T00".len();
/// The most bytes that the name of a model has in an id.
const LONGEST_MODEL: usize = 100;

impl Subject {
    /// Whether ids of all its windows are ids. A key's usage is counted in any case.
    pub(super) fn fits(&self) -> bool {
        matches!(self, Self::Key(_)) || self.to_string().len() + LONGEST_WINDOW <= MAX_ID
    }

    /// Reads what [`Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<_> = text.split(':').collect();
        let given = |part: &str| (!part.is_empty()).then(|| part.to_owned());
        match parts[..] {
            [key] => given(key).map(Self::Key),
            ["account", id] => given(id).map(Self::Account),
            ["model", name] => decode(name).map(Self::Model),
            [key, "model", name] => Some(Self::KeyModel(given(key)?, decode(name)?)),
            _ => None,
        }
    }

    /// The id of the `usage` record of a window.
    pub fn id(&self, window: &Window) -> String {
        format!("{self}:{window}")
    }

    /// The subject and the window of a `usage` record.
    pub fn of_id(id: &str) -> Option<(Self, Window)> {
        let (rest, last) = id.rsplit_once(':')?;
        if last == "total" {
            return Some((Self::parse(rest)?, Window::Total));
        }
        let (subject, _) = rest.rsplit_once(':')?;
        let window = Window::parse(id.get(subject.len() + 1..)?)?;
        Some((Self::parse(subject)?, window))
    }
}

impl Display for Subject {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(id) => f.write_str(id),
            Self::Account(id) => write!(f, "account:{id}"),
            Self::Model(name) => write!(f, "model:{}", encode(name)),
            Self::KeyModel(key, name) => write!(f, "{key}:model:{}", encode(name)),
        }
    }
}

/// The name under which a model is counted, as Claude Relay Service has it: without a region, the provider's name and
/// a version such as `-v1:0`. One that is too long for an id is cut, and told apart by a checksum.
pub fn model_name(model: &str) -> String {
    let mut name = Cow::Borrowed(model);
    if model.contains(".anthropic.") || model.contains(".claude") {
        let region = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let rest = model.split_once('.').filter(|(first, _)| !first.is_empty() && first.chars().all(region));
        name = Cow::Owned(rest.map_or(model, |(_, rest)| rest).replacen("anthropic.", "", 1));
    } else if let Some(latest) = model.strip_suffix(":latest") {
        name = Cow::Borrowed(latest);
    }
    let name = without_version(&name);
    if encode(name).len() <= LONGEST_MODEL {
        return name.to_owned();
    }
    let plain = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(60).collect::<String>();
    format!("{plain}-{:08x}", crc32fast::hash(name.as_bytes()))
}

/// Whether a model is one of Claude's, as Claude Relay Service tells: the limit of a week is for those alone.
pub fn is_claude(model: &str) -> bool {
    let model = model.to_ascii_lowercase();
    ["claude-", "opus", "sonnet", "haiku"].iter().any(|name| model.contains(name))
}

/// Without `-v` NUMBER `:` NUMBER at the end.
fn without_version(name: &str) -> &str {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let version = name.rsplit_once("-v").and_then(|(rest, version)| Some((rest, version.split_once(':')?)));
    version.filter(|(_, (major, minor))| digits(major) && digits(minor)).map_or(name, |(rest, _)| rest)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._@+=-".contains(&byte)
}

/// The name of a model as it stands in an id.
pub fn encode(name: &str) -> Cow<'_, str> {
    if name.bytes().all(is_plain) {
        return name.into();
    }
    let letters = name.bytes().map(|byte| match is_plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("~{byte:02X}"),
    });
    letters.collect::<String>().into()
}

/// Reads what [`encode`] writes; none for anything else.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'~' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().filter(|name| !name.is_empty() && encode(name) == text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn models_are_counted_as_claude_relay_service_counts_them() {
        for (model, name) in [
            ("claude-opus-4-5-20251101", "claude-opus-4-5-20251101"),
            ("us.anthropic.claude-sonnet-4-20250514-v1:0", "claude-sonnet-4-20250514"),
            ("anthropic.claude-3-haiku-20240307-v1:0", "claude-3-haiku-20240307"),
            ("llama3:latest", "llama3"),
            ("model-v2:1", "model"),
            ("a:b", "a:b"),
        ] {
            assert_eq!(model_name(model), name, "{model}");
        }
        let (long, other) = (model_name(&"x".repeat(120)), model_name(&"x".repeat(121)));
        assert!(long != other && long.len() < LONGEST_MODEL, "{long} {other}");
        assert_eq!(model_name(&long), long);
    }

    proptest! {
        #[test]
        fn an_id_reads_back_as_what_it_was_written_for(
            key in "[A-Za-z0-9._~@+=-]{1,20}", model in "\\PC{1,128}", which in 0_usize..4, at in 0_usize..5,
        ) {
            let model = model_name(&model);
            prop_assume!(!model.is_empty());
            let subject = match which {
                0 => Subject::Key(key),
                1 => Subject::Account(key),
                2 => Subject::Model(model),
                _ => Subject::KeyModel(key, model),
            };
            let window = [
                "total", "monthly:2026-01", "weekly:2026-W53", "daily:2026-01-31", "hourly:2026-01-31T23",
            ][at];
            let id = subject.id(&Window::parse(window).unwrap());
            prop_assert!(subject.fits() && crate::store::Key::new(&crate::store::kind::USAGE, &id).is_ok());
            prop_assert_eq!(Subject::of_id(&id), Some((subject, Window::parse(window).unwrap())));
        }
    }
}
