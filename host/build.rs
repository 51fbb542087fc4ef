//! Compiles the built-in strategies to components and embeds them.
//!
//! Runs cargo once more, for `wasm32-unknown-unknown`, in a target folder of its own (the outer cargo holds
//! the lock of the usual one), and encodes the modules as components. No import of WASI can get in.

#![allow(clippy::disallowed_methods, reason = "cargo talks to a build script through the environment")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};

const STRATEGIES: [&str; 5] = ["dual_write", "cache_first", "database_first", "redis_only", "postgres_only"];
const TARGET: &str = "wasm32-unknown-unknown";

fn main() -> Result<()> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace's root")?;
    for input in ["wit", "sdk/src", "sdk/Cargo.toml", "strategies", "migrations", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    // OUT_DIR is TARGET_DIR/PROFILE/build/PACKAGE/out.
    let target = out.ancestors().nth(4).context("the target folder")?.join("strategies");
    compile(root, &target)?;
    for strategy in STRATEGIES {
        let module = target.join(TARGET).join("guest").join(format!("{strategy}.wasm"));
        let module = fs::read(&module).with_context(|| format!("reading {}", module.display()))?;
        let component =
            wit_component::ComponentEncoder::default().validate(true).module(&module)?.encode()?;
        fs::write(out.join(format!("{strategy}.wasm")), component)?;
    }
    Ok(())
}

/// Builds the strategies' core modules into `target`.
fn compile(root: &Path, target: &Path) -> Result<()> {
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo
        .current_dir(root)
        .args(["build", "--profile", "guest", "--target", TARGET, "--target-dir"])
        .arg(target);
    for strategy in STRATEGIES {
        cargo.args(["--package", &strategy.replace('_', "-")]);
    }
    // What the outer cargo says about its own build must not reach the inner one.
    let ours = ["TARGET", "HOST", "MAKEFLAGS", "RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"];
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let prefixed = ["CARGO_PROFILE_", "CARGO_FEATURE_", "CARGO_CFG_", "CARGO_BUILD_", "CARGO_TARGET_"];
        let exact = ["CARGO_ENCODED_RUSTFLAGS", "CARGO_MAKEFLAGS"];
        if ours.contains(&&*name) || exact.contains(&&*name) || prefixed.iter().any(|p| name.starts_with(p)) {
            cargo.env_remove(&*name);
        }
    }
    let output = cargo.output().context("running cargo for the strategies")?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !errors.contains("target may not be installed"),
        "the built-in strategies need a target that is not installed; run: rustup target add {TARGET}"
    );
    bail!("compiling the built-in strategies failed:\n{errors}");
}
