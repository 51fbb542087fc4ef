//! What `/openapi.json` says, held against what is answered.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use switchyard_tests::host::{Behind, Body, Host};

const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

#[tokio::test]
async fn every_method_of_a_route_is_described_and_no_other() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let document = host.client.get("/openapi.json").await.expect(200);
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let asked: String = path.split('{').enumerate().fold(String::new(), |asked, (at, part)| match at {
            0 => part.into(),
            _ => format!("{asked}x{}", part.split_once('}').expect("a name").1),
        });
        let refused = host.client.send(Method::TRACE, &asked, &[], Body::None).await;
        let allowed = refused.header("allow").unwrap_or_else(|| panic!("{path}: {refused:?}")).to_lowercase();
        let allowed: BTreeSet<_> = allowed.split(',').map(str::trim).filter(|one| *one != "head").collect();
        let described: BTreeSet<_> = METHODS.into_iter().filter(|one| !item[*one].is_null()).collect();
        assert_eq!(described, allowed, "{path}");
        for operation in item.as_object().expect("operations").values() {
            let name = operation["operationId"].as_str().expect("a name");
            assert!(names.insert(name.to_owned()), "{name} is there twice");
        }
    }
    host.stop().await;
}

/// Why an answer does not fit a schema.
fn misfit(document: &Value, schema: &Value, answer: &Value, at: &str) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let named = document.pointer(name.trim_start_matches('#'));
        return misfit(document, named.unwrap_or_else(|| panic!("{name} is not there")), answer, at);
    }
    let any = |list: &Value| {
        let list = list.as_array()?;
        let misfits: Option<Vec<_>> = list.iter().map(|one| misfit(document, one, answer, at)).collect();
        misfits.map(|misfits| misfits.join(", nor "))
    };
    if let Some(why) = any(&schema["oneOf"]) {
        return Some(why);
    }
    if let Some(parts) = schema["allOf"].as_array() {
        return parts.iter().find_map(|part| misfit(document, part, answer, at));
    }
    let is = match answer {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = |of: &str| of == is || (of == "number" && is == "integer");
    let fitting = match &schema["type"] {
        Value::String(of) => fits(of),
        Value::Array(of) => of.iter().filter_map(Value::as_str).any(fits),
        _ => true,
    };
    if !fitting {
        return Some(format!("{at} is {is}, not {}", schema["type"]));
    }
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(missing) = required.into_iter().find(|name| answer.get(*name).is_none()) {
        return Some(format!("{at}/{missing} is not there"));
    }
    let properties = schema["properties"].as_object().into_iter().flatten();
    let mut within = properties.filter_map(|(name, of)| Some((name, of, answer.get(name)?)));
    let wrong = within.find_map(|(name, of, value)| misfit(document, of, value, &format!("{at}/{name}")));
    let items = answer.as_array().into_iter().flatten();
    wrong.or_else(|| items.into_iter().find_map(|item| misfit(document, &schema["items"], item, at)))
}

#[tokio::test]
async fn answers_are_as_they_are_described() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let client = &host.client;
    let document = client.get("/openapi.json").await.expect(200);
    let account = json!({ "name": "a", "apiUrl": "http://127.0.0.1:9", "apiKey": "sk" });
    let events =
        json!({ "events": [{ "id": "e", "key_id": "k", "model": "m", "at": "2026-01-02T10:00:00Z" }] });
    let (key, account_of) = ("/admin/api-keys/{id}", "/admin/accounts/{id}");
    let mut ids = [String::new(), String::new(), String::new()];
    for (at, (method, path, body)) in [
        ("post", "/admin/api-keys", json!({ "name": "Ada", "tags": ["t"], "dailyCostLimit": 1.5 })),
        ("post", "/admin/accounts", account),
        ("post", "/admin/account-groups", json!({ "name": "g" })),
        ("get", "/admin/api-keys", json!(null)),
        ("get", key, json!(null)),
        ("patch", key, json!({ "tokenLimit": 7 })),
        ("post", "/admin/api-keys/{id}/regenerate", json!({ "graceSeconds": 60 })),
        ("get", "/admin/accounts", json!(null)),
        ("get", account_of, json!(null)),
        ("patch", account_of, json!({ "priority": 2 })),
        ("post", "/admin/accounts/rewrap", json!(null)),
        ("get", "/admin/account-groups", json!(null)),
        ("patch", "/admin/account-groups/{id}", json!({ "name": "h" })),
        ("post", "/store/v1/usage", events),
        ("get", "/store/v1/usage/{key_id}", json!(null)),
        ("put", "/store/v1/records/{kind}/{id}", json!({ "fields": { "a": "b" } })),
        ("get", "/store/v1/records/{kind}/{id}", json!(null)),
        ("get", "/store/v1/records/{kind}", json!(null)),
        ("get", "/admin/usage", json!(null)),
        ("get", "/admin/usage/summary", json!(null)),
        ("get", "/admin/usage/prices", json!(null)),
        ("get", "/admin/strategies", json!(null)),
        ("get", "/admin/strategies/{name}", json!(null)),
        ("post", "/admin/strategies/{name}/activate", json!({})),
        ("get", "/admin/strategies/events", json!(null)),
        ("get", "/admin/nodes", json!(null)),
        ("get", "/admin/database/status", json!(null)),
        ("get", "/admin/operations", json!(null)),
        ("post", "/admin/database/strategy/{name}", json!(null)),
        ("get", "/readyz", json!(null)),
        ("get", "/healthz", json!(null)),
        ("delete", "/admin/account-groups/{id}", json!(null)),
        ("delete", key, json!(null)),
        ("get", "/admin/api-keys/{id}/no-such-path", json!(null)),
    ]
    .into_iter()
    .enumerate()
    {
        let of = ["/admin/api-keys", "/admin/accounts", "/admin/account-groups"];
        let id = of.iter().position(|of| path.starts_with(of)).map_or("r", |at| ids[at].as_str());
        let asked = path.replace("{id}", id).replace("{key_id}", "k").replace("{kind}", "session");
        let strategy = if path.contains("/database/") { "dual-write" } else { "dual_write" };
        let asked = asked.replace("{name}", strategy);
        let sent = if body.is_null() { Body::None } else { Body::Json(body) };
        let verb = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
        let answer = client.send(verb, &asked, &[], sent).await;
        let status = answer.status.as_u16().to_string();
        if path.ends_with("no-such-path") {
            let problem = &document["components"]["schemas"]["ProblemBody"];
            assert_eq!(misfit(&document, problem, &answer.body, ""), None, "{}", answer.body);
            continue;
        }
        let described = &document["paths"][path][method]["responses"][&status]["content"]["application/json"];
        let schema = &described["schema"];
        assert!(!schema.is_null(), "{method} {path} {status}: {}", answer.body);
        assert_eq!(misfit(&document, schema, &answer.body, ""), None, "{method} {path}: {}", answer.body);
        if at < ids.len() {
            ids[at] = answer.body["data"]["id"].as_str().expect("an id").to_owned();
        }
    }
    host.stop().await;
}

#[tokio::test]
async fn what_is_no_json_is_described_as_what_it_is() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let document = host.client.get("/openapi.json").await.expect(200);
    let paths = &document["paths"];
    let content = |path: &str| {
        &paths[path][if path == "/metrics" { "get" } else { "post" }]["responses"]["200"]["content"]
    };
    assert!(content("/metrics")["application/openmetrics-text"].is_object());
    let message = content("/v1/messages");
    assert!(message["application/json"].is_object() && message["text/event-stream"].is_object(), "{message}");
    let upload =
        &paths["/admin/strategies/{name}"]["put"]["requestBody"]["content"]["application/wasm"]["schema"];
    assert_eq!((&upload["type"], &upload["format"]), (&json!("string"), &json!("binary")));
    let relayed = &paths["/v1/messages"]["post"];
    assert_eq!(relayed["security"].as_array().map(Vec::len), Some(4), "each place of a client's key");
    let refused = &relayed["responses"]["default"]["headers"];
    for header in ["request-id", "retry-after", "x-should-retry"] {
        assert!(refused[header].is_object(), "{header}");
    }
    let schemas = &document["components"]["schemas"];
    let held = &schemas["Enveloped_ApiKey"]["properties"]["data"]["$ref"];
    assert_eq!(held, "#/components/schemas/ApiKey");
    for (name, field) in [("ApiKey", "dailyCostLimit"), ("Account", "hasApiKey"), ("Counters", "requests")] {
        assert!(schemas[name]["properties"][field].is_object(), "{name}: {}", schemas[name]);
    }
    host.stop().await;
}
