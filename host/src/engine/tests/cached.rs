//! Compiled artefacts on disk.

use std::fs;
use std::path::{Path, PathBuf};

use super::built_in::BUILT_IN;
use super::*;

fn only_file(folder: &Path) -> PathBuf {
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

async fn check(folder: &Path, limits: Limits) {
    let engine = Engine::new(Limits { in_flight: 4, ..limits }, Some(folder.to_owned())).unwrap();
    let compiled = engine.check(BUILT_IN[0].1, BOTH).await.unwrap();
    engine.smoke(&compiled).await.unwrap();
}

#[tokio::test]
async fn an_artefact_is_compiled_once() {
    let folder = tempfile::tempdir().unwrap();
    check(folder.path(), Limits::default()).await;
    let file = only_file(folder.path());
    let written = fs::metadata(&file).unwrap().modified().unwrap();
    check(folder.path(), Limits::default()).await;
    assert_eq!(fs::metadata(only_file(folder.path())).unwrap().modified().unwrap(), written);
}

#[tokio::test]
async fn a_damaged_artefact_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    check(folder.path(), Limits::default()).await;
    let file = only_file(folder.path());
    let sound = fs::read(&file).unwrap();
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 1;
    for damaged in [&flipped[..], &sound[..sound.len() / 2], &sound[..7], b"", &[0; 4096]] {
        fs::write(&file, damaged).unwrap();
        check(folder.path(), Limits::default()).await;
        assert_eq!(fs::read(only_file(folder.path())).unwrap().len(), sound.len());
    }
}

#[tokio::test]
async fn an_engine_with_other_settings_does_not_use_it() {
    let folder = tempfile::tempdir().unwrap();
    check(folder.path(), Limits::default()).await;
    check(folder.path(), Limits { memory_bytes: 128 << 20, ..Limits::default() }).await;
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}
