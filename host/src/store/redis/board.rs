//! The lines of the nodes, the copy of the admin's choice, and the server's clock.

use std::time::Duration;

use async_trait::async_trait;
use redis::Value;

use super::call::Effect;
use super::{Redis, layout, script};
use crate::store::Result;
use crate::store::board::{Board, FORGOTTEN, HELD, Heard, Line};

impl Redis {
    /// Microseconds since 1970 by the server's clock.
    pub(super) async fn server_time(&self) -> Result<i64> {
        time_of(self.wire.begin()?.cmd(Effect::Reads, &redis::cmd("TIME")).await?)
    }
}

/// What `TIME` answers, in microseconds since 1970.
pub(super) fn time_of(answer: Value) -> Result<i64> {
    let parts: [Value; 2] = layout::array(answer)?;
    let number = |part: &Value| layout::integer(part).ok_or_else(|| layout::unexpected("a time"));
    Ok(number(&parts[0])? * 1_000_000 + number(&parts[1])?)
}

#[async_trait]
impl Board for Redis {
    async fn announce(&self, line: &Line) -> Result<bool> {
        let mut announce = script::ANNOUNCE.key(layout::NODES);
        announce.arg(&line.node).arg(&line.holder).arg(&line.text);
        announce.arg(HELD.as_micros() as u64).arg(FORGOTTEN.as_micros() as u64);
        let answer = self.wire.begin()?.script(Effect::Writes, &announce).await?;
        Ok(layout::integer(&answer) == Some(1))
    }

    async fn lines(&self) -> Result<Vec<Heard>> {
        let mut pipe = redis::pipe();
        pipe.cmd("TIME").cmd("HGETALL").arg(layout::NODES);
        let [time, lines] = layout::array(self.wire.begin()?.pipe(Effect::Reads, &pipe).await?)?;
        let now = time_of(time)?;
        let mut heard: Vec<_> = pairs(lines)?
            .into_iter()
            .filter_map(|(node, kept)| {
                let mut parts = kept.splitn(3, ' ');
                let at: i64 = parts.next()?.parse().ok()?;
                let (holder, text) = (parts.next()?.to_owned(), parts.next()?.to_owned());
                let age = Duration::from_micros((now - at).max(0) as u64);
                Some(Heard { line: Line { node, holder, text }, age })
            })
            .collect();
        heard.sort_by(|a, b| a.line.node.cmp(&b.line.node));
        Ok(heard)
    }

    async fn withdraw(&self, node: &str, holder: &str) -> Result<()> {
        let mut withdraw = script::WITHDRAW.key(layout::NODES);
        withdraw.arg(node).arg(holder);
        self.wire.begin()?.script(Effect::Writes, &withdraw).await.map(drop)
    }

    async fn choice(&self) -> Result<Option<String>> {
        let get = redis::cmd("GET").arg(layout::CHOICE).to_owned();
        match self.wire.begin()?.cmd(Effect::Reads, &get).await? {
            Value::Nil => Ok(None),
            text => layout::text(text).map(Some),
        }
    }

    async fn set_choice(&self, choice: &str) -> Result<()> {
        let set = redis::cmd("SET").arg(layout::CHOICE).arg(choice).to_owned();
        self.wire.begin()?.cmd(Effect::Writes, &set).await.map(drop)
    }
}

/// The pairs of a hash, which older protocols answer as a flat list.
fn pairs(hash: Value) -> Result<Vec<(String, String)>> {
    let flat = match hash {
        Value::Map(pairs) => pairs,
        list => {
            let items = layout::list(list)?;
            items.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
        }
    };
    flat.into_iter().map(|(name, value)| Ok((layout::text(name)?, layout::text(value)?))).collect()
}
