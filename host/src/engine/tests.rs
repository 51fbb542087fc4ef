//! Hostile and well-behaved components. Each is a small core module in text, encoded with the contract.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod built_in;
mod cached;
mod hostile;
mod refused;
mod shown;

use std::sync::Arc;

use super::*;
use crate::store::memory::Memory;
use crate::store::side::{Side, Which};
use crate::store::{Backend, Expect, Key, Kind, Record, Store, StoreError, Write, kind};

pub(super) const BOTH: Needs = Needs { redis: true, postgres: true };

/// The contract's text, as one file.
fn contract() -> String {
    [
        include_str!("../../../wit/world.wit"),
        include_str!("../../../wit/types.wit"),
        include_str!("../../../wit/store.wit"),
    ]
    .concat()
}

/// A strategy in Redis alone, whose places `;;NAME` take further instructions.
const PASS_THROUGH: &str = include_str!("tests/pass_through.wat");

/// The pass-through strategy with instructions put in its places.
fn strategy(inserted: &[(&str, &str)]) -> Vec<u8> {
    encode(&module(inserted), &contract())
}

fn module(inserted: &[(&str, &str)]) -> String {
    let mut text = PASS_THROUGH.to_owned();
    for (place, code) in inserted {
        let place = format!(";;{place}\n");
        assert!(text.contains(&place), "no place {place}");
        text = text.replace(&place, &format!("{code}\n"));
    }
    text
}

fn encode(module: &str, contract: &str) -> Vec<u8> {
    let mut core = wat::parse_str(module).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("contract.wit", contract).unwrap();
    let world = resolve.select_world(&[package], Some("strategy")).unwrap();
    wit_component::embed_component_metadata(&mut core, &resolve, world, wit_component::StringEncoding::UTF8)
        .unwrap();
    wit_component::ComponentEncoder::default().module(&core).unwrap().encode().unwrap()
}

/// An engine with a small pool, as each test has its own.
fn engine() -> Engine {
    engine_with(Limits::default())
}

fn engine_with(limits: Limits) -> Engine {
    Engine::new(Limits { in_flight: limits.in_flight.min(64), ..limits }, None).unwrap()
}

/// Two complete stores in memory.
async fn stores() -> (Memory, Memory, Sides) {
    let metrics = Metrics::default();
    let memory = async || {
        let store = Memory::new(1 << 24);
        for kind in Kind::public().chain([&kind::USAGE]) {
            store.set_complete(kind).await.unwrap();
        }
        store
    };
    let (redis, postgres) = (memory().await, memory().await);
    let side = |which: Which, store: &Memory| {
        Some(Arc::new(Side::new(which, Arc::new(store.clone()), metrics.store(which.name()), None)))
    };
    let sides = Sides { redis: side(Which::Redis, &redis), postgres: side(Which::Postgres, &postgres) };
    (redis, postgres, sides)
}

fn key(id: &str) -> Key {
    Key::new(&kind::API_KEY, id).unwrap()
}

fn record(id: &str, version: u64) -> Record {
    let fields = [("apiKey".to_owned(), format!("hash-of-{id}"))].into();
    Record { key: key(id), version, deleted: false, fields, expires_at: None, cached_at: None }
}

fn write(id: &str, version: u64) -> Write {
    Write::new(Arc::new(record(id, version)), Expect::Anything)
}

/// The component, loaded over stores of its own, of which Redis holds the record `a`.
async fn loaded(engine: &Engine, bytes: &[u8]) -> Component {
    let compiled = engine.check(bytes, BOTH).await.unwrap();
    let (redis, _, sides) = stores().await;
    redis.put(&write("a", 1)).await.unwrap();
    engine.load(&compiled, sides, "test", 1, &Metrics::default())
}

/// What a strategy failed of.
#[track_caller]
fn fault<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Strategy(how)) => how,
        other => panic!("not the strategy's failure: {other:?}"),
    }
}
