//! The contract in Rust, generated from `wit/`.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "strategy",
    with: {
        "switchyard:storage/types.record": crate::store::Record,
        "switchyard:storage/types.usage": crate::store::Usage,
    },
    imports: {
        "switchyard:storage/redis": async | trappable,
        "switchyard:storage/postgres": async | trappable,
        "switchyard:storage/both": async | trappable,
        default: trappable,
    },
    exports: { default: async },
});
