//! Plans: which faults, over which strategies.

use crate::fault::{Fault, GROUPS, Group, Target};
use crate::stage::Store;

/// The five that come with the host.
pub const STRATEGIES: [&str; 5] =
    ["dual_write", "cache_first", "database_first", "redis_only", "postgres_only"];

#[derive(Debug, Clone)]
pub struct Plan {
    pub name: &'static str,
    /// What faults are drawn from.
    pub menu: Menu,
    /// What is active between switches: one is drawn for each fault.
    pub strategies: &'static [&'static str],
    /// Whether up to two faults are in force at a time.
    pub pairs: bool,
}

impl Plan {
    /// How many turns there are at least, however short the time is.
    pub fn least(&self) -> usize {
        match self.menu {
            Menu::Groups(_) => 0,
            Menu::Fixed(menu) => menu.len(),
        }
    }
}

#[derive(Debug, Clone)]
pub enum Menu {
    Groups(&'static [Group]),
    /// These again and again, in this order, each for so many milliseconds, all at once where they share a line.
    Fixed(&'static [(&'static [Fault], u64)]),
}

const USUAL: [&str; 7] = [
    "dual_write",
    "dual_write",
    "dual_write",
    "cache_first",
    "database_first",
    "redis_only",
    "postgres_only",
];

const fn groups(name: &'static str, groups: &'static [Group]) -> Plan {
    Plan { name, menu: Menu::Groups(groups), strategies: &USUAL, pairs: true }
}

/// Every plan by its name.
pub fn plans() -> Vec<Plan> {
    vec![
        groups("all", &GROUPS),
        groups("kills", &[Group::Kills]),
        groups("pauses", &[Group::Pauses]),
        groups("network", &[Group::Network]),
        groups("disks", &[Group::Disks]),
        groups("limits", &[Group::Limits]),
        groups("losses", &[Group::Losses]),
        groups("clocks", &[Group::Clocks]),
        groups("switches", &[Group::Switches, Group::Kills]),
        groups("admin", &[Group::Admin]),
        Plan { name: "calm", menu: Menu::Fixed(&[]), strategies: &["dual_write"], pairs: false },
        Plan {
            name: "outages",
            menu: Menu::Fixed(OUTAGES),
            strategies: &["dual_write", "cache_first"],
            pairs: false,
        },
        Plan {
            name: "long",
            menu: Menu::Fixed(LONG),
            strategies: &["dual_write", "cache_first"],
            pairs: false,
        },
        Plan {
            name: "ten-minutes",
            menu: Menu::Fixed(TEN_MINUTES),
            strategies: &["dual_write"],
            pairs: false,
        },
    ]
}

/// Long enough for every limit in time and for a backlog.
const LONG: &[(&[Fault], u64)] = &[
    (&[Fault::Kill(Target::Store(Store::Postgres))], 40_000),
    (&[Fault::Kill(Target::Store(Store::Redis))], 40_000),
];
const TEN_MINUTES: &[(&[Fault], u64)] = &[
    (&[Fault::Kill(Target::Store(Store::Postgres))], 600_000),
    (&[Fault::Kill(Target::Store(Store::Redis))], 600_000),
];

/// Each store away for longer than anything is remembered, by itself and in turn.
const OUTAGES: &[(&[Fault], u64)] = &[
    (&[Fault::Kill(Target::Store(Store::Postgres))], 6_000),
    (&[Fault::Kill(Target::Store(Store::Redis))], 4_000),
    (&[Fault::Pause(Target::Store(Store::Postgres))], 4_000),
    (&[Fault::Pause(Target::Store(Store::Redis))], 4_000),
];

pub fn named(name: &str) -> Option<Plan> {
    plans().into_iter().chain(crate::planted::plans()).find(|plan| plan.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_menu_is_finished() {
        let least = |name: &str| named(name).map(|plan| plan.least());
        assert_eq!(least("ten-minutes"), Some(2));
        assert_eq!(least("outages"), Some(4));
        assert_eq!(least("all"), Some(0));
    }
}
