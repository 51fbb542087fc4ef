//! From the core module that `cargo build --target wasm32-unknown-unknown` makes to a component.

use anyhow::{Context, Result, ensure};

/// Encodes a core module that was built with the SDK as a component.
///
/// # Errors
/// When it is not a core module, or was not built with the contract's bindings.
pub fn encode(module: &[u8]) -> Result<Vec<u8>> {
    ensure!(!wasmparser::Parser::is_component(module), "this is a component already; upload it as it is");
    ensure!(wasmparser::Parser::is_core_wasm(module), "this is not a WebAssembly module");
    let mut encoder = wit_component::ComponentEncoder::default();
    encoder.validate(true).module(module).and_then(|encoder| encoder.encode()).context(
        "the module cannot be encoded; build a crate that uses switchyard_sdk::strategy! for \
         wasm32-unknown-unknown",
    )
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn what_is_not_a_module_of_the_contract_is_refused_with_advice() {
        let refusal = |bytes: &[u8]| format!("{:#}", encode(bytes).unwrap_err());
        assert!(refusal(b"text").contains("not a WebAssembly module"));
        let (_, component) = crate::strategy::catalogue::BUILT_IN[0];
        assert!(refusal(component).contains("already"));
        let empty = encode(&wat::parse_str("(module)").unwrap()).unwrap();
        assert!(wasmparser::Parser::is_component(&empty));
    }
}
