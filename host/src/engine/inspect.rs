//! What a component is, read without compiling or running any of it.

use wasmparser::{Parser, Payload, Validator, WasmFeatures};

use super::limits::Limits;
use super::refusal::{
    CONTRACT_MISMATCH, IMPORT_NOT_ALLOWED, MISSING_EXPORT, NEEDS_MORE_MEMORY, NOT_A_COMPONENT, Needs,
    Refusal, STORE_NOT_CONFIGURED, TOO_LARGE,
};

/// The contract, as in `wit/world.wit`.
const PACKAGE: &str = "switchyard:storage";
const VERSION: &str = "0.1.0";

/// What a component may use of WebAssembly: 2.0 without garbage-collected types. The engine has the same.
pub(super) const FEATURES: WasmFeatures =
    WasmFeatures::WASM2.difference(WasmFeatures::GC_TYPES).union(WasmFeatures::COMPONENT_MODEL);

const PAGE: u64 = 65_536;

/// Accepts a component of this contract within the limits, and says which stores it needs.
pub(super) fn inspect(bytes: &[u8], limits: &Limits, configured: Needs) -> Result<Needs, Refusal> {
    if Parser::is_core_wasm(bytes) {
        return Err(Refusal::new(
            NOT_A_COMPONENT,
            "this is a core module; encode it as a component (`wasm-tools component new in.wasm -o out.wasm`, \
             or wit_component::ComponentEncoder in a build script)",
        ));
    }
    if !Parser::is_component(bytes) {
        return Err(Refusal::new(NOT_A_COMPONENT, "this is not WebAssembly; upload a component (.wasm)"));
    }
    let invalid = |error: wasmparser::BinaryReaderError| {
        Refusal::new(
            NOT_A_COMPONENT,
            format!("this component is damaged or uses a feature that is off: {error}"),
        )
    };
    Validator::new_with_features(FEATURES).validate_all(bytes).map_err(invalid)?;
    let mut outline = Outline::default();
    for payload in Parser::new(0).parse_all(bytes) {
        outline.read(&payload.map_err(invalid)?, limits)?;
    }
    let needs = outline.needs()?;
    outline.exports()?;
    served(needs, configured)?;
    Ok(needs)
}

/// The outermost names of a component, and how deep the reader is inside of it.
#[derive(Default)]
struct Outline {
    depth: usize,
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Outline {
    fn read(&mut self, payload: &Payload<'_>, limits: &Limits) -> Result<(), Refusal> {
        let damaged = |error: wasmparser::BinaryReaderError| Refusal::new(NOT_A_COMPONENT, error.to_string());
        match payload {
            Payload::Version { .. } => self.depth += 1,
            Payload::End(_) => self.depth -= 1,
            Payload::ComponentImportSection(section) if self.depth == 1 => {
                for import in section.clone() {
                    self.imports.push(import.map_err(damaged)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if self.depth == 1 => {
                for export in section.clone() {
                    self.exports.push(export.map_err(damaged)?.name.name.to_owned());
                }
            }
            Payload::MemorySection(section) => {
                for memory in section.clone() {
                    let size = memory.map_err(damaged)?.initial.saturating_mul(PAGE);
                    fits(NEEDS_MORE_MEMORY, "bytes of memory at its start", size, limits.memory_bytes)?;
                }
            }
            Payload::TableSection(section) => {
                for table in section.clone() {
                    let size = table.map_err(damaged)?.ty.initial;
                    fits(NEEDS_MORE_MEMORY, "table elements at its start", size, limits.table_elements)?;
                }
            }
            Payload::CodeSectionEntry(body) => {
                let size = body.range().len() as u64;
                fits(TOO_LARGE, "bytes in one of its functions", size, limits.function_bytes)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn exports(&self) -> Result<(), Refusal> {
        let store = format!("{PACKAGE}/store@{VERSION}");
        if self.exports.contains(&store) {
            return Ok(());
        }
        match self.exports.iter().find(|name| name.starts_with("switchyard:storage/store")) {
            Some(other) => Err(other_version(other)),
            None => Err(Refusal::new(
                MISSING_EXPORT,
                format!("it does not export `{store}`; build it against the world `strategy` of wit/"),
            )),
        }
    }

    fn needs(&self) -> Result<Needs, Refusal> {
        let mut needs = Needs::default();
        for import in &self.imports {
            let interface = import.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('/'));
            match interface.map(|interface| interface.split_once('@').unwrap_or((interface, ""))) {
                Some(("types" | "log", VERSION)) => {}
                Some(("redis", VERSION)) => needs.redis = true,
                Some(("postgres", VERSION)) => needs.postgres = true,
                Some(("both", VERSION)) => needs = Needs { redis: true, postgres: true },
                Some(("types" | "log" | "redis" | "postgres" | "both" | "store", _)) => {
                    return Err(other_version(import));
                }
                _ => return Err(not_allowed(import)),
            }
        }
        Ok(needs)
    }
}

fn served(needs: Needs, configured: Needs) -> Result<(), Refusal> {
    let missing = match (needs.redis && !configured.redis, needs.postgres && !configured.postgres) {
        (true, true) => "Redis and PostgreSQL",
        (true, false) => "Redis",
        (false, true) => "PostgreSQL",
        (false, false) => return Ok(()),
    };
    let remedy = "configure it, or use a strategy that does without";
    Err(Refusal::new(STORE_NOT_CONFIGURED, format!("it imports {missing}, not configured here; {remedy}")))
}

fn fits(code: &'static str, what: &str, has: u64, limit: usize) -> Result<(), Refusal> {
    if has <= limit as u64 {
        return Ok(());
    }
    Err(Refusal::new(code, format!("it has {has} {what}; the limit is {limit}; optimise it for size")))
}

fn other_version(name: &str) -> Refusal {
    Refusal::new(
        CONTRACT_MISMATCH,
        format!(
            "it was built for `{name}`; this host offers {PACKAGE}@{VERSION}; rebuild it against that wit/"
        ),
    )
}

fn not_allowed(name: &str) -> Refusal {
    let remedy = if name.starts_with("wasi:") {
        "a strategy has no WASI; build it for wasm32-unknown-unknown, without files, clocks and printing"
    } else {
        "a strategy may import redis, postgres, both, log and types of the contract and nothing else"
    };
    Refusal::new(IMPORT_NOT_ALLOWED, format!("it imports `{name}`; {remedy}"))
}
