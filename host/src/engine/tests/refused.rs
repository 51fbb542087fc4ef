//! What may not become active, and what its author is told.

use super::built_in::BUILT_IN;
use super::*;

async fn refusal(bytes: &[u8]) -> Refusal {
    match engine().check(bytes, BOTH).await {
        Err(refusal) => refusal,
        Ok(_) => panic!("not refused"),
    }
}

#[track_caller]
fn says(refusal: &Refusal, code: &str, words: &str) {
    assert_eq!(refusal.code, code, "{refusal}");
    assert!(refusal.message.contains(words), "{refusal}");
}

#[tokio::test]
async fn random_bytes() {
    let noise: Vec<u8> = (0..5_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    says(&refusal(&noise).await, "not-a-component", "not WebAssembly");
    says(&refusal(b"").await, "not-a-component", "not WebAssembly");
}

#[tokio::test]
async fn a_component_cut_anywhere() {
    let engine = engine();
    let whole = BUILT_IN[0].1;
    for length in (8..whole.len()).step_by(997) {
        let refused = engine.check(&whole[..length], BOTH).await.err().unwrap();
        // Cut between two sections it is a smaller component, which exports nothing.
        assert!(["not-a-component", "missing-export"].contains(&refused.code), "{length}: {refused}");
    }
}

#[tokio::test]
async fn a_core_module() {
    let module = wat::parse_str(module(&[])).unwrap();
    says(&refusal(&module).await, "not-a-component", "encode it as a component");
}

#[tokio::test]
async fn an_import_that_is_not_offered() {
    let wasi = wat::parse_str(r#"(component (import "wasi:cli/environment@0.2.6" (instance)))"#).unwrap();
    let refused = refusal(&wasi).await;
    says(&refused, "import-not-allowed", "`wasi:cli/environment@0.2.6`");
    says(&refused, "import-not-allowed", "wasm32-unknown-unknown");
    let secrets =
        wat::parse_str(r#"(component (import "switchyard:storage/secrets@0.1.0" (instance)))"#).unwrap();
    says(&refusal(&secrets).await, "import-not-allowed", "`switchyard:storage/secrets@0.1.0`");
}

#[tokio::test]
async fn no_export() {
    let empty = wat::parse_str("(component)").unwrap();
    says(&refusal(&empty).await, "missing-export", "`switchyard:storage/store@0.1.0`");
    let hollow =
        r#"(component (instance $store) (export "switchyard:storage/store@0.1.0" (instance $store)))"#;
    says(&refusal(&wat::parse_str(hollow).unwrap()).await, "missing-export", "get");
}

#[tokio::test]
async fn another_version_of_the_contract() {
    let old = encode(&module(&[]).replace("@0.1.0", "@0.0.9"), &contract().replace("@0.1.0", "@0.0.9"));
    let refused = refusal(&old).await;
    says(&refused, "contract-mismatch", "@0.0.9`");
    says(&refused, "contract-mismatch", "switchyard:storage@0.1.0");
}

/// The contract with one function of one interface changed.
fn changed(interface: &str) -> String {
    let contract = contract();
    let at = contract.find(&format!("interface {interface} {{")).unwrap();
    let (before, after) = contract.split_at(at);
    let changed = "add: func(usage: borrow<usage>) -> result<u32, error>;";
    before.to_owned() + &after.replacen("add: func(usage: borrow<usage>) -> result<_, error>;", changed, 1)
}

#[tokio::test]
async fn a_function_of_another_type() {
    says(&refusal(&encode(&module(&[]), &changed("redis"))).await, "contract-mismatch", "import");
    let engine = engine();
    let compiled = engine.check(&encode(&module(&[]), &changed("store")), BOTH).await.unwrap();
    says(&engine.smoke(&compiled).await.unwrap_err(), "contract-mismatch", "`store`");
}

#[tokio::test]
async fn too_large() {
    says(&refusal(&vec![0; 100 << 20]).await, "too-large", "104857600 bytes");
    let body = "(nop)".repeat(300 << 10);
    says(&refusal(&strategy(&[("get", &body)])).await, "too-large", "bytes in one of its functions");
}

#[tokio::test]
async fn more_memory_than_there_is() {
    let greedy =
        module(&[]).replace(r#"(memory (export "memory") 2)"#, r#"(memory (export "memory") 65536)"#);
    says(&refusal(&encode(&greedy, &contract())).await, "needs-more-memory", "4294967296 bytes");
    let table = strategy(&[("import", "(table 1000000 funcref)")]);
    says(&refusal(&table).await, "needs-more-memory", "1000000 table elements");
    let wide = wat::parse_str("(component (core module (memory i64 1)))").unwrap();
    says(&refusal(&wide).await, "not-a-component", "memory64");
}

#[tokio::test]
async fn a_store_that_is_not_configured() {
    let engine = engine();
    let redis = Needs { redis: true, postgres: false };
    let refused = engine.check(BUILT_IN[4].1, redis).await.err().unwrap();
    says(&refused, "store-not-configured", "PostgreSQL");
    assert!(engine.check(BUILT_IN[3].1, redis).await.is_ok());
}

#[tokio::test]
async fn a_first_call_that_fails() {
    let engine = engine();
    let cases = [
        (("get", "unreachable"), "`get`"),
        (("start", "(loop (br 0))"), "`instantiate`"),
        (("realloc", "unreachable"), "`get`"),
        (("find", "(loop (br 0))"), "CPU"),
        (("put", "(call $drop-record (local.get 0)) (return (i32.const 64))"), "stored nothing"),
    ];
    for (inserted, words) in cases {
        let compiled = engine.check(&strategy(&[inserted]), BOTH).await.unwrap();
        says(&engine.smoke(&compiled).await.unwrap_err(), "smoke-failed", words);
    }
}
