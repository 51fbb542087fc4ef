//! The description of this API (OpenAPI 3.1), made from the handlers, and a page to read it that needs no network.

pub(super) mod shapes;

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Response};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::Type;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, ObjectBuilder, RefOr, Required, Response as Described, SecurityRequirement,
};
use utoipa::{Modify, OpenApi, ToSchema};

use super::{
    accounts, admin_usage, background, conflicts, database, keys, nodes, operations, records, relay, routes,
    strategies, usage,
};

#[derive(OpenApi)]
#[openapi(
    info(title = "Switchyard", description = ABOUT),
    modifiers(&Common),
    components(schemas(ProblemBody, RefusalBody)),
    paths(
        strategies::list,
        strategies::get,
        strategies::upload::upload,
        strategies::activate,
        strategies::rollback,
        strategies::delete,
        strategies::events,
        nodes::list,
        database::switch,
        database::unpin,
        database::reports::status,
        database::reports::health,
        database::reports::metrics,
        conflicts::list,
        keys::list,
        keys::create,
        keys::get,
        keys::update,
        keys::delete,
        keys::regenerate,
        keys::disable,
        keys::enable,
        keys::restore,
        background::sync,
        background::check,
        background::repair,
        background::list,
        background::get,
        background::cancel,
        background::events,
        database::upkeep::clear_cache,
        database::upkeep::reconnect,
        accounts::list,
        accounts::create,
        accounts::get,
        accounts::update,
        accounts::delete,
        accounts::reset_status,
        accounts::rewrap,
        accounts::groups,
        accounts::create_group,
        accounts::group,
        accounts::update_group,
        accounts::delete_group,
        records::get,
        records::put,
        records::delete,
        records::find_or_scan,
        admin_usage::list,
        admin_usage::summary,
        admin_usage::prices,
        usage::add,
        usage::get,
        relay::messages,
        relay::count_tokens,
        relay::models,
        relay::model,
        relay::me,
        relay::key_info,
        relay::usage,
        relay::hello,
        relay::event_logging,
        operations::welcome,
        operations::live,
        operations::ready,
        operations::health,
        operations::metrics,
        self::document,
        self::page,
    )
)]
struct Description;

/// An error answer: problem details, as RFC 9457 has them.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what `Problem::answer` writes")]
struct ProblemBody {
    r#type: String,
    title: String,
    status: u16,
    /// Stable between releases.
    code: String,
    /// For people.
    detail: String,
    request_id: String,
}

/// An error answer to a Claude client, with what Claude Relay Service's clients look for beside it.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what `Refusal::body` writes")]
struct RefusalBody {
    /// `error`
    r#type: String,
    error: RefusalError,
    request_id: String,
    message: String,
    /// Stable between releases.
    code: String,
}

/// Anthropic's part of it.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what `Refusal::body` writes")]
struct RefusalError {
    r#type: String,
    message: String,
    /// With 402 only, where Claude Relay Service has it.
    code: Option<String>,
}

/// What Claude clients ask without a key.
const OPEN: [&str; 2] = ["/api/hello", "/api/event_logging/batch"];

/// What is the same for many paths, said once.
const ABOUT: &str = "A relay for Claude clients whose storage policy is a WebAssembly component.\n\n\
    Every path of the relay (`/v1/…`, `/api/hello`, `/api/event_logging/batch`) is there under `/api` and `/claude` as \
    well, so that ANTHROPIC_BASE_URL may be `https://host`, `https://host/api` or `https://host/claude`; \
    `/api/claude/v1/messages` is `/v1/messages`, and `/health`, `/api/health` and `/claude/health` are `/healthz`. \
    A client's key goes into one of `x-api-key`, `Authorization: Bearer`, `x-goog-api-key` and `api-key`. \
    `anthropic-version`, `anthropic-beta` and `x-stainless-*` go to the upstream as they come. Every answer has a \
    `request-id`; answers of the relay have `x-request-id` too, where `request-id` may be the upstream's. A refusal has \
    `retry-after` where waiting helps, and `x-should-retry` where the client is told whether to repeat. Whatever is read \
    with GET can be asked for with HEAD.";

/// Where a client's key may be, by the names of the schemes.
const CLIENT: [&str; 4] = ["client", "client-bearer", "client-google", "client-azure"];

/// What all have in common: who may ask, and what an error is.
struct Common;

impl Modify for Common {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let components = api.components.get_or_insert_default();
        shapes::complete(components);
        name_schemes(components);
        for (path, item) in &mut api.paths.paths {
            let relayed = routes::is_relayed(path);
            let schemes: &[&str] = match path.as_str() {
                open if routes::OPEN.contains(&open) || OPEN.contains(&open) => &[],
                asked if routes::RELAY.contains(&asked) => &CLIENT,
                _ => &["admin"],
            };
            let one = |scheme: &&str| SecurityRequirement::new::<_, [&str; 0], _>(*scheme, []);
            let security: Vec<_> = schemes.iter().map(one).collect();
            for (method, operation) in operations(item) {
                operation.operation_id = Some(name(method, path));
                operation.security = (!security.is_empty()).then(|| security.clone());
                operation.responses.responses.insert("default".into(), RefOr::T(failure(relayed)));
                if path.starts_with("/v1/messages") {
                    operation
                        .parameters
                        .get_or_insert_default()
                        .extend(UPWARD.map(|header| RefOr::T(to_upstream(header))));
                }
                for (status, answer) in &mut operation.responses.responses {
                    if let RefOr::T(answer) = answer {
                        signed(answer, relayed, status == "default");
                    }
                }
            }
        }
    }
}

/// How to say who asks.
fn name_schemes(components: &mut Components) {
    let bearer = |whose: &str| {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(whose));
        SecurityScheme::Http(bearer.build())
    };
    components.add_security_scheme("admin", bearer("The admin token"));
    components.add_security_scheme(CLIENT[1], bearer("A client's key"));
    for (name, header) in [(CLIENT[0], "x-api-key"), (CLIENT[2], "x-goog-api-key"), (CLIENT[3], "api-key")] {
        let key = ApiKey::Header(ApiKeyValue::with_description(header, "A client's key"));
        components.add_security_scheme(name, SecurityScheme::ApiKey(key));
    }
}

/// What a client of Anthropic's API sends beside its key.
const UPWARD: [(&str, &str); 2] = [
    ("anthropic-version", "The version of the API; goes to the upstream as it is"),
    ("anthropic-beta", "Features to be switched on; goes to the upstream as it is"),
];

fn to_upstream((name, why): (&str, &str)) -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String);
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Header).schema(Some(text));
    parameter.required(Required::False).description(Some(why)).build()
}

/// Adds the headers that every answer has.
fn signed(answer: &mut Described, relayed: bool, is_failure: bool) {
    let mut add = |name: &str, why: &str, of: Type| {
        let schema = ObjectBuilder::new().schema_type(of);
        let header = HeaderBuilder::new().schema(Some(schema)).description(Some(why)).build();
        answer.headers.insert(name.into(), header.into());
    };
    add("request-id", "The request, in the log and in errors", Type::String);
    if relayed {
        add("x-request-id", "The request as this relay names it", Type::String);
    }
    if is_failure {
        add("retry-after", "Where waiting helps: for how many seconds", Type::Integer);
    }
    if is_failure && relayed {
        add("x-should-retry", "Where it is known: whether to repeat, true or false", Type::String);
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let methods = [
        ("get", &mut item.get),
        ("head", &mut item.head),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("delete", &mut item.delete),
        ("patch", &mut item.patch),
    ];
    methods.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// A name that no other operation has.
fn name(method: &str, path: &str) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    std::iter::once(method).chain(words).collect::<Vec<_>>().join("_")
}

fn failure(relayed: bool) -> Described {
    let (name, kind) = match relayed {
        true => ("RefusalBody", "application/json"),
        false => ("ProblemBody", "application/problem+json"),
    };
    let problem = utoipa::openapi::Ref::from_schema_name(name);
    let content = ContentBuilder::new().schema(Some(problem)).build();
    let mut described = Described::new("An error, with a stable code and a sentence that says what to do");
    described.content.insert(kind.into(), RefOr::T(content));
    described
}

static DOCUMENT: LazyLock<Bytes> =
    LazyLock::new(|| Description::openapi().to_pretty_json().unwrap_or_default().into());

/// This description.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "Health",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value)),
)]
pub(super) async fn document() -> Response {
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")], DOCUMENT.clone()).into_response()
}

/// This description as a page, to read and to try.
#[utoipa::path(
    get,
    path = "/docs",
    tag = "Health",
    responses((status = 200, description = "HTML", body = String, content_type = "text/html")),
)]
pub(super) async fn page() -> Response {
    // Nothing from anywhere else, and nothing that was put into the page later.
    let policy = "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'sha256-JeqqbW5Ton3qVmfFeQnYcnRAxbx2IuAiMuTR2u4KnYU='";
    ([(CONTENT_SECURITY_POLICY, policy)], Html(include_str!("openapi.html"))).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let document: serde_json::Value = serde_json::from_slice(&DOCUMENT).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let described: BTreeSet<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
        // One that only refuses, and another name for a page.
        let without = ["/store/v1/records/{kind}/", "/health"];
        // Each path of the relay is followed by its two other names.
        let alias = |route: &&str| {
            let place = routes::RELAY.iter().position(|known| known == route);
            place.is_some_and(|place| place % 3 != 0) || routes::ALIASES.contains(route)
        };
        let routes = routes::all().filter(|route| !without.contains(route) && !alias(route));
        let routes: BTreeSet<_> = routes.map(str::to_owned).collect();
        assert_eq!(described, routes);
    }

    #[test]
    fn what_is_open_needs_no_token_and_all_else_does() {
        let document: serde_json::Value = serde_json::from_slice(&DOCUMENT).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for operation in item.as_object().unwrap().values() {
                assert_eq!(
                    operation.get("security").is_none(),
                    routes::OPEN.contains(&path.as_str()) || OPEN.contains(&path.as_str()),
                    "{path}"
                );
            }
        }
    }

    #[test]
    fn the_page_allows_its_own_script_and_no_other() {
        use base64::Engine as _;
        use sha2::Digest as _;
        let page = include_str!("openapi.html");
        let script = page.split("<script>").nth(1).unwrap().split("</script>").next().unwrap();
        let hash = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(script));
        assert!(include_str!("openapi.rs").contains(&format!("'sha256-{hash}'")), "sha256-{hash}");
        assert_eq!(page.matches("<script").count(), 1);
        assert!(!page.contains("http://") && !page.contains("https://"));
    }
}
