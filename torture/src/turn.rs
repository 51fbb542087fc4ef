//! One turn of a run, drawn as a whole before any of it happens: a seed draws the same turns, however long they take.

use std::time::Duration;

use crate::fault::{self, Fault};
use crate::plan::{Menu, Plan};
use crate::random::Random;

/// One or two faults, for their time, and a moment of rest.
#[derive(Debug, Clone)]
pub struct Turn {
    pub faults: Vec<Fault>,
    pub time: Duration,
    /// What is made active before, and through which host.
    pub strategy: &'static str,
    pub host: u8,
    /// What is drawn from for as long as strategies are switched.
    pub switches: Random,
    pub rest: Duration,
}

/// Draws one, the n-th, for a stage with so many hosts.
pub fn draw(plan: &Plan, number: usize, hosts: usize, random: &mut Random) -> Turn {
    let (faults, time) = faults(plan, number, hosts, random);
    Turn {
        faults,
        time,
        strategy: random.pick(plan.strategies),
        host: random.below(hosts) as u8,
        switches: Random::new(random.next()),
        rest: Duration::from_millis(100 + random.below(900) as u64),
    }
}

fn faults(plan: &Plan, number: usize, hosts: usize, random: &mut Random) -> (Vec<Fault>, Duration) {
    match &plan.menu {
        Menu::Fixed([]) => (Vec::new(), Duration::from_secs(1)),
        Menu::Fixed(menu) => {
            let (faults, ms) = menu[number % menu.len()];
            (faults.to_vec(), Duration::from_millis(ms))
        }
        Menu::Groups(groups) => {
            let mut one = || fault::draw(random.pick(groups), hosts, random);
            let mut faults = vec![one()];
            let second = one();
            let apart = second.subject() != faults[0].subject();
            if plan.pairs && apart && random.percent(40) {
                faults.push(second);
            }
            (faults, fault::duration(random))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_often_strategies_were_switched_changes_nothing_about_the_next_turn() {
        let plan = crate::plan::named("switches").unwrap();
        let turns = |switched: usize| {
            let mut random = Random::new(5);
            let turns = (0..50).map(|number| {
                let mut turn = draw(&plan, number, 3, &mut random);
                for _ in 0..switched {
                    turn.switches.next();
                }
                (turn.faults, turn.time, turn.strategy, turn.host, turn.rest)
            });
            turns.collect::<Vec<_>>()
        };
        assert_eq!(turns(0), turns(7));
        assert!((0..3).all(|host| turns(0).iter().any(|turn| turn.3 == host)), "every host is asked");
    }
}
