//! The spool on a real disk, before stores that are a set of ids.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use super::*;

/// Counts events by id, as the stores do, while it is up.
#[derive(Default)]
struct Stores {
    counted: Mutex<BTreeMap<String, u64>>,
    down: Mutex<bool>,
    only_redis: Mutex<bool>,
    /// An id that is refused whenever it is in a batch.
    refused: Option<&'static str>,
}

#[async_trait]
impl Count for Stores {
    async fn count(&self, events: Vec<UsageEvent>) -> Result<&'static str> {
        if *self.down.lock() {
            return Err(StoreError::Unavailable("down".into()));
        }
        if events.iter().any(|event| Some(event.id.as_str()) == self.refused) {
            return Err(StoreError::Other("refused".into()));
        }
        let mut counted = self.counted.lock();
        events.into_iter().for_each(|event| *counted.entry(event.id).or_default() += 1);
        Ok(if self.is_durable() { "both" } else { "redis" })
    }

    fn is_durable(&self) -> bool {
        !*self.only_redis.lock()
    }
}

impl Stores {
    fn ids(&self) -> Vec<String> {
        self.counted.lock().keys().cloned().collect()
    }
}

fn events(ids: &[&str]) -> Vec<UsageEvent> {
    let event = |id: &&str| {
        let json = serde_json::json!({ "id": id, "key_id": "k", "model": "m", "at": "2026-01-01T00:00:00Z" });
        serde_json::from_value(json).unwrap()
    };
    ids.iter().map(event).collect()
}

fn open(folder: &Path) -> Spool {
    Spool::open(folder, CAPACITY, &Metrics::default()).unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn what_is_kept_is_counted_once_a_store_takes_it_and_then_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, stores) = (open(folder.path()), Stores::default());
    spool.keep(&events(&["a", "b"])).await.unwrap();
    spool.keep(&events(&["c"])).await.unwrap();
    assert_eq!(spool.spooled().events, 3);
    let mode = fs::metadata(&files(folder.path())[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    *stores.down.lock() = true;
    assert!(matches!(spool.drain(&stores).await, Err(StoreError::Unavailable(_))));
    spool.keep(&events(&["d"])).await.unwrap();
    *stores.down.lock() = false;
    spool.drain(&stores).await.unwrap();
    assert_eq!(stores.ids(), ["a", "b", "c", "d"]);
    assert_eq!(spool.spooled(), Spooled::default());
    assert!(files(folder.path()).is_empty());
    spool.keep(&events(&["e"])).await.unwrap();
    spool.drain(&stores).await.unwrap();
    assert_eq!(stores.ids().len(), 5);
}

/// Redis may be emptied before PostgreSQL is back.
#[tokio::test]
async fn what_redis_alone_has_counted_is_kept_until_postgres_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, stores) = (open(folder.path()), Stores::default());
    *stores.only_redis.lock() = true;
    spool.keep(&events(&["a", "b"])).await.unwrap();
    for _ in 0..3 {
        spool.drain(&stores).await.unwrap();
    }
    assert!(stores.counted.lock().values().all(|times| *times == 1), "once is enough");
    assert_eq!((spool.spooled().events, files(folder.path()).len()), (2, 1));
    assert!(spool.held.lacks(Which::Postgres) && !spool.held.lacks(Which::Redis));
    stores.counted.lock().clear();
    *stores.only_redis.lock() = false;
    spool.drain(&stores).await.unwrap();
    assert_eq!(stores.ids(), ["a", "b"]);
    assert_eq!(spool.spooled(), Spooled::default());
    assert!(files(folder.path()).is_empty());
}

/// A spool of an earlier run with two batches, of which the first is damaged; and its file.
async fn damaged(folder: &Path) -> (Spool, PathBuf) {
    let spool = open(folder);
    for id in ["a", "b"] {
        spool.keep(&events(&[id])).await.unwrap();
    }
    drop(spool);
    let path = files(folder).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[frame::HEAD + 9] ^= 0x01;
    fs::write(&path, bytes).unwrap();
    (open(folder), path)
}

#[tokio::test]
async fn a_damaged_batch_is_set_aside_and_those_behind_it_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let ((spool, path), stores) = (damaged(folder.path()).await, Stores::default());
    spool.drain(&stores).await.unwrap();
    assert_eq!((stores.ids(), spool.spooled()), (vec!["b".to_owned()], Spooled::default()));
    assert_eq!(files(folder.path()), [path.with_extension("unreadable")]);
}

/// Redis tells an event from a new one for two days.
#[tokio::test]
async fn a_damaged_batch_is_set_aside_also_when_redis_alone_had_the_others_for_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let ((spool, path), stores) = (damaged(folder.path()).await, Stores::default());
    *stores.only_redis.lock() = true;
    spool.drain(&stores).await.unwrap();
    assert_eq!((stores.ids(), files(folder.path())), (vec!["b".to_owned()], vec![path.clone()]));
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::SystemTime::now() - A_DAY * 2).unwrap();
    spool.drain(&stores).await.unwrap();
    assert_eq!(spool.spooled(), Spooled::default());
    assert_eq!(files(folder.path()), [path.with_extension("unreadable")]);
}

#[tokio::test]
async fn what_is_kept_outlasts_the_process_and_a_torn_tail_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    spool.keep(&events(&["a", "b"])).await.unwrap();
    spool.keep(&events(&["c"])).await.unwrap();
    drop(spool);
    let path = files(folder.path()).remove(0);
    let whole = fs::metadata(&path).unwrap().len();
    let mut torn = fs::read(&path).unwrap();
    torn.extend(&frame::encode(&events(&["never acknowledged"])).unwrap()[..30]);
    fs::write(&path, torn).unwrap();

    let (spool, stores) = (open(folder.path()), Stores::default());
    assert_eq!(spool.spooled(), Spooled { events: 3, bytes: whole });
    assert_eq!(fs::metadata(&path).unwrap().len(), whole);
    spool.keep(&events(&["d"])).await.unwrap();
    assert_eq!(files(folder.path()).len(), 2, "a file of an earlier run grows no more");
    drop(spool);
    let spool = open(folder.path());
    spool.drain(&stores).await.unwrap();
    assert_eq!(stores.ids(), ["a", "b", "c", "d"]);
    assert!(files(folder.path()).is_empty());
}

#[tokio::test]
async fn batches_at_once_share_a_sync() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    let began = std::time::Instant::now();
    let ids: Vec<_> = (0..500).map(|n| format!("e{n}")).collect();
    let keeps = ids.iter().map(|id| async { spool.keep(&events(&[id])).await });
    for kept in futures::future::join_all(keeps).await {
        kept.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(5), "one sync each would take 10 s: {:?}", began.elapsed());
    let stores = Stores::default();
    spool.drain(&stores).await.unwrap();
    assert_eq!(stores.ids().len(), 500);
}

#[tokio::test]
async fn a_full_spool_refuses_and_takes_again_when_it_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let frame = frame::encode(&events(&["a"])).unwrap().len() as u64;
    let spool = Spool::open(folder.path(), frame * 3, &Metrics::default()).unwrap();
    let keeps = ["a", "b", "c", "d", "e"].map(|id| spool.keep(events(&[id]).leak()));
    let kept = futures::future::join_all(keeps).await;
    assert_eq!(kept.iter().filter(|kept| kept.is_ok()).count(), 3);
    assert!(kept.iter().flat_map(|kept| kept.as_ref().err()).all(|e| e.to_string().contains("full")));
    let stores = Stores::default();
    spool.drain(&stores).await.unwrap();
    assert_eq!(stores.ids().len(), 3, "what was refused is not counted");
    spool.keep(&events(&["f"])).await.unwrap();
}

#[tokio::test]
async fn one_event_that_is_refused_stops_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    let stores = Stores { refused: Some("bad"), ..Stores::default() };
    spool.keep(&events(&["a", "bad", "b"])).await.unwrap();
    assert!(matches!(spool.drain(&stores).await, Err(StoreError::Other(_))));
    spool.keep(&events(&["c"])).await.unwrap();
    spool.drain(&stores).await.unwrap_err();
    assert_eq!(stores.ids(), ["a", "b", "c"]);
    assert_eq!(spool.spooled().events, 3, "its file stays");
    let stores = Stores::default();
    spool.drain(&stores).await.unwrap();
    assert_eq!(spool.spooled(), Spooled::default());
}

/// What another version wrote is neither counted nor thrown away.
#[tokio::test]
async fn what_cannot_be_read_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    spool.keep(&events(&["a"])).await.unwrap();
    drop(spool);
    let path = files(folder.path()).remove(0);
    let json = br#"{"of":"another version"}"#;
    let mut file = fs::read(&path).unwrap();
    file.extend((json.len() as u32).to_le_bytes());
    file.extend(crc32fast::hash(json).to_le_bytes());
    file.extend(json);
    fs::write(&path, &file).unwrap();
    let (spool, stores) = (open(folder.path()), Stores::default());
    spool.drain(&stores).await.unwrap();
    assert_eq!(stores.ids(), ["a"]);
    assert_eq!(files(folder.path()), [path.with_extension("unreadable")]);
    assert_eq!(fs::read(path.with_extension("unreadable")).unwrap(), file);
}

/// A disk of this size, unmounted when dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    fn of(size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        let mounted =
            mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).status().unwrap();
        assert!(mounted.success(), "mounting a small disk needs root");
        Self(folder)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_nothing_acknowledged_is_lost() {
    let disk = Disk::of("64k");
    let folder = disk.0.path().join("spool");
    let spool = open(&folder);
    let mut kept = Vec::new();
    let mut full = 0;
    for n in 0..1_200 {
        let id = format!("{n:04}-{}", "x".repeat(100));
        match spool.keep(&events(&[&id])).await {
            Ok(()) => kept.push(id),
            Err(error) => {
                assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
                full += 1;
                if full == 3 {
                    break;
                }
            }
        }
    }
    assert!(full == 3 && kept.len() > 100, "{full} {}", kept.len());
    assert_eq!(spool.spooled().events, kept.len() as u64);
    drop(spool);
    let (spool, stores) = (open(&folder), Stores::default());
    assert_eq!(spool.spooled().events, kept.len() as u64, "nothing else is there");
    spool.drain(&stores).await.unwrap();
    assert_eq!(stores.ids(), kept);
    spool.keep(&events(&["again"])).await.unwrap();
}
