//! The files of the spool: one that grows, and those before it, which only wait to be counted.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{error, warn};

use super::frame;
use crate::store::UsageEvent;

/// A file does not grow beyond this by more than one group of batches.
const LARGE: u64 = 4 << 20;
const EXTENSION: &str = "spool";

/// A file that does not grow any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) events: u64,
}

/// The growing file, and where the next one goes. Every call may wait for the disk.
pub(super) struct Files {
    folder: PathBuf,
    next: u64,
    growing: Option<Growing>,
}

struct Growing {
    file: File,
    path: PathBuf,
    /// What is known to be on the disk.
    bytes: u64,
    events: u64,
}

impl Files {
    /// Opens the folder, which is created when missing, and cuts off what a crash has left half written.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, Vec<Sealed>)> {
        fs::DirBuilder::new().recursive(true).create(folder)?;
        let (mut next, mut sealed) = (0, Vec::new());
        let mut paths = fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        for path in paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == EXTENSION)) {
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            next = next.max(number.map_or(0, |number| number + 1));
            sealed.extend(recover(path)?);
        }
        Ok((Self { folder: folder.to_owned(), next, growing: None }, sealed))
    }

    /// Appends frames; they are on the disk when this returns. Answers a file that will not grow any more.
    ///
    /// # Errors
    /// When the disk is full or fails. None of the frames counts as kept then, and the next call tries anew.
    pub(super) fn append(&mut self, frames: &[u8], events: u64) -> (io::Result<()>, Option<Sealed>) {
        let growing = match self.growing() {
            Ok(growing) => growing,
            Err(error) => return (Err(error), None),
        };
        if let Err(error) = growing.file.write_all(frames) {
            // The file goes on where it was, unless even that fails.
            let restored = growing.file.set_len(growing.bytes);
            return (Err(error), if restored.is_err() { self.seal() } else { None });
        }
        // After a failed sync nobody knows what the disk has of this file.
        if let Err(error) = growing.file.sync_data() {
            return (Err(error), self.seal());
        }
        growing.bytes += frames.len() as u64;
        growing.events += events;
        let large = growing.bytes >= LARGE;
        (Ok(()), if large { self.seal() } else { None })
    }

    fn growing(&mut self) -> io::Result<&mut Growing> {
        let growing = match self.growing.take() {
            Some(growing) => growing,
            None => {
                let path = self.folder.join(format!("{:012}.{EXTENSION}", self.next));
                self.next += 1;
                let file = File::options().create_new(true).append(true).mode(0o600).open(&path)?;
                // The name must be on the disk, too.
                File::open(&self.folder)?.sync_all()?;
                Growing { file, path, bytes: 0, events: 0 }
            }
        };
        Ok(self.growing.insert(growing))
    }

    /// Lets the growing file grow no more. None when it holds nothing.
    pub(super) fn seal(&mut self) -> Option<Sealed> {
        let Growing { path, bytes, events, .. } = self.growing.take()?;
        if events == 0 {
            remove(&path);
            return None;
        }
        Some(Sealed { path, bytes, events })
    }
}

/// What an earlier run has left; none when it holds nothing.
fn recover(path: PathBuf) -> io::Result<Option<Sealed>> {
    let bytes = fs::read(&path)?;
    let frames = frame::decode(&bytes);
    if frames.whole < bytes.len() {
        let (torn, kept) = (bytes.len() - frames.whole, frames.events.len());
        warn!(path = %path.display(), torn, kept, "bytes that a crash left half written are cut off the spool");
        let file = File::options().write(true).open(&path)?;
        file.set_len(frames.whole as u64)?;
        file.sync_data()?;
    }
    if frames.events.is_empty() && frames.is_readable() {
        remove(&path);
        return Ok(None);
    }
    Ok(Some(Sealed { path, bytes: frames.whole as u64, events: frames.events.len() as u64 }))
}

/// How long ago the file grew last; no time if that is not known.
pub(super) fn age(sealed: &Sealed) -> Duration {
    let grown = fs::metadata(&sealed.path).and_then(|file| file.modified()).ok();
    grown.and_then(|at| at.elapsed().ok()).unwrap_or_default()
}

/// The events of a file, and whether there is more in it that this program cannot read.
pub(super) fn read(sealed: &Sealed) -> io::Result<(Vec<UsageEvent>, bool)> {
    let frames = frame::decode(&fs::read(&sealed.path)?);
    let readable = frames.is_readable();
    Ok((frames.events, !readable))
}

/// Ends a file whose events are counted. One with something unreadable in it is set aside.
pub(super) fn end(sealed: &Sealed, foreign: bool) {
    if !foreign {
        return remove(&sealed.path);
    }
    let aside = sealed.path.with_extension("unreadable");
    error!(path = %aside.display(), "events in the spool are damaged or another version's, and are set aside");
    if let Err(error) = fs::rename(&sealed.path, &aside) {
        error!(%error, "the file stays in the spool");
    }
}

/// A file that stays is counted again at the next start, which changes nothing.
fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        warn!(%error, path = %path.display(), "a counted file of the spool is not removed");
    }
}
