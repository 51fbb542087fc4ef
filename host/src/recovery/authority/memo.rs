//! What a node remembers beyond its end: that Redis has the last word. Without Redis nothing else would tell it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::warn;

/// A file that is there while Redis has the last word.
pub(super) struct Memo {
    path: PathBuf,
    says_redis: Arc<AtomicBool>,
}

impl Memo {
    pub(super) fn open(data: &Path) -> Self {
        let path = data.join("redis-has-the-last-word");
        let says_redis = Arc::new(AtomicBool::new(path.exists()));
        Self { path, says_redis }
    }

    pub(super) fn says_redis(&self) -> bool {
        self.says_redis.load(Ordering::Acquire)
    }

    /// Remembers whether Redis has it; that is on the disk when this returns. A disk that fails is logged: the node
    /// goes on, and would not know after a restart.
    pub(super) async fn keep(&self, has_it: bool) {
        if self.says_redis() == has_it {
            return;
        }
        let (path, says_redis) = (self.path.clone(), self.says_redis.clone());
        let kept = tokio::task::spawn_blocking(move || {
            if has_it { write(&path) } else { remove(&path) }?;
            says_redis.store(has_it, Ordering::Release);
            io::Result::Ok(())
        });
        if let Ok(Err(error)) = kept.await {
            warn!(%error, path = %self.path.display(), "not remembered which store has the last word");
        }
    }
}

fn write(path: &Path) -> io::Result<()> {
    File::create(path)?.sync_all()?;
    sync_folder(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync_folder(path),
    }
}

/// The name must be on the disk, too.
fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
