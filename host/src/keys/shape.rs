//! A key as the description of the API has it: from the table that also reads and shows it.

use utoipa::openapi::schema::{Schema, Type};
use utoipa::openapi::{ArrayBuilder, ObjectBuilder};

use super::content::{FIELDS, Form};

/// Names what [`super::view()`] answers; [`Shape::describe`] says what it is.
#[derive(utoipa::ToSchema)]
#[schema(as = ApiKey)]
pub struct Shape {}

impl Shape {
    pub fn describe() -> Schema {
        let about = "An API key. Other fields that were set are there as well; a field in which another program has \
                     left what does not fit is text";
        let mut object = ObjectBuilder::new().description(Some(about));
        for (name, form, _) in FIELDS.iter().filter(|(_, form, _)| *form != Form::Secret) {
            object = object.property(*name, of(name, *form));
        }
        let issued = text().description(Some("The key itself: only in the answer that issues it"));
        let object = object.property("apiKey", issued);
        let object = object.property("previousKeysUntil", ArrayBuilder::new().items(text()));
        Schema::Object(object.required("id").build())
    }
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn of(name: &str, form: Form) -> Schema {
    let plain = |of: Type| Schema::Object(ObjectBuilder::new().schema_type(of).build());
    match form {
        Form::Flag => plain(Type::Boolean),
        Form::Ours if name.starts_with("is") => plain(Type::Boolean),
        Form::Count | Form::Within(..) => plain(Type::Integer),
        Form::Dollars => plain(Type::Number),
        Form::Texts => Schema::Array(ArrayBuilder::new().items(text()).build()),
        Form::Choice(words) => Schema::Object(text().enum_values(Some(words.iter().copied())).build()),
        // A list, or a word of older versions; anything.
        Form::Permissions | Form::Json => anything(),
        Form::Text | Form::Name | Form::Time | Form::Ours | Form::Secret => plain(Type::String),
    }
}

fn anything() -> Schema {
    let of = utoipa::openapi::schema::SchemaType::AnyValue;
    Schema::Object(ObjectBuilder::new().schema_type(of).build())
}
