//! Compiled artefacts on disk, so that a start does not compile again.
//!
//! A file holds the SHA-256 of its artefact and the artefact. Its name has the component's digest and a
//! hash of the engine's version and settings, so nothing stale is ever asked for. What does not match is
//! ignored and written anew.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::Digest;

/// The most files that are kept; the oldest go first.
const MAX_FILES: usize = 64;

const GUARD: usize = 32;

/// A folder that belongs to this cache alone.
pub(super) struct Cache {
    folder: PathBuf,
    engine: u64,
}

impl Cache {
    pub(super) fn new(folder: PathBuf, engine: &Engine) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { folder, engine: hasher.finish() })
    }

    /// The artefact of this component, if there is a sound one.
    pub(super) fn load(&self, engine: &Engine, digest: &Digest) -> Option<Component> {
        let file = fs::read(self.path(digest)).ok()?;
        let (guard, artefact) = file.split_at_checked(GUARD)?;
        (Sha256::digest(artefact).as_slice() == guard).then(|| deserialize(engine, artefact)).flatten()
    }

    /// Keeps an artefact. Readers see all of it or nothing.
    pub(super) fn store(&self, digest: &Digest, artefact: &[u8]) -> io::Result<()> {
        let unfinished = self.folder.join(format!("{digest}.{}.tmp", std::process::id()));
        let file = [Sha256::digest(artefact).as_slice(), artefact].concat();
        fs::write(&unfinished, file)?;
        fs::rename(&unfinished, self.path(digest))?;
        self.prune()
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{digest}-{:016x}.cwasm", self.engine))
    }

    fn prune(&self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
        for file in fs::read_dir(&self.folder)? {
            let file = file?;
            files.push((file.metadata()?.modified()?, file.path()));
        }
        files.sort();
        for (_, oldest) in files.iter().rev().skip(MAX_FILES) {
            remove(oldest)?;
        }
        Ok(())
    }
}

/// Another node on the same folder may have been faster.
fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[allow(
    unsafe_code,
    reason = "a compiled artefact is machine code, which wasmtime cannot verify. This one was written by \
              this cache into a folder that only the server's user may write, and its checksum holds"
)]
fn deserialize(engine: &Engine, artefact: &[u8]) -> Option<Component> {
    // SAFETY: as in the reason above: the bytes are what `Component::serialize` returned.
    unsafe { Component::deserialize(engine, artefact) }.ok()
}
