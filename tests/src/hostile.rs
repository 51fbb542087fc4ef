//! Components for tests: a small core module in text, encoded with the contract.

/// A strategy in Redis alone, whose places `;;NAME` take further instructions. The engine's own tests use
/// the same text.
const PASS_THROUGH: &str = include_str!("../../host/src/engine/tests/pass_through.wat");

/// The contract's text, as one file.
pub fn contract() -> String {
    [
        include_str!("../../wit/world.wit"),
        include_str!("../../wit/types.wit"),
        include_str!("../../wit/store.wit"),
    ]
    .concat()
}

/// The pass-through strategy, with instructions put in its places, as a component.
pub fn component(inserted: &[(&str, &str)]) -> Vec<u8> {
    encode(&module(inserted), &contract())
}

/// The same as a core module's text.
pub fn module(inserted: &[(&str, &str)]) -> String {
    let mut text = PASS_THROUGH.to_owned();
    for (place, code) in inserted {
        let place = format!(";;{place}\n");
        assert!(text.contains(&place), "no place {place}");
        text = text.replace(&place, &format!("{code}\n"));
    }
    text
}

/// A core module as a component of this contract.
pub fn encode(module: &str, contract: &str) -> Vec<u8> {
    let mut core = wat::parse_str(module).expect("a module");
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("contract.wit", contract).expect("a contract");
    let world = resolve.select_world(&[package], Some("strategy")).expect("the world");
    let encoding = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut core, &resolve, world, encoding).expect("metadata");
    let mut encoder = wit_component::ComponentEncoder::default();
    encoder.module(&core).expect("a module").encode().expect("a component")
}
