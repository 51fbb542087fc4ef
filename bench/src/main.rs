//! Benchmarks. Each prints component, native twin and raw driver side by side, from one run; trust ratios.
//!
//! `make bench` runs all but `many`, which takes long; `switchyard-bench NAME ...` those named.

mod bare;
mod check;
mod components;
mod connections;
mod drain;
mod frozen;
mod http;
mod lists;
mod load;
mod many;
mod postgres_lookups;
mod redis_reads;
mod relay;
mod stage;
mod starts;
mod streams;
mod switches;
mod twin;
mod usage;

const ALL: [&str; 14] = [
    "starts", "compile", "get", "http", "redis", "postgres", "usage", "relay", "streams", "lists", "drain",
    "check", "frozen", "switches",
];

/// Only when it is named.
const LONG: &str = "many";

fn main() -> anyhow::Result<()> {
    let named: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = named.iter().find(|name| !ALL.contains(&name.as_str()) && *name != LONG) {
        anyhow::bail!("no benchmark {unknown:?}; there are {} and {LONG}", ALL.join(", "));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for name in ALL.iter().filter(|name| named.is_empty() || named.iter().any(|n| n == *name)) {
        match *name {
            "starts" => starts::run()?,
            "get" => components::one_get(&runtime)?,
            "compile" => runtime.block_on(components::compile())?,
            "http" => runtime.block_on(http::run())?,
            "redis" => runtime.block_on(redis_reads::run())?,
            "postgres" => runtime.block_on(postgres_lookups::run())?,
            "check" => runtime.block_on(check::run())?,
            "frozen" => runtime.block_on(frozen::run())?,
            "streams" => runtime.block_on(streams::run())?,
            "lists" => runtime.block_on(lists::run())?,
            "relay" => runtime.block_on(relay::run())?,
            "usage" => runtime.block_on(usage::run())?,
            "drain" => runtime.block_on(drain::run())?,
            _ => runtime.block_on(switches::run())?,
        }
        println!();
    }
    if named.iter().any(|name| name == LONG) {
        runtime.block_on(many::run())?;
    }
    Ok(())
}
