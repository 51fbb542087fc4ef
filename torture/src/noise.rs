//! How much of the machine others use: what they take, the hosts do not get, and that is no fault of theirs.

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::load::Recorder;

/// How often it is measured.
const EVERY: Duration = Duration::from_millis(500);
/// From this share of all processors on, of a hundred, others leave too little.
const TOO_MUCH: u64 = 40;

/// Clock ticks of all processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    all: u64,
    /// Used, by whomever.
    used: u64,
    /// Used by this process and all that it has started.
    own: u64,
}

impl Ticks {
    fn now() -> Option<Self> {
        let (all, used) = of_machine(&fs::read_to_string("/proc/stat").ok()?)?;
        let pids =
            fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        // A process that has ended meanwhile has none.
        let stats = pids.filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
        let processes = stats.filter_map(|stat| of_process(&stat)).collect();
        Some(Self { all, used, own: of_tree(std::process::id(), &processes) })
    }

    /// Of a hundred ticks since then, those that others have used.
    fn of_others(self, since: Self) -> u64 {
        let used = (self.used - since.used.min(self.used)).saturating_sub(self.own.saturating_sub(since.own));
        used * 100 / self.all.saturating_sub(since.all).max(1)
    }
}

/// All ticks, and those that were used or stolen, from the first line of `/proc/stat`.
fn of_machine(stat: &str) -> Option<(u64, u64)> {
    let numbers: Vec<u64> = stat
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|word| word.parse().ok())
        .collect();
    let all: u64 = numbers.iter().sum();
    // Idle, and waiting for a disk.
    Some((all, all - numbers.get(3)? - numbers.get(4)?))
}

/// Id, parent, and ticks with those of ended children, from `PID (NAME) STATE PARENT ...`.
fn of_process(stat: &str) -> Option<(u32, (u32, u64))> {
    let (before, after) = stat.rsplit_once(')')?;
    let words: Vec<&str> = after.split_whitespace().collect();
    let ticks = words.get(11..15)?.iter().filter_map(|word| word.parse::<u64>().ok()).sum();
    Some((before.split_whitespace().next()?.parse().ok()?, (words.get(1)?.parse().ok()?, ticks)))
}

/// The ticks of a process and of all below it.
fn of_tree(root: u32, processes: &HashMap<u32, (u32, u64)>) -> u64 {
    let is_below = |pid: &u32| {
        let parent = |pid: &u32| processes.get(pid).map(|(parent, _)| *parent);
        // Few generations; a bound, because ids are used again while they are read.
        std::iter::successors(Some(*pid), parent).take(16).any(|pid| pid == root)
    };
    processes.iter().filter(|(pid, _)| is_below(pid)).map(|(_, (_, ticks))| ticks).sum()
}

/// Notes when others leave too little, for as long as somebody records.
pub fn watch(recorder: &Arc<Recorder>) {
    let recorder = Arc::downgrade(recorder);
    std::thread::spawn(move || note(&recorder));
}

fn note(recorder: &Weak<Recorder>) {
    let mut last = Ticks::now();
    while let Some(recorder) = recorder.upgrade() {
        let from = recorder.caller.now();
        std::thread::sleep(EVERY);
        let now = Ticks::now();
        if last.zip(now).is_some_and(|(last, now)| now.of_others(last) >= TOO_MUCH) {
            recorder.note_busy(from, recorder.caller.now());
        }
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_use_is_all_that_the_own_processes_do_not() {
        let machine = "cpu  100 5 20 300 10 0 5 60 0 0\ncpu0 1 1";
        assert_eq!(of_machine(machine), Some((500, 190)));
        let process = |line: &str| of_process(line).unwrap();
        let tail = "0 0 0 0 0 0 0 0 0 10 20 3 4 20 0";
        let all = [
            process(&format!("7 (bench) S 1 {tail}")),
            process(&format!("8 (a (strange) name) S 7 {tail}")),
            process(&format!("9 (child) S 8 {tail}")),
            process(&format!("10 (other) S 1 {tail}")),
        ];
        assert_eq!(all[1], (8, (7, 37)));
        assert_eq!(of_tree(7, &all.into()), 3 * 37);
        let (before, after) = (Ticks { all: 0, used: 0, own: 0 }, Ticks { all: 200, used: 150, own: 50 });
        assert_eq!(after.of_others(before), 50);
    }
}
