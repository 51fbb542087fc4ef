//! Answers that are put together from what is there, as the description has them. A test compares them with answers.

#![allow(dead_code, reason = "describes what other modules write")]

use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Schema, Type};
use utoipa::openapi::{ArrayBuilder, Components, ObjectBuilder, Ref, RefOr};

use crate::accounts::Shape as Account;
use crate::http::answer::{Listing, View};
use crate::keys::Shape as Key;
use crate::store::usage::COUNTERS;

/// A page of keys.
#[derive(ToSchema)]
pub(in crate::http) struct KeyPage {
    items: Vec<Key>,
    pagination: Pagination,
}

#[derive(ToSchema)]
struct Pagination {
    limit: u32,
    /// The cursor of the next page, if there is one.
    #[schema(required)]
    next: Option<String>,
}

/// What was deleted for good.
#[derive(ToSchema)]
pub(in crate::http) struct Erased {
    id: String,
}

#[derive(ToSchema)]
pub(in crate::http) struct Deleted {
    deleted: bool,
}

/// One record, or a page of them.
#[derive(ToSchema)]
#[schema(as = RecordOrPage)]
#[serde(untagged)]
pub(in crate::http) enum Found {
    Record(View<'static>),
    Page(Listing<'static>),
}

/// What was counted; [`built`] says what it is, as of the next three.
#[derive(ToSchema)]
pub(in crate::http) struct Counters {}

#[derive(ToSchema)]
pub(in crate::http) struct UsageRow {}

#[derive(ToSchema)]
pub(in crate::http) struct KeyUsage {}

#[derive(ToSchema)]
struct ModelUsage {}

/// What is not described field by field.
#[derive(ToSchema)]
pub(in crate::http) struct Details {}

/// Puts the shapes that come from tables in their places, and names what envelopes hold.
pub(super) fn complete(components: &mut Components) {
    for (name, built) in built() {
        components.schemas.insert(name.into(), built.into());
    }
    for (name, schema) in &mut components.schemas {
        let Some(held) = name.strip_prefix("Enveloped_") else { continue };
        let RefOr::T(Schema::Object(envelope)) = schema else { continue };
        let data = match held.strip_prefix("Vec_") {
            Some(item) => ArrayBuilder::new().items(Ref::from_schema_name(item)).into(),
            None => RefOr::Ref(Ref::from_schema_name(held)),
        };
        envelope.properties.insert("data".into(), data);
    }
}

/// By their names.
fn built() -> Vec<(&'static str, Schema)> {
    let details = ObjectBuilder::new().schema_type(Type::Object).build();
    vec![
        ("ApiKey", Key::describe()),
        ("Account", Account::describe()),
        ("Counters", counters(&[], &[], "What was counted; costs in millionths of a US dollar")),
        ("UsageRow", counters(&["window", "id"], &[], "What was counted in a window, or of one subject")),
        ("KeyUsage", counters(&["key_id", "window"], &[], "What a key has used; zeros when nothing")),
        ("ModelUsage", counters(&["model"], &["priced"], "What was counted of a model")),
        ("Details", Schema::Object(details)),
    ]
}

/// The counters, these texts and these flags.
fn counters(texts: &[&str], flags: &[&str], description: &str) -> Schema {
    let of = |of: Type| ObjectBuilder::new().schema_type(of);
    let mut object = ObjectBuilder::new().description(Some(description));
    for text in texts {
        object = object.property(*text, of(Type::String));
    }
    for flag in flags {
        object = object.property(*flag, of(Type::Boolean)).required(*flag);
    }
    for counter in COUNTERS {
        object = object.property(counter, of(Type::Integer)).required(counter);
    }
    Schema::Object(object.build())
}

#[derive(ToSchema)]
pub(in crate::http) struct UsageRows {
    rows: Vec<UsageRow>,
    /// With an id: whose usage it is.
    subject: Option<String>,
    /// With an id: the sum of the rows.
    total: Option<Counters>,
    /// Without an id: the cursor of the next page, if there is one.
    next: Option<String>,
}

/// What was used altogether, and by model.
#[derive(ToSchema)]
pub(in crate::http) struct UsageSummary {
    total: Counters,
    today: Counters,
    month: Counters,
    models: Vec<ModelUsage>,
    /// Whether all models are in it.
    complete: bool,
    /// What waits to be recorded.
    held: Value,
    prices: crate::usage::price::Status,
}

/// What is in force.
#[derive(ToSchema)]
pub(in crate::http) struct ActiveStrategy {
    name: String,
    digest: String,
    generation: u64,
}

#[derive(ToSchema)]
#[schema(as = Strategies)]
pub(in crate::http) struct StrategyList {
    /// None when the catalogue cannot be reached.
    #[schema(required)]
    strategies: Option<Vec<crate::strategy::Listed>>,
    chosen: crate::strategy::choice::Choice,
    active: ActiveStrategy,
    /// Why what is in force is not what was chosen.
    #[schema(required)]
    cause: Option<String>,
    watcher: Value,
    #[schema(required)]
    error: Option<String>,
}

#[derive(ToSchema)]
pub(in crate::http) struct StrategyEvents {
    events: Vec<crate::strategy::events::Event>,
}

#[derive(ToSchema)]
pub(in crate::http) struct Nodes {
    /// The one that answers.
    node: String,
    clock: Value,
    nodes: Vec<crate::cluster::node::Node>,
}

#[derive(ToSchema)]
pub(in crate::http) struct Ready {
    ready: bool,
    /// It is being stopped.
    ending: bool,
    strategy: String,
    stores: Vec<Details>,
}

#[derive(ToSchema)]
pub(in crate::http) struct Health {
    /// `healthy`, `degraded` or `unhealthy`
    status: String,
    version: String,
    uptime_seconds: u64,
    node: String,
    clock: Value,
    strategy: ActiveStrategy,
    stores: Vec<Details>,
}

/// A model, as clients of Anthropic's shape and of OpenAI's read it.
#[derive(ToSchema)]
pub(in crate::http) struct Model {
    id: String,
    r#type: String,
    display_name: String,
    created_at: String,
    object: String,
    created: i64,
    owned_by: String,
}

#[derive(ToSchema)]
pub(in crate::http) struct Models {
    object: String,
    data: Vec<Model>,
    has_more: bool,
    #[schema(required)]
    first_id: Option<String>,
    #[schema(required)]
    last_id: Option<String>,
}

#[derive(ToSchema)]
pub(in crate::http) struct Me {
    id: String,
    r#type: String,
    display_name: String,
    created_at: String,
}

#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct KeyInfo {
    key_info: KeyInfoOf,
    timestamp: String,
}

#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
struct KeyInfoOf {
    id: String,
    name: String,
    token_limit: u64,
    /// By `total`, `daily` and `monthly`.
    usage: Details,
}

#[derive(ToSchema)]
pub(in crate::http) struct OwnUsage {
    /// By `total`, `daily` and `monthly`.
    usage: Details,
    limits: OwnLimits,
    timestamp: String,
}

#[derive(ToSchema)]
struct OwnLimits {
    tokens: u64,
    requests: u64,
}

#[derive(ToSchema)]
pub(in crate::http) struct TokenCount {
    input_tokens: u64,
}

#[derive(ToSchema)]
pub(in crate::http) struct Hello {
    message: String,
}

#[derive(ToSchema)]
pub(in crate::http) struct Taken {
    success: bool,
}

/// A message of Anthropic's API, with whatever else the upstream sends.
#[derive(ToSchema)]
pub(in crate::http) struct Message {
    id: String,
    r#type: String,
    role: String,
    model: String,
    content: Vec<Details>,
    #[schema(required)]
    stop_reason: Option<String>,
    usage: Details,
}

/// The bytes of a component.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(in crate::http) struct Component(Vec<u8>);
