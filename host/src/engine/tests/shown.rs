//! What a strategy sees of a record.

use wasmtime::component::Resource;

use super::super::bindings::switchyard::storage::types::HostRecord as _;
use super::super::invocation::{Invocation, Label};
use super::*;

#[tokio::test]
async fn a_strategy_sees_no_credential_in_plain_text() {
    let (_, _, sides) = stores().await;
    let label = Arc::new(Label { name: "test".into(), generation: 1 });
    let mut invocation = Invocation::new(sides, label, Arc::new(Limits::default()));
    let proxy = r#"{"type":"http","host":"h","port":1,"password":"canary"}"#;
    let fields = [("apiKey", "canary"), ("proxy", proxy), ("name", "n")];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let key = Key::new(&kind::ACCOUNT, "a").unwrap();
    let record = Record { key, fields, ..record("a", 1) };
    let handle = invocation.handles.lend(Arc::new(record));
    let mut field =
        |name: &str| invocation.field(Resource::new_borrow(handle), name.into()).unwrap().unwrap_or_default();
    assert_eq!(field("name"), "n");
    assert!(field("proxy").contains(r#""host":"h""#));
    assert!(!field("proxy").contains("canary") && !field("apiKey").contains("canary"));
}
