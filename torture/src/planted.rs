//! Faults that are planted in the hosts, each with the plan that provokes it.
//!
//! The bench is believed only if it finds all of them, and nothing in the clean program under the same plans.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use switchyard_tests::proxy::Fault as Net;

use crate::fault::{Command, Fault, Target};
use crate::options::Options;
use crate::plan::{Menu, Plan};
use crate::stage::Store;

const HOST: Target = Target::Host(0);
const REDIS: Target = Target::Store(Store::Redis);
const POSTGRES: Target = Target::Store(Store::Postgres);
/// Both ways together now and then longer than the deadline of a call to Redis.
const NEARLY_TOO_LATE: Net = Net::Delay(Duration::from_millis(90), Duration::from_millis(90));
const TOO_LATE: Net = Net::Delay(Duration::from_millis(300), Duration::from_millis(300));
const SLOW: Net = Net::Delay(Duration::from_millis(40), Duration::from_millis(40));
/// How long faults are inflicted on each.
const MINUTES: f64 = 0.25;

const fn plan(
    name: &'static str,
    faults: &'static [(&'static [Fault], u64)],
    strategies: &'static [&'static str],
) -> Plan {
    Plan { name, menu: Menu::Fixed(faults), strategies, pairs: false }
}

const DUAL: &[&str] = &["dual_write"];

/// One plan for each, of its name.
pub fn plans() -> Vec<Plan> {
    vec![
        plan(
            "fill-without-compare-and-set",
            // What a host copies from PostgreSQL, after a miss or a write of its own, arrives in Redis after newer writes.
            &[(&[Fault::Net(Some(0), Store::Redis, SLOW), Fault::Admin(Command::ClearCache)], 3_000)],
            DUAL,
        ),
        plan("ttl-on-a-dirty-record", &[(&[Fault::Kill(POSTGRES)], 4_000)], DUAL),
        plan(
            "mark-apart",
            &[(&[Fault::Kill(HOST)], 100), (&[Fault::Kill(Target::Host(1))], 100)],
            &["cache_first"],
        ),
        plan("tombstone-dropped-at-once", &[(&[Fault::Kill(POSTGRES)], 3_000)], DUAL),
        plan(
            "acknowledged-before-the-receipt",
            &[(&[Fault::Kill(POSTGRES), Fault::Kill(REDIS)], 3_000)],
            DUAL,
        ),
        // One host moves the authority to Redis; the other, when it then loses Redis, must not take that for its own.
        plan(
            "epoch-check-removed",
            &[
                (&[Fault::Net(Some(1), Store::Postgres, Net::Refuse)], 3_000),
                (
                    &[
                        Fault::Net(Some(1), Store::Postgres, Net::Refuse),
                        Fault::Net(Some(0), Store::Redis, TOO_LATE),
                    ],
                    5_000,
                ),
                (&[], 15_000),
            ],
            DUAL,
        ),
        plan(
            "counter-without-event-id",
            &[(&[Fault::Net(None, Store::Redis, Net::HoldAnswers)], 600), (&[Fault::Kill(POSTGRES)], 1_500)],
            &["redis_only", "cache_first"],
        ),
        plan(
            "timed-out-connection-reused",
            &[(&[Fault::Net(None, Store::Redis, NEARLY_TOO_LATE)], 2_000)],
            &["cache_first"],
        ),
        plan("sync-copies-totals", &[(&[Fault::Admin(Command::SyncToPostgres)], 2_000)], DUAL),
        plan(
            "miss-believed",
            &[(&[Fault::FlushAll, Fault::Kill(POSTGRES)], 3_000)],
            &["dual_write", "redis_only"],
        ),
    ]
}

/// The promises that each fault breaks, of which one must be seen broken: any other red is another defect.
const BREAKS: [(&str, &[&str]); 10] = [
    ("fill-without-compare-and-set", &["I1", "I2", "I3", "I5", "I6", "late"]),
    ("ttl-on-a-dirty-record", &["I1", "I5", "I6"]),
    ("mark-apart", &["I1", "I2", "I5"]),
    ("tombstone-dropped-at-once", &["I2", "I5"]),
    ("acknowledged-before-the-receipt", &["I1", "I2", "I3"]),
    // I6 where the record that a host then does not know of is a new one.
    ("epoch-check-removed", &["I1", "I2", "I3", "I6"]),
    ("counter-without-event-id", &["I4"]),
    ("timed-out-connection-reused", &["I0"]),
    ("sync-copies-totals", &["I4"]),
    ("miss-believed", &["I6"]),
];

fn breaks(name: &str) -> &'static [&'static str] {
    BREAKS.iter().find(|(fault, _)| *fault == name).map_or(&[], |(_, rules)| rules)
}

/// What became of one run of the bench.
struct Trial {
    name: &'static str,
    red: bool,
    seconds: f64,
    /// Its line about the violations.
    violations: String,
}

impl Trial {
    /// Whether what it found is what the planted fault breaks. A violation reads `I2: 3 about 1 records`.
    fn has_found(&self) -> bool {
        let rules = self.violations.split(", ").filter_map(|part| Some(part.split_once(':')?.0));
        let broken: Vec<_> = rules.filter(|rule| breaks(self.name).contains(rule)).collect();
        self.red && !broken.is_empty()
    }
}

/// Runs every planted fault, and each plan on the clean program; true if all were found, and nothing else.
///
/// # Errors
/// When the bench cannot start itself.
pub async fn all(options: &Options, seed: u64) -> Result<bool> {
    let mut table = Vec::new();
    for plan in plans() {
        let clean = trial(options, seed, plan.name, false).await?;
        let planted = trial(options, seed, plan.name, true).await?;
        for (kind, trial) in [("clean", &clean), ("planted", &planted)] {
            let said = match (kind, trial.has_found(), trial.red) {
                ("planted", true, _) => "found".into(),
                ("planted", false, _) => format!("NOT FOUND: it breaks {}", breaks(trial.name).join(", ")),
                (_, _, true) => "RED".into(),
                _ => "green".to_owned(),
            };
            let Trial { name, seconds, violations, .. } = trial;
            println!("{kind:<8} {name:<34} {said:<8} {seconds:>5.0} s  {violations}");
        }
        table.push((clean, planted));
    }
    let found = table.iter().filter(|(_, planted)| planted.has_found()).count();
    let green = table.iter().filter(|(clean, _)| !clean.red).count();
    println!(
        "planted faults found: {found} of {}; clean runs green: {green} of {}",
        table.len(),
        table.len()
    );
    Ok(found == table.len() && green == table.len())
}

/// A process of its own, so that nothing of one run is left in the next.
async fn trial(options: &Options, seed: u64, name: &'static str, planted: bool) -> Result<Trial> {
    let began = Instant::now();
    let mut bench = tokio::process::Command::new(std::env::current_exe()?);
    bench.args(["--minutes", &MINUTES.to_string(), "--seed", &seed.to_string()]);
    bench.args(["--hosts", &options.hosts.to_string(), "--rate", &options.rate.to_string()]);
    bench.arg("--program").arg(options.program()?);
    bench.args(if planted { ["--mutation", name] } else { ["--plan", name] });
    let output = bench.stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true).output();
    let output = output.await.context("starting the bench again")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let about = said.lines().skip_while(|line| !line.starts_with("violations:"));
    let violations: Vec<_> = about.take_while(|line| !line.is_empty()).map(str::trim).collect();
    let seconds = began.elapsed().as_secs_f64();
    Ok(Trial { name, red: !output.status.success(), seconds, violations: violations.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_found_by_what_it_breaks_only() {
        assert!(plans().iter().all(|plan| !breaks(plan.name).is_empty()));
        assert_eq!(plans().len(), BREAKS.len());
        let has_found = |violations: &str, red| {
            let violations = violations.to_owned();
            Trial { name: "sync-copies-totals", red, seconds: 0.0, violations }.has_found()
        };
        assert!(has_found("violations: 3, I2: 1 about 1 records, I4: 2 about 2 records", true));
        assert!(!has_found("violations: 1, I2: 1 about 1 records", true), "another defect");
        assert!(!has_found("", true), "it could not run");
        assert!(!has_found("violations: 0", false));
    }
}
