//! A key as an admin sees it: never its hash.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::ApiKey;
use super::content::{Form, form};
use super::lookup::{UNTIL, previous};

/// Its fields in the types they have, and when the keys that it replaced end.
pub fn view(key: &ApiKey) -> Value {
    let fields = &key.record().fields;
    let shown = fields.iter().filter(|(name, _)| form(name) != Some(Form::Secret) && *name != UNTIL);
    let mut view: Map<_, _> = shown.map(|(name, text)| (name.clone(), typed(name, text))).collect();
    view.insert("id".into(), key.id().into());
    let graces = previous(fields, Timestamp::now());
    if !graces.is_empty() {
        let until: Vec<_> = graces.iter().map(|grace| grace.until).collect();
        view.insert(UNTIL.into(), json!(until));
    }
    Value::Object(view)
}

/// A field's text in the type of the field; as it is where it does not fit.
fn typed(name: &str, text: &str) -> Value {
    let parsed = match form(name) {
        Some(Form::Flag) => text.parse::<bool>().ok().map(Value::from),
        Some(Form::Ours) if matches!(text, "true" | "false") => Some((text == "true").into()),
        Some(Form::Count | Form::Within(..)) => text.parse::<u64>().ok().map(Value::from),
        Some(Form::Dollars) => text.parse::<f64>().ok().map(Value::from),
        Some(Form::Texts | Form::Json) => serde_json::from_str(text).ok(),
        Some(Form::Permissions) if text.starts_with('[') => serde_json::from_str(text).ok(),
        _ => None,
    };
    parsed.unwrap_or_else(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Key, Record, kind};

    #[test]
    fn fields_have_their_types_and_hashes_are_not_among_them() {
        let fields = [
            ("apiKey", "HASH"),
            ("previousKeys", r#"[{"hash":"HASH","until":"2999-01-01T00:00:00Z"}]"#),
            ("isActive", "true"),
            ("tokenLimit", "7"),
            ("tags", r#"["a"]"#),
            ("restrictedModels", "broken"),
            ("own", "text"),
        ];
        let fields = fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let key = Key::new(&kind::API_KEY, "k").unwrap();
        let record = Record { key, version: 1, deleted: false, fields, expires_at: None, cached_at: None };
        let view = view(&ApiKey::new(record.into()));
        let expected = json!({
            "id": "k", "isActive": true, "tokenLimit": 7, "tags": ["a"], "restrictedModels": "broken", "own": "text",
            "previousKeysUntil": ["2999-01-01T00:00:00Z"],
        });
        assert_eq!(view, expected);
    }
}
