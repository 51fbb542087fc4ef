//! What the admin API answers.

use serde_json::{Value, json};

const DIGEST: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A store that is up, or down.
fn store(store: &str, backend: &str, up: bool) -> Value {
    let breaker = if up { "closed" } else { "open" };
    json!({
        "store": store, "backend": backend, "up": up, "reads": breaker, "writes": breaker,
        "since": 1_700_000_000_000_i64, "error": if up { Value::Null } else { "connection refused".into() },
        "backlog": { "records": if up { 0 } else { 12 }, "usage": 3, "oldest_ms": 1_700_000_000_000_i64 }, "trusted": up,
    })
}

pub(super) fn health(status: &str) -> Value {
    let redis = store("redis", "Redis", status == "healthy");
    json!({
        "status": status,
        "databases": { "redis": redis["up"], "postgres": true },
        "stores": [redis, store("postgres", "PostgreSQL", true)],
        "strategy": "dual_write", "generation": 7,
        "stats": { "redisHits": 1, "redisMisses": 0, "postgresQueries": 1, "cacheSets": 0, "errors": 0 },
        "initialized": true, "syncEnabled": true,
    })
}

pub(super) fn node(name: &str, state: &str) -> Value {
    let error = if state == "failed" { json!("cannot load the component") } else { Value::Null };
    json!({
        "node": name, "strategy": "dual_write", "generation": 7, "digest": DIGEST, "state": state,
        "error": error, "seen_ms_ago": 120, "mode": "normal",
    })
}

pub(super) fn status() -> Value {
    json!({
        "health": health("degraded"), "mode": "redis-lost",
        "chosen": { "name": "cache_first", "digest": DIGEST, "pinned": true },
        "active": { "name": "dual_write", "digest": DIGEST, "generation": 7 },
        "strategy": "dual_write", "generation": 7, "cause": "redis: refused", "since": 1_700_000_000_000_i64,
        "transitions": [{ "at": 1_700_000_000_000_i64, "from": "cache_first", "to": "dual_write", "cause": "redis: refused" }],
        "node": "a", "nodes": [node("a", "in-force"), node("b", "failed")],
        "stores": [], "connectionPools": {}, "spool": { "events": 0, "bytes": 0 }, "initialized": true,
    })
}

pub(super) fn metrics() -> Value {
    let latency =
        json!({ "calls": 9, "errors": 1, "mean_ms": 0.5, "p50_ms": 0.4, "p95_ms": 1.5, "p99_ms": 42.0 });
    let operations = json!({ "get": latency, "put": latency });
    let store = |backend: &str, lag: u64| {
        json!({
            "backend": backend, "up": true, "breaker": { "reads": "closed", "writes": "open", "since": 1, "reason": null }, "hit_rate": 0.975, "error_rate": 0.01,
            "calls": 100, "errors": 1, "backlog": { "records": 0, "usage": 0, "oldest_ms": 0 }, "lag_ms": lag,
            "operations": operations,
        })
    };
    json!({
        "uptime_s": 90, "strategy": "dual_write", "chosen": "cache_first", "generation": 7, "mode": "normal",
        "stores": { "redis": store("Redis", 17), "postgres": store("PostgreSQL", 23) },
        "near_cache": { "hits": 3, "misses": 1, "hit_rate": 0.75 }, "requests": 1_234,
        "spool": { "events": 0, "bytes": 0 }, "drain": { "carried": 55, "per_second": 5 },
    })
}

/// An operation with id `op-1` in this state; `more` goes over what is usual.
pub(super) fn operation(kind: &str, state: &str, more: Value) -> Value {
    let ended = (state != "running").then_some(1_700_000_002_500_i64);
    let mut operation = json!({
        "id": "op-1", "kind": kind, "state": state, "done": 1_000, "total": 1_000,
        "started_at": 1_700_000_000_000_i64, "ended_at": ended, "node": "a", "result": null,
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        operation[name] = value.clone();
    }
    operation
}

/// A sync that has ended, with so many records skipped.
pub(super) fn synced(skipped: usize) -> Value {
    let listed = vec![json!({ "key": "api_key/broken", "reason": "a field is no text" }); skipped];
    let result = json!({
        "copied": 990, "unchanged": 10, "newer_in_target": 2, "usage_balances": 4,
        "skipped": listed, "skipped_total": skipped,
    });
    operation("sync", "done", json!({ "source": "redis", "target": "postgres", "result": result }))
}

fn differences(consistent: bool) -> Value {
    let difference =
        json!({ "key": "api_key/one", "reason": "older", "redis_version": 4, "postgres_version": 9 });
    let differences = if consistent { vec![] } else { vec![difference] };
    json!({
        "consistent": consistent, "compared": 1_000, "differences_total": differences.len(),
        "differences": differences, "usage": { "compared": 10, "differing": [], "differing_total": 0 },
    })
}

pub(super) fn checked(consistent: bool) -> Value {
    operation("check", "done", json!({ "result": differences(consistent) }))
}

/// A repair of one difference, or the dry run of it.
pub(super) fn repair(dry_run: bool, needs_person: &[Value]) -> Value {
    let mut result = differences(false);
    result["repaired"] = json!([{ "key": "api_key/one", "action": "copied to Redis" }]);
    result["needs_person"] = json!(needs_person);
    operation("fix", "done", json!({ "dry_run": dry_run, "result": result }))
}

/// A switch to `cache_first`, after which this is in force.
pub(super) fn switched(in_force: &str, nodes: &[Value]) -> Value {
    let cause = (in_force != "cache_first").then_some("Redis is lost");
    json!({
        "strategy": "cache_first", "digest": DIGEST, "generation": 8, "switched": cause.is_none(), "from": "dual_write",
        "caught_up": "nothing", "drain": { "in_flight": 2, "drained": true, "after_ms": 1.25 },
        "chosen": { "name": "cache_first", "digest": DIGEST, "pinned": true },
        "in_force": { "name": in_force, "digest": DIGEST, "generation": 8, "cause": cause },
        "pinned": true, "nodes": nodes,
    })
}
