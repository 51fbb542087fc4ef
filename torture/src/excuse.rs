//! What each fault excuses: which refusals, and for how long. What is not here is answered in spite of the fault.

use std::time::Duration;

use switchyard_tests::proxy;

use crate::fault::{Fault, Target};
use crate::history::{At, Excuse, SECOND};
use crate::stage::Store;

/// The other store has taken over for writes by then.
const WITHOUT_REDIS: At = SECOND;
const WITHOUT_POSTGRES: At = 4 * SECOND;
/// What a machine with two cores and other work on them adds.
const NOISE: At = 3 * SECOND;
/// A store counts as back after 5 s, and then what it lacks is carried over.
const RETURNS: At = 10 * SECOND;
/// What comes back with other data is compared as a whole before it is read.
const COMPARES: At = 15 * SECOND;
/// A process starts, or wakes, and connects.
const STARTS: At = 10 * SECOND;
/// What was only slow or broken now and then is over with the calls that met it, and a breaker that they opened.
const SETTLES: At = 5 * SECOND;

/// Delays up to this are those of an ordinary network or disk.
const ORDINARY: Duration = Duration::from_millis(20);

impl Fault {
    /// None if nobody may be refused because of it.
    pub fn excuse(&self) -> Option<Excuse> {
        let only = |host: usize| Some(host as u8);
        match self {
            Self::Kill(Target::Host(host)) | Self::Pause(Target::Host(host)) | Self::Restart(host) => {
                Some(Excuse { host: only(*host), usage: true, ..after(STARTS) })
            }
            Self::Clock(host, _) => Some(Excuse { host: only(*host), ..after(RETURNS) }),
            Self::Kill(Target::Store(store)) | Self::Pause(Target::Store(store)) => Some(away(*store)),
            Self::ReadOnly | Self::Connections => Some(away(Store::Postgres)),
            Self::MaxMemory | Self::Misconf => Some(away(Store::Redis)),
            Self::Net(host, store, fault) => {
                let excuse = of_network(*store, fault)?;
                Some(Excuse { host: host.and_then(only), ..excuse })
            }
            Self::KillBackend => Some(after(SETTLES)),
            Self::FullDisk(_) => Some(after(RETURNS)),
            Self::SlowFsync(_, ms) if Duration::from_millis(*ms) <= ORDINARY => None,
            Self::SlowFsync(..) => Some(after(RETURNS)),
            Self::FlushAll | Self::OlderData => Some(after(COMPARES)),
            // Scripts are loaded again within the call, and nothing waits for a switch or for an admin.
            Self::ScriptFlush | Self::Switches | Self::Admin(_) => None,
        }
    }
}

fn of_network(store: Store, fault: &proxy::Fault) -> Option<Excuse> {
    use proxy::Fault as Net;
    match fault {
        Net::Pass => None,
        Net::Delay(by, _) if *by <= ORDINARY => None,
        Net::Delay(by, _) if *by >= Duration::from_millis(500) => Some(after(RETURNS)),
        Net::Delay(..) | Net::ResetSome(_) | Net::Slice => Some(after(SETTLES)),
        Net::Refuse | Net::Reset | Net::HoldRequests | Net::HoldAnswers | Net::BlackHole | Net::Silent => {
            Some(away(store))
        }
    }
}

fn after(after: At) -> Excuse {
    Excuse { host: None, store: None, degraded: At::MAX, usage: false, after }
}

/// A store that is not there at all: the other one stands in for it.
fn away(store: Store) -> Excuse {
    let promised = match store {
        Store::Redis => WITHOUT_REDIS,
        Store::Postgres => WITHOUT_POSTGRES,
    };
    Excuse { store: Some(store), degraded: promised + NOISE, ..after(RETURNS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_excuses_no_more_than_it_breaks() {
        let of = |fault: Fault| fault.excuse();
        let delay = |ms| proxy::Fault::Delay(Duration::from_millis(ms), Duration::from_millis(ms / 2));
        let none = [
            Fault::ScriptFlush,
            Fault::Switches,
            Fault::SlowFsync(Store::Postgres, 20),
            Fault::Net(None, Store::Redis, delay(5)),
        ];
        assert!(none.iter().all(|fault| of(*fault).is_none()));
        let cut = of(Fault::Net(Some(2), Store::Redis, proxy::Fault::Refuse));
        assert!(cut.is_some_and(|cut| cut.host == Some(2) && cut.degraded == 4 * SECOND));
        let killed = of(Fault::Kill(Target::Host(1)));
        assert!(killed.is_some_and(|killed| killed.host == Some(1)));
        let lost = of(Fault::ReadOnly);
        assert!(lost.is_some_and(|lost| lost.host.is_none() && lost.degraded == 7 * SECOND));
    }
}
