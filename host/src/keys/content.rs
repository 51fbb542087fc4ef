//! What an admin may set of a key, checked and in the form that the record keeps.

use serde_json::{Map, Value, json};

use super::KeyError;
use super::api_key::time_text;
use super::lookup::{PREVIOUS, UNTIL, listed};
use crate::store::Fields;
use crate::store::takeover::parse_time;

/// How many fields a key may have, and how long the name of one may be, in bytes.
const MAX_FIELDS: usize = 1_000;
const MAX_FIELD_NAME: usize = 128;
/// The longest name of a key, in characters.
const MAX_NAME: usize = 100;

/// The greatest count: the numbers up to it are told apart by every program that reads a key.
const MAX_COUNT: u64 = (1 << 53) - 1;

/// What a field holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    /// The name of the key: not empty.
    Name,
    Flag,
    Count,
    /// A whole number between these two.
    Within(u8, u8),
    Dollars,
    Time,
    /// A list of texts, kept as JSON.
    Texts,
    /// A list of texts, or one of the words of older versions.
    Permissions,
    /// Anything, kept as JSON.
    Json,
    Choice(&'static [&'static str]),
    /// Set by the host alone.
    Ours,
    /// Set by the host alone, and never shown.
    Secret,
}

/// The fields that are known, in the form they have and as a new key has them. Others are kept as they come.
pub(super) const FIELDS: [(&str, Form, &str); 49] = [
    ("id", Form::Ours, ""),
    ("name", Form::Name, ""),
    ("description", Form::Text, ""),
    ("apiKey", Form::Secret, ""),
    ("tokenLimit", Form::Count, "0"),
    ("concurrencyLimit", Form::Count, "0"),
    ("rateLimitWindow", Form::Count, "0"),
    ("rateLimitRequests", Form::Count, "0"),
    ("rateLimitCost", Form::Dollars, "0"),
    ("isActive", Form::Flag, "true"),
    ("claudeAccountId", Form::Text, ""),
    ("claudeConsoleAccountId", Form::Text, ""),
    ("geminiAccountId", Form::Text, ""),
    ("openaiAccountId", Form::Text, ""),
    ("azureOpenaiAccountId", Form::Text, ""),
    ("bedrockAccountId", Form::Text, ""),
    ("droidAccountId", Form::Text, ""),
    ("permissions", Form::Permissions, "all"),
    ("enableModelRestriction", Form::Flag, "false"),
    ("restrictedModels", Form::Texts, "[]"),
    ("enableClientRestriction", Form::Flag, "false"),
    ("allowedClients", Form::Texts, "[]"),
    ("dailyCostLimit", Form::Dollars, "0"),
    ("totalCostLimit", Form::Dollars, "0"),
    ("weeklyOpusCostLimit", Form::Dollars, "0"),
    ("weeklyResetDay", Form::Within(1, 7), "1"),
    ("weeklyResetHour", Form::Within(0, 23), "0"),
    ("serviceRates", Form::Json, "{}"),
    ("tags", Form::Texts, "[]"),
    ("activationDays", Form::Count, "0"),
    ("activationUnit", Form::Choice(&["days", "hours"]), "days"),
    ("expirationMode", Form::Choice(&["fixed", "activation"]), "fixed"),
    ("isActivated", Form::Ours, "true"),
    ("activatedAt", Form::Ours, ""),
    ("createdAt", Form::Ours, ""),
    ("updatedAt", Form::Ours, ""),
    ("lastUsedAt", Form::Ours, ""),
    ("expiresAt", Form::Time, ""),
    ("createdBy", Form::Text, "admin"),
    ("userId", Form::Text, ""),
    ("userUsername", Form::Text, ""),
    ("icon", Form::Text, ""),
    ("isDeleted", Form::Ours, "false"),
    ("deletedAt", Form::Ours, ""),
    ("deletedBy", Form::Ours, ""),
    ("deletedByType", Form::Ours, ""),
    (super::rotation::BEFORE_DELETE, Form::Ours, ""),
    (PREVIOUS, Form::Secret, ""),
    (UNTIL, Form::Ours, ""),
];

/// The form of a field; none for one that is not known.
pub(super) fn form(name: &str) -> Option<Form> {
    FIELDS.iter().find(|(known, ..)| *known == name).map(|(_, form, _)| *form)
}

/// The names of the fields that bind a key to an account or a group.
const BINDINGS: [&str; 2] = ["claudeConsoleAccountId", "claudeAccountId"];
/// From how many letters on a name that differs by one of them is taken for a slip.
const LONG: usize = 8;

/// The known field that an unknown name was meant for: a limit that is misspelt would be none.
fn meant(name: &str) -> Option<&'static str> {
    let letters = |name: &str| name.replace(['_', '-', ' '], "").to_ascii_lowercase();
    let sent = letters(name);
    let is_near = |known: &str| {
        let known = letters(known);
        sent == known || (known.len() >= LONG && strsim::osa_distance(&sent, &known) == 1)
    };
    FIELDS.iter().map(|(known, ..)| *known).find(|known| is_near(known))
}

/// Fields that an admin sets, as JSON.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Content(Map<String, Value>);

impl Content {
    /// The fields that bind the key, and the accounts or groups that they name.
    pub fn bindings(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let bound = |name: &'static str| Some((name, self.0.get(name)?.as_str()?));
        BINDINGS.into_iter().filter_map(bound).filter(|(_, id)| !id.is_empty())
    }

    /// Writes these over what a record has.
    ///
    /// # Errors
    /// `Invalid`, which names the field that cannot be so, or that is not the admin's to set: unless it is sent
    /// as it is.
    pub(super) fn apply(&self, fields: &mut Fields) -> Result<(), KeyError> {
        // What an older version has taken for a field.
        fields.remove(UNTIL);
        for (name, value) in &self.0 {
            let shown: String = name.chars().take(80).collect();
            if name.is_empty() || name.len() > MAX_FIELD_NAME || name.starts_with('_') || name.contains('\0')
            {
                return invalid(format!(
                    "a field's name has 1 to {MAX_FIELD_NAME} bytes, no NUL and no _ at its begin; not so {shown:?}"
                ));
            }
            if form(name).is_none()
                && !fields.contains_key(name)
                && let Some(meant) = meant(name)
            {
                return invalid(format!("{shown:?} is no field of a key; {meant:?} is"));
            }
            let text = match form(name) {
                Some(Form::Ours | Form::Secret) => {
                    self.is_as_it_was(name, fields)?;
                    continue;
                }
                form => canonical(&shown, form.unwrap_or(Form::Json), value)?,
            };
            if text.contains('\0') {
                return invalid(format!("the value of {shown:?} holds a NUL"));
            }
            fields.insert(name.clone(), text);
        }
        if fields.len() > MAX_FIELDS {
            return invalid(format!("a key has at most {MAX_FIELDS} fields"));
        }
        Ok(())
    }

    /// A record may be sent back as it was answered.
    fn is_as_it_was(&self, name: &str, fields: &Fields) -> Result<(), KeyError> {
        let held = fields.get(name).map_or("", String::as_str);
        let sent = self.0.get(name).map(text).unwrap_or_default();
        if name == UNTIL && self.0.get(name).is_some_and(|sent| are_graces(sent, fields)) {
            return Ok(());
        }
        if form(name) == Some(Form::Ours)
            && name != UNTIL
            && (sent == held || (sent == "false" && held.is_empty()))
        {
            return Ok(());
        }
        invalid(format!("{name:?} is not to be set"))
    }
}

/// A value in the form that its field has.
fn canonical(name: &str, form: Form, value: &Value) -> Result<String, KeyError> {
    let wrong = |expected: &str| invalid(format!("{name:?} is {expected}"));
    let sent = text(value);
    let given = sent.trim();
    match form {
        Form::Name if !(1..=MAX_NAME).contains(&given.chars().count()) || !value.is_string() => {
            wrong(&format!("a text of 1 to {MAX_NAME} characters"))
        }
        Form::Text if value.is_object() || value.is_array() => wrong("a text"),
        Form::Flag if !matches!(given, "true" | "false") => wrong("true or false"),
        Form::Count if given.is_empty() => Ok("0".into()),
        Form::Count => match whole(given).filter(|count| *count <= MAX_COUNT) {
            Some(count) => Ok(count.to_string()),
            None => wrong(&format!("a whole number from 0 to {MAX_COUNT}")),
        },
        Form::Within(least, _) if given.is_empty() => Ok(least.to_string()),
        Form::Within(least, most) => {
            match whole(given).filter(|n| (least.into()..=most.into()).contains(n)) {
                Some(number) => Ok(number.to_string()),
                None => wrong(&format!("a whole number from {least} to {most}")),
            }
        }
        Form::Dollars if given.is_empty() => Ok("0".into()),
        Form::Dollars if !is_amount(given) => wrong("a number of US dollars that is not negative"),
        Form::Time if given.is_empty() => Ok(String::new()),
        Form::Time => match parse_time(given) {
            Some(at) => Ok(time_text(at)),
            None => wrong("a time, such as 2026-12-31T23:59:59Z"),
        },
        Form::Texts if value.is_null() => Ok("[]".into()),
        Form::Texts if !are_texts(given) => wrong("a list of texts"),
        Form::Permissions if given.starts_with('[') && !are_texts(given) => wrong("a list of texts"),
        Form::Choice(choices) if !choices.contains(&given) => {
            wrong(&format!("one of {}", choices.join(", ")))
        }
        Form::Name | Form::Flag | Form::Dollars | Form::Choice(_) => Ok(given.to_owned()),
        Form::Text | Form::Texts | Form::Permissions | Form::Json | Form::Ours | Form::Secret => Ok(sent),
    }
}

/// Whether these are ends of graces that the record has, be they over or not.
fn are_graces(sent: &Value, fields: &Fields) -> bool {
    let known: Vec<_> = listed(fields).iter().map(|previous| json!(previous.until)).collect();
    sent.as_array().is_some_and(|sent| sent.iter().all(|until| known.contains(until)))
}

/// A whole number, with or without a point and zeros.
fn whole(text: &str) -> Option<u64> {
    let whole = text.split_once('.').filter(|(_, part)| part.bytes().all(|digit| digit == b'0'));
    whole.map_or(text, |(whole, _)| whole).parse().ok()
}

fn is_amount(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(|amount| amount.is_finite() && amount >= 0.0)
}

fn are_texts(json: &str) -> bool {
    serde_json::from_str::<Vec<String>>(json).is_ok()
}

/// A value as a record keeps it: texts as they are, nothing of null, anything else as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn invalid<T>(why: String) -> Result<T, KeyError> {
    Err(KeyError::Invalid(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(content: Value, fields: &mut Fields) -> Result<(), KeyError> {
        serde_json::from_value::<Content>(content).unwrap().apply(fields)
    }

    #[test]
    fn what_an_admin_sends_becomes_what_a_record_keeps() {
        let mut fields = Fields::new();
        let content = json!({
            "name": " Anna ", "isActive": false, "concurrencyLimit": 5, "dailyCostLimit": 12.5, "tags": ["a", "ä"],
            "tokenLimit": 5_000_000_000_u64, "rateLimitWindow": "60.0", "weeklyResetDay": 7, "weeklyResetHour": "",
            "expiresAt": "2026-12-31", "permissions": "all", "ownField": {"x": [1]}, "ownFlag": true, "icon": null,
        });
        apply(content, &mut fields).unwrap();
        let kept = [
            ("name", "Anna"),
            ("isActive", "false"),
            ("concurrencyLimit", "5"),
            ("dailyCostLimit", "12.5"),
            ("tokenLimit", "5000000000"),
            ("rateLimitWindow", "60"),
            ("weeklyResetDay", "7"),
            ("weeklyResetHour", "0"),
            ("tags", r#"["a","ä"]"#),
            ("expiresAt", "2026-12-31T00:00:00.000Z"),
            ("permissions", "all"),
            ("ownField", r#"{"x":[1]}"#),
            ("ownFlag", "true"),
            ("icon", ""),
        ];
        for (name, value) in kept {
            assert_eq!(fields[name], value, "{name}");
        }
    }

    #[test]
    fn a_misspelt_field_is_refused_unless_the_key_has_it() {
        for (sent, known) in [
            ("daily_cost_limit", "dailyCostLimit"),
            ("dailyCostLimits", "dailyCostLimit"),
            ("dailycostlimit", "dailyCostLimit"),
            ("concurencyLimit", "concurrencyLimit"),
            ("Tags", "tags"),
        ] {
            let mut fields = Fields::new();
            let error = apply(json!({ sent: 1 }), &mut fields).unwrap_err().to_string();
            assert!(error.contains(sent) && error.contains(known), "{error}");
            fields.insert(sent.into(), "1".into());
            assert!(apply(json!({ sent: 2 }), &mut fields).is_ok(), "another program has left {sent}");
        }
        for own in ["tag", "costCentre", "dailyCost", "weeklyCostLimit"] {
            assert!(apply(json!({ own: 1 }), &mut Fields::new()).is_ok(), "{own}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_the_name_of_its_field() {
        for (name, value) in [
            ("name", json!("")),
            ("name", json!("x".repeat(101))),
            ("name", json!(7)),
            ("isActive", json!("maybe")),
            ("concurrencyLimit", json!(-1)),
            ("concurrencyLimit", json!(1.5)),
            ("tokenLimit", json!(9_007_199_254_740_992_u64)),
            ("weeklyResetDay", json!(9)),
            ("weeklyResetDay", json!(0)),
            ("weeklyResetHour", json!(99)),
            ("dailyCostLimit", json!(-0.5)),
            ("dailyCostLimit", json!("NaN")),
            ("expiresAt", json!("soon")),
            ("tags", json!([1])),
            ("tags", json!("a")),
            ("expirationMode", json!("never")),
            ("permissions", json!([1])),
            ("description", json!("a\0b")),
            ("apiKey", json!("cr_mine")),
            ("createdAt", json!("2020-01-01T00:00:00.000Z")),
            ("previousKeys", json!([])),
            ("previousKeysUntil", json!(["2999-01-01T00:00:00Z"])),
            ("previousKeysUntil", json!("")),
            ("_version", json!("1")),
        ] {
            let refused = apply(json!({ name: value }), &mut Fields::new()).unwrap_err();
            assert!(matches!(&refused, KeyError::Invalid(why) if why.contains(name)), "{name}: {refused}");
        }
    }

    #[test]
    fn what_is_not_to_be_set_may_be_sent_as_it_is() {
        let mut fields = Fields::from([("createdAt".into(), "2020-01-01T00:00:00.000Z".into())]);
        let same = json!({ "createdAt": "2020-01-01T00:00:00.000Z", "isDeleted": false, "name": "a" });
        apply(same, &mut fields).unwrap();
        assert_eq!((fields.len(), &*fields["name"]), (2, "a"));
    }
}
