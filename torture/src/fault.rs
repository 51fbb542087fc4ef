//! The menu of faults, and how one is drawn.

use std::fmt;
use std::time::Duration;

use switchyard_tests::proxy;

use crate::random::Random;
use crate::stage::Store;

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Host(usize),
    Store(Store),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL; started again when it heals.
    Kill(Target),
    /// SIGSTOP; SIGCONT when it heals.
    Pause(Target),
    /// SIGTERM, and started again at once.
    Restart(usize),
    /// One server process of PostgreSQL's is ended by SIGTERM.
    KillBackend,
    /// Between one host, or all, and a store.
    Net(Option<usize>, Store, proxy::Fault),
    FullDisk(Store),
    /// Redis may take no more memory.
    MaxMemory,
    /// Redis refuses writes because it could not save (MISCONF).
    Misconf,
    ReadOnly,
    /// No connection to PostgreSQL is left, and those that stood are ended.
    Connections,
    ScriptFlush,
    FlushAll,
    /// Redis is killed, and comes back with what it had on disk a while ago.
    OlderData,
    SlowFsync(Store, u64),
    /// The clock of a host, in milliseconds.
    Clock(usize, i64),
    /// Strategies are switched every 200 ms, on any host.
    Switches,
    /// An admin's command to a host, which concerns no client.
    Admin(Command),
}

/// What an admin asks of a host, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Copies everything in Redis into PostgreSQL.
    SyncToPostgres,
    SyncToRedis,
    Check,
    Fix,
    ClearCache,
}

pub const COMMANDS: [Command; 5] =
    [Command::SyncToPostgres, Command::SyncToRedis, Command::Check, Command::Fix, Command::ClearCache];

impl Fault {
    /// What two faults at a time must not share.
    pub fn subject(&self) -> String {
        match self {
            Self::Kill(target) | Self::Pause(target) => format!("{target:?}"),
            Self::Restart(host) | Self::Clock(host, _) => format!("{:?}", Target::Host(*host)),
            Self::Net(host, store, _) => format!("net {host:?} {store:?}"),
            Self::FullDisk(store) | Self::SlowFsync(store, _) => format!("{:?}", Target::Store(*store)),
            Self::KillBackend | Self::ReadOnly | Self::Connections => {
                format!("{:?}", Target::Store(Store::Postgres))
            }
            Self::MaxMemory | Self::Misconf | Self::ScriptFlush | Self::FlushAll | Self::OlderData => {
                format!("{:?}", Target::Store(Store::Redis))
            }
            Self::Switches | Self::Admin(_) => "admin".into(),
        }
    }

    /// The one host that it cuts off, and from which store: all calls fail for as long as it is in force.
    pub fn cut(&self) -> Option<(u8, Store)> {
        use proxy::Fault as Net;
        let Self::Net(Some(host), store, fault) = self else { return None };
        let cuts = match fault {
            Net::Refuse
            | Net::Reset
            | Net::HoldRequests
            | Net::HoldAnswers
            | Net::BlackHole
            | Net::Silent => true,
            Net::Delay(by, _) => *by >= Duration::from_millis(500),
            Net::Pass | Net::ResetSome(_) | Net::Slice => false,
        };
        cuts.then_some((*host as u8, *store))
    }

    /// Without its numbers, for counting.
    pub fn family(&self) -> String {
        match self {
            Self::Kill(Target::Host(_)) => "kill host".into(),
            Self::Kill(Target::Store(store)) => format!("kill {store:?}"),
            Self::Pause(Target::Host(_)) => "pause host".into(),
            Self::Pause(Target::Store(store)) => format!("pause {store:?}"),
            Self::Net(host, store, fault) => {
                let name = format!("{fault:?}");
                let name = name.split('(').next().unwrap_or_default();
                format!("{name} {} {store:?}", if host.is_some() { "one host to" } else { "all to" })
            }
            Self::SlowFsync(store, ms) => format!("fsync +{ms} ms {store:?}"),
            Self::FullDisk(store) => format!("full disk {store:?}"),
            Self::Clock(_, ms) => format!("clock {:+} s", ms / 1_000),
            Self::Restart(_) => "restart host".into(),
            other => format!("{other:?}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// How long a fault may last.
const DURATIONS: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(300), Duration::from_secs(2), Duration::from_secs(8)];

pub fn duration(random: &mut Random) -> Duration {
    random.pick(&DURATIONS)
}

/// Groups of faults that a plan draws from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Kills,
    Pauses,
    Network,
    Disks,
    Limits,
    Losses,
    Clocks,
    Switches,
    Admin,
}

pub const GROUPS: [Group; 9] = [
    Group::Kills,
    Group::Pauses,
    Group::Network,
    Group::Disks,
    Group::Limits,
    Group::Losses,
    Group::Clocks,
    Group::Switches,
    Group::Admin,
];

/// One fault of a group, on a stage with so many hosts.
pub fn draw(group: Group, hosts: usize, random: &mut Random) -> Fault {
    let store = random.pick(&[Store::Redis, Store::Postgres]);
    // Drawn by itself: which host may not depend on whether it is one.
    let host = random.below(hosts);
    let target = random.pick(&[Target::Host(host), Target::Store(store), Target::Store(store)]);
    match group {
        Group::Kills => match random.below(8) {
            0 => Fault::KillBackend,
            1 => Fault::Restart(random.below(hosts)),
            _ => Fault::Kill(target),
        },
        Group::Pauses => Fault::Pause(target),
        Group::Network => network(store, hosts, random),
        Group::Disks if random.percent(30) => Fault::FullDisk(store),
        Group::Disks => Fault::SlowFsync(store, random.pick(&[20, 300, 1_500])),
        Group::Limits => random.pick(&[
            Fault::MaxMemory,
            Fault::Misconf,
            Fault::ReadOnly,
            Fault::Connections,
            Fault::ScriptFlush,
        ]),
        Group::Losses => random.pick(&[Fault::FlushAll, Fault::OlderData]),
        Group::Clocks => Fault::Clock(random.below(hosts), random.pick(&[-10_000, 10_000])),
        Group::Switches => Fault::Switches,
        Group::Admin => Fault::Admin(random.pick(&COMMANDS)),
    }
}

fn network(store: Store, hosts: usize, random: &mut Random) -> Fault {
    use proxy::Fault as Net;
    let slow = random.pick(&[5, 50, 500]);
    let fault = random.pick(&[
        Net::Refuse,
        Net::Reset,
        Net::ResetSome(10),
        Net::HoldRequests,
        Net::HoldAnswers,
        Net::BlackHole,
        Net::Delay(Duration::from_millis(slow), Duration::from_millis(slow / 2)),
        Net::Slice,
        Net::Silent,
    ]);
    let host = random.percent(50).then(|| random.below(hosts));
    Fault::Net(host, store, fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_faults_again_and_every_group_is_drawn_from() {
        let drawn = |seed| {
            let mut random = Random::new(seed);
            GROUPS.iter().cycle().take(400).map(|group| draw(*group, 3, &mut random)).collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        let families: std::collections::BTreeSet<_> = drawn(7).iter().map(Fault::family).collect();
        assert!(families.len() > 40, "{families:?}");
    }

    #[test]
    fn every_host_is_drawn() {
        for (group, make) in
            [(Group::Kills, Fault::Kill as fn(Target) -> Fault), (Group::Pauses, Fault::Pause)]
        {
            let mut random = Random::new(6);
            let drawn: Vec<_> = (0..300).map(|_| draw(group, 3, &mut random)).collect();
            assert!((0..3).all(|host| drawn.contains(&make(Target::Host(host)))), "{group:?}");
        }
    }
}
