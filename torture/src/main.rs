//! The torture bench. See `torture --help`, and the report that it prints.

mod admin;
mod call;
mod check;
mod excuse;
mod fault;
mod history;
mod inflict;
mod keys;
mod load;
mod noise;
mod options;
mod plan;
mod planted;
mod quiet;
mod random;
mod report;
mod run;
mod stage;
mod streams;
mod trials;
mod truth;
mod turn;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use history::History;
use load::Mix;
use options::Options;
use run::{Order, Tally};
use stage::Cast;

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let has_mounts = stage::own_mounts();
    stage::HAS_MOUNTS.get_or_init(|| has_mounts);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let clean = runtime.block_on(torture(&options))?;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// True if every promise was kept.
async fn torture(options: &Options) -> Result<bool> {
    let seed = options.seed.unwrap_or_else(|| jiff::Timestamp::now().as_microsecond() as u64 % 1_000_000);
    println!("to repeat: {}", options.again(seed));
    if options.mutation.as_deref() == Some("all") {
        return planted::all(options, seed).await;
    }
    let name = options.mutation.as_ref().unwrap_or(&options.plan);
    let plan = plan::named(name).with_context(|| format!("no plan {name:?}"))?;
    let cast = Cast {
        hosts: options.hosts.into(),
        program: options.program()?,
        environment: options.mutation.iter().map(|name| ("SWITCHYARD_PLANTED".into(), name.into())).collect(),
        appendfsync: "everysec",
    };
    if let Some(trials) = &options.trials {
        if let Some(count) = trials.strip_prefix("streams=") {
            let count = count.parse().with_context(|| format!("{count:?} is no number"))?;
            let clean = streams::run(count, &cast, seed).await?;
            println!("to repeat: {}", options.again(seed));
            return Ok(clean);
        }
        let (history, tally) = trials::run(trials, &cast, seed).await?;
        return Ok(judge(options, seed, &history, &tally));
    }
    let mix = Mix { per_second: options.rate, ..Mix::default() };
    let time = Duration::from_secs_f64(options.minutes * 60.0);
    println!("plan {}, seed {seed}, {} hosts, {} s of faults", plan.name, cast.hosts, time.as_secs());
    let (history, tally) = run::run(&Order { plan, seed, time, cast, mix }).await?;
    Ok(judge(options, seed, &history, &tally))
}

/// Checks, and says everything; true if every promise was kept.
fn judge(options: &Options, seed: u64, history: &History, tally: &Tally) -> bool {
    let findings = check::check(history);
    report::print(history, tally, &findings);
    println!("to repeat: {}", options.again(seed));
    findings.violations.is_empty() && !tally.is_hollow()
}
