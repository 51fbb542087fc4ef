//! An account as the description of the API has it: from the lists that also show it.

use utoipa::openapi::ObjectBuilder;
use utoipa::openapi::schema::{Schema, SchemaType, Type};

use super::view::{FLAGS, NUMBERS, TEXTS};

/// Names what an admin sees of an account; [`Shape::describe`] says what it is.
#[derive(utoipa::ToSchema)]
#[schema(as = Account)]
pub struct Shape {}

impl Shape {
    pub fn describe() -> Schema {
        let or_null = |of: Type| ObjectBuilder::new().schema_type(SchemaType::Array(vec![of, Type::Null]));
        let plain = |of: Type| ObjectBuilder::new().schema_type(of);
        let mut object = ObjectBuilder::new().description(Some("An account, without its credential"));
        for name in TEXTS {
            object = object.property(name, or_null(Type::String));
        }
        for name in NUMBERS {
            object = object.property(name, or_null(Type::Integer));
        }
        for (name, _) in FLAGS {
            object = object.property(name, plain(Type::Boolean));
        }
        object = object
            .property("id", plain(Type::String))
            .property("dailyQuota", or_null(Type::Number))
            .property("supportedModels", ObjectBuilder::new().schema_type(SchemaType::AnyValue))
            .property("proxy", or_null(Type::Object).description(Some("Without its password")))
            .property("hasApiKey", plain(Type::Boolean))
            .property("sealed", or_null(Type::String).description(Some("How its credential is sealed")))
            .property("version", plain(Type::Integer))
            .property("health", or_null(Type::Object).description(Some("What this node knows")));
        for name in ["id", "name", "isActive", "hasApiKey", "version"] {
            object = object.required(name);
        }
        Schema::Object(object.build())
    }
}
