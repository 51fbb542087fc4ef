//! The command line.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

/// Does everything to real processes that can happen to them, and checks that nothing acknowledged is lost.
#[derive(Debug, Clone, Parser)]
#[command(name = "torture")]
pub struct Options {
    /// How long faults are inflicted, in minutes.
    #[arg(long, default_value_t = 3.0)]
    pub minutes: f64,
    /// Draws the same faults and calls again. Default: another one each time.
    #[arg(long)]
    pub seed: Option<u64>,
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub hosts: u8,
    /// all, kills, pauses, network, disks, limits, losses, clocks, switches, admin, outages, long, ten-minutes, calm, or a planted fault's.
    #[arg(long, default_value = "all")]
    pub plan: String,
    /// Calls a second.
    #[arg(long, default_value_t = 350)]
    pub rate: u64,
    /// The fault that is planted in the hosts, with its plan. "all": each of them, and the clean program too.
    #[arg(long)]
    pub mutation: Option<String>,
    /// kills=N, slow-fsync=N, events=N or streams=N (through the relay of one host) in place of a plan.
    #[arg(long)]
    pub trials: Option<String>,
    /// The program of the hosts. Default: `switchyard` beside this one.
    #[arg(long)]
    pub program: Option<PathBuf>,
}

impl Options {
    /// # Errors
    /// When there is no program.
    pub fn program(&self) -> Result<PathBuf> {
        let beside = || Some(std::env::current_exe().ok()?.parent()?.join("switchyard"));
        let program = self.program.clone().or_else(beside).context("the path of this program")?;
        ensure!(program.is_file(), "no {}; run: cargo build --workspace", program.display());
        Ok(std::fs::canonicalize(program)?)
    }

    /// What repeats this run.
    pub fn again(&self, seed: u64) -> String {
        let mut line = format!("torture --seed {seed} --minutes {} --hosts {}", self.minutes, self.hosts);
        line += &format!(" --rate {}", self.rate);
        match (&self.trials, &self.mutation) {
            (Some(trials), _) => line += &format!(" --trials {trials}"),
            (None, Some(mutation)) => line += &format!(" --mutation {mutation}"),
            (None, None) => line += &format!(" --plan {}", self.plan),
        }
        if let Some(program) = &self.program {
            line += &format!(" --program {}", program.display());
        }
        line
    }
}
