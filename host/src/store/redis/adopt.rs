//! Finds the records that another program wrote, whose ids are in no sorted set yet.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::Value;

use super::call::{Call, Effect};
use super::layout;
use super::link::{Link, Status, Wire};
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
    for kind in Kind::public() {
        let mut cursor = String::from("0");
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(format!("{}*", kind.redis_prefix));
            scan.arg("COUNT").arg(KEYS_PER_STEP).arg("TYPE").arg("hash");
            let answer = Call::on(link, wire.deadline).cmd(Effect::Reads, &scan).await?;
            let [next, keys] = layout::array(answer)?;
            take_in(wire, link, kind, layout::list(keys)?).await?;
            cursor = layout::text(next)?;
            if cursor == "0" {
                break;
            }
        }
    }
    Ok(())
}

/// Takes in the keys that can be records of the kind. A whole kind never expires.
async fn take_in(wire: &Wire, link: &Arc<Link>, kind: &'static Kind, keys: Vec<Value>) -> Result<()> {
    let names = keys.into_iter().filter_map(|key| layout::text(key).ok());
    let id = |name: String| Key::new(kind, name.strip_prefix(kind.redis_prefix)?).ok();
    let keys: Vec<Key> = names.filter_map(id).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let mut pipe = redis::pipe();
    let add = pipe.cmd("ZADD").arg(layout::ids(kind));
    for key in &keys {
        add.arg(0).arg(&*key.id);
    }
    for key in keys.iter().filter(|key| key.kind.whole) {
        pipe.cmd("PERSIST").arg(layout::record(key));
    }
    Call::on(link, wire.deadline).pipe(Effect::Writes, &pipe).await?;
    Ok(())
}
