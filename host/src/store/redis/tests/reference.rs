//! The same random operations on Redis and on the store in memory give the same answers.

use super::server::Server;
use super::*;
use crate::store::clock::now_ms;
use crate::store::kind::{API_KEY, SESSION};
use crate::store::memory::Memory;
use crate::store::{Backend, Store, Version};

const OPERATIONS: usize = 3_000;

/// A fixed sequence of numbers (xorshift), so that a failure repeats.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn key(&mut self) -> Key {
        let kind = if self.roll(2) == 0 { &API_KEY } else { &SESSION };
        key(kind, &format!("k{}", self.roll(4)))
    }

    fn write(&mut self, clock: Version) -> Write {
        let (key, version) = (self.key(), clock + self.roll(8));
        let hash = self.roll(3).to_string();
        let fields = [("apiKey", if hash == "2" { "" } else { &hash }), ("name", "a \u{1F600} ü \"quoted\"")];
        let record = match self.roll(4) {
            0 => tombstone(&key, version),
            1 => Record { expires_at: Some(now_ms() + 3_600_000), ..record(&key, version, &fields) },
            _ => record(&key, version, &fields),
        };
        let expect = match self.roll(4) {
            0 => Expect::AtMost(clock + self.roll(8)),
            1 => Expect::Absent,
            _ => Expect::Anything,
        };
        let mark = if self.roll(2) == 0 { Mark::Dirty } else { Mark::Clean };
        Write { mark, ..Write::new(Arc::new(record), expect) }
    }
}

async fn compare(redis: &Redis, memory: &Memory, dice: &mut Dice) {
    let (key, value) = (dice.key(), dice.roll(3).to_string());
    assert_eq!(redis.get(&key).await, memory.get(&key).await, "{key}");
    let found = redis.find(&API_KEY, "hash", &value).await;
    assert_eq!(found, memory.find(&API_KEY, "hash", &value).await, "{value}");
    let (cursor, limit) = (format!("k{}", dice.roll(4)), dice.roll(4) as u32 + 1);
    let cursor = Some(cursor.as_str()).filter(|_| limit > 1);
    let (ours, theirs) = (
        redis.scan(key.kind, cursor, limit).await.unwrap(),
        memory.scan(key.kind, cursor, limit).await.unwrap(),
    );
    assert_eq!((ours.records, ours.next), (theirs.records, theirs.next));
    let sorted = |mut records: Vec<Arc<Record>>| {
        records.sort_by(|a, b| a.key.cmp(&b.key));
        records
    };
    assert_eq!(
        sorted(redis.dirty(Version::MAX, 0, 100).await.unwrap()),
        sorted(memory.dirty(Version::MAX, 0, 100).await.unwrap())
    );
    assert_eq!(redis.backlog().await, memory.backlog().await);
}

async fn run(near_cache_bytes: u64) {
    let server = Server::start(&[]).await;
    let redis = Redis::connect(RedisSettings { near_cache_bytes, ..settings(&server) }).await.unwrap();
    let (memory, mut dice) = (Memory::new(1 << 30), Dice(88_172_645_463_325_252));
    for step in 0..OPERATIONS {
        let clock = 1_700_000_000_000_000 + step as u64;
        if dice.roll(4) == 0 {
            let records = memory.dirty(Version::MAX, 0, 100).await.unwrap();
            let settled: Vec<_> =
                records.iter().map(|record| (record.key.clone(), record.version - dice.roll(2))).collect();
            redis.settle(&settled).await.unwrap();
            memory.settle(&settled).await.unwrap();
        } else {
            let write = dice.write(clock);
            assert_eq!(redis.put(&write).await, memory.put(&write).await, "step {step}: {write:?}");
        }
        compare(&redis, &memory, &mut dice).await;
    }
}

#[tokio::test]
async fn redis_answers_like_the_store_in_memory() {
    run(0).await;
}

#[tokio::test]
async fn redis_with_a_near_cache_answers_like_the_store_in_memory() {
    run(1 << 20).await;
}
