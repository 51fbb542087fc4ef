//! Finds the records that another program wrote: they have no version, no mark, and are in no sorted set yet.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::Value;

use super::call::{Call, Effect};
use super::link::{Link, Status, Wire};
use super::{board, layout, script};
use crate::store::clock::now_ms;
use crate::store::{Key, Kind, Result};

const KEYS_PER_STEP: u32 = 1_000;
const RETRY: Duration = Duration::from_secs(1);

/// Goes through all keys once, however often it takes, and then waits for the connection to end.
pub(super) async fn adopt(wire: &Wire, link: Arc<Link>) {
    while let Err(error) = adopt_all(wire, &link).await {
        tracing::warn!(%error, "looking for the records in Redis failed; trying again");
        tokio::time::sleep(RETRY).await;
    }
    wire.adopted.store(true, Ordering::Release);
    wire.status.send_replace(Status::Ready);
    std::future::pending().await
}

async fn adopt_all(wire: &Wire, link: &Arc<Link>) -> Result<()> {
    // By the server's clock: this node's may be wrong.
    let time = Call::on(link, wire.deadline).cmd(Effect::Reads, &redis::cmd("TIME")).await?;
    let version = board::time_of(time)?;
    for kind in Kind::public() {
        let mut cursor = String::from("0");
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(format!("{}*", kind.redis_prefix));
            scan.arg("COUNT").arg(KEYS_PER_STEP).arg("TYPE").arg("hash");
            let answer = Call::on(link, wire.deadline).cmd(Effect::Reads, &scan).await?;
            let [next, keys] = layout::array(answer)?;
            take_in(wire, link, kind, version, layout::list(keys)?).await?;
            cursor = layout::text(next)?;
            if cursor == "0" {
                break;
            }
        }
    }
    Ok(())
}

/// Takes in the keys that can be records of the kind: see `adopt.lua`. A whole kind never expires.
async fn take_in(
    wire: &Wire,
    link: &Arc<Link>,
    kind: &'static Kind,
    version: i64,
    keys: Vec<Value>,
) -> Result<()> {
    let names = keys.into_iter().filter_map(|key| layout::text(key).ok());
    let id = |name: String| Key::new(kind, name.strip_prefix(kind.redis_prefix)?).ok();
    let mut adopt = script::ADOPT.key(layout::ids(kind));
    adopt.key(layout::DIRTY).arg(version).arg(now_ms()).arg(u8::from(kind.whole));
    adopt.arg(kind.redis_prefix).arg(layout::tombstones(kind)).arg(format!("{}/", kind.name));
    let mut any = false;
    for key in names.filter_map(id) {
        adopt.arg(&*key.id);
        any = true;
    }
    if any {
        Call::on(link, wire.deadline).write(&mut adopt).await?;
    }
    Ok(())
}
