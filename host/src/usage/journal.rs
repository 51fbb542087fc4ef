//! What is known of attempts that no store has counted yet, in the data folder: outlasts a killed process.
//!
//! One file that grows by frames of [`frame`] (the spool's), written and not synced: a machine that loses its power may
//! lose the last of it. The latest frame about an event is the one that holds, until a frame says that it is gone.
//! A file that has grown is written anew with what still holds.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use crate::recovery::spool::frame;
use crate::store::UsageEvent;

const EXTENSION: &str = "journal";
/// A file is written anew once it has grown by this, and to twice what held when it began.
const GROWTH: u64 = 4 << 20;

/// What a frame says.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry<'a> {
    /// This is what would be recorded if nothing more came.
    Holds(&'a UsageEvent),
    /// These are recorded.
    Gone(&'a [String]),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Read {
    Holds(UsageEvent),
    Gone(Vec<String>),
}

/// The growing file. Every call may wait for the disk, as long as a write into the system's cache takes.
pub(super) struct Journal {
    folder: PathBuf,
    number: u64,
    /// None after a failure that left its end unknown; the next write begins a new one.
    file: Option<File>,
    bytes: u64,
    rewrite_at: u64,
}

impl Journal {
    /// Opens the journal in a folder, which is created when missing, and answers what earlier runs have left: what
    /// is to be recorded now.
    ///
    /// # Errors
    /// When the folder cannot be created, read or written.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, Vec<UsageEvent>)> {
        fs::DirBuilder::new().recursive(true).create(folder)?;
        let mut held = BTreeMap::new();
        let mut number = 0;
        for path in files(folder)? {
            number = number.max(numbered(&path).unwrap_or(0));
            if replay(&fs::read(&path)?, &mut held) > 0 {
                let aside = path.with_extension("unreadable");
                error!(path = %aside.display(), "usage in the journal is another version's, and is set aside");
                fs::copy(&path, aside)?;
            }
        }
        let mut journal = Self { folder: folder.to_owned(), number, file: None, bytes: 0, rewrite_at: 0 };
        let left: Vec<_> = held.into_values().collect();
        journal.rewrite(left.iter())?;
        Ok((journal, left))
    }

    /// Appends a frame. `held` are the events that hold, with what this frame says.
    ///
    /// # Errors
    /// When the disk is full or fails: the frame is not there then, and those before it are.
    pub(super) fn append<'a>(
        &mut self,
        entry: &Entry<'_>,
        held: impl Iterator<Item = &'a UsageEvent>,
    ) -> io::Result<()> {
        if self.bytes >= self.rewrite_at || self.file.is_none() {
            // If it fails, not with every frame anew.
            self.rewrite_at = self.bytes + GROWTH;
            match self.rewrite(held) {
                Err(error) if self.file.is_none() => return Err(error),
                Err(_) => {}
                Ok(()) => return Ok(()),
            }
        }
        let (Some(file), Some(frame)) = (self.file.as_mut(), frame::wrap(entry)) else { return Ok(()) };
        match file.write_all(&frame) {
            Ok(()) => {
                self.bytes += frame.len() as u64;
                Ok(())
            }
            Err(error) => {
                // The file goes on where it was, unless even that fails.
                if file.set_len(self.bytes).is_err() {
                    self.file = None;
                }
                Err(error)
            }
        }
    }

    /// One whose every write fails.
    #[cfg(test)]
    pub(super) fn failing(folder: &Path) -> Self {
        let file = File::open("/dev/null").ok();
        Self { folder: folder.join("gone"), number: 0, file, bytes: 0, rewrite_at: u64::MAX }
    }

    /// Begins a new file with what holds; then the ones before it go.
    fn rewrite<'a>(&mut self, held: impl Iterator<Item = &'a UsageEvent>) -> io::Result<()> {
        let frames: Vec<_> = held.filter_map(|event| frame::wrap(&Entry::Holds(event))).collect();
        let frames = frames.concat();
        let number = self.number + 1;
        let path = self.folder.join(format!("{number:012}.{EXTENSION}"));
        let unfinished = path.with_extension("unfinished");
        let mut file =
            File::options().create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
        file.write_all(&frames)?;
        fs::rename(&unfinished, &path)?;
        let before = files(&self.folder)?.into_iter().filter(|other| *other != path);
        before.for_each(|path| remove(&path));
        self.file = Some(file);
        self.number = number;
        self.bytes = frames.len() as u64;
        self.rewrite_at = self.bytes * 2 + GROWTH;
        Ok(())
    }
}

/// The files of the journal, oldest first.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| numbered(path).is_some());
    paths.sort();
    Ok(paths)
}

fn numbered(path: &Path) -> Option<u64> {
    path.extension().filter(|extension| *extension == EXTENSION)?;
    path.file_stem()?.to_str()?.parse().ok()
}

/// Applies the frames of a file up to the first that is torn; answers how many are unreadable.
fn replay(bytes: &[u8], held: &mut BTreeMap<String, UsageEvent>) -> usize {
    let (mut at, mut unreadable) = (0, 0);
    while let Some(json) = frame::next(&bytes[at..]) {
        at += frame::HEAD + json.len();
        match serde_json::from_slice(json) {
            Ok(Read::Holds(event)) => drop(held.insert(event.id.clone(), event)),
            Ok(Read::Gone(ids)) => ids.iter().for_each(|id| drop(held.remove(id))),
            Err(_) => unreadable += 1,
        }
    }
    unreadable
}

/// A file that stays is replayed at the next start: what it has is recorded again, which changes nothing.
fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        warn!(%error, path = %path.display(), "a file of the usage journal is not removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, output_tokens: u64) -> UsageEvent {
        let json = serde_json::json!({
            "id": id, "key_id": "k", "model": "m", "at": "2026-01-01T00:00:00Z",
            "output_tokens": output_tokens, "partial": true,
        });
        serde_json::from_value(json).unwrap()
    }

    fn left(folder: &Path) -> Vec<(String, u64)> {
        let (_, left) = Journal::open(folder).unwrap();
        left.into_iter().map(|event| (event.id, event.output_tokens)).collect()
    }

    #[test]
    fn the_latest_holds_until_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, none) = Journal::open(folder.path()).unwrap();
        assert!(none.is_empty());
        for (id, tokens) in [("a", 1), ("b", 2), ("c", 3), ("b", 20)] {
            journal.append(&Entry::Holds(&event(id, tokens)), std::iter::empty()).unwrap();
        }
        journal.append(&Entry::Gone(&["a".into()]), std::iter::empty()).unwrap();
        drop(journal);
        let held = [("b".to_owned(), 20), ("c".to_owned(), 3)];
        assert_eq!(left(folder.path()), held);
        assert_eq!(left(folder.path()), held, "a start that records nothing loses nothing");
    }

    #[test]
    fn a_torn_end_costs_no_frame_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(folder.path()).unwrap();
        journal.append(&Entry::Holds(&event("a", 1)), std::iter::empty()).unwrap();
        journal.append(&Entry::Holds(&event("b", 2)), std::iter::empty()).unwrap();
        drop(journal);
        let path = files(folder.path()).unwrap().remove(0);
        let length = fs::metadata(&path).unwrap().len();
        File::options().write(true).open(&path).unwrap().set_len(length - 3).unwrap();
        assert_eq!(left(folder.path()), [("a".to_owned(), 1)]);
    }

    #[test]
    fn a_file_that_has_grown_is_written_anew_with_what_holds() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(folder.path()).unwrap();
        let held = [event("open", 7)];
        for n in 0..40_000 {
            let event = event(&format!("e{n}"), n);
            journal.append(&Entry::Holds(&event), held.iter()).unwrap();
        }
        let bytes: u64 = files(folder.path()).unwrap().iter().map(|p| fs::metadata(p).unwrap().len()).sum();
        assert!(bytes < 2 * GROWTH, "{bytes}");
        drop(journal);
        assert!(left(folder.path()).contains(&("open".to_owned(), 7)));
    }
}
