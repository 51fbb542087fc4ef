//! The page of the documentation.

use std::fmt::Write as _;

use super::observed::Observed;
use super::promise::{AFTERWARDS, OUTAGES};
use super::{OPERATIONS, STRATEGIES};

const HEAD: &str = "\
# What is answered in an outage

Made by the tests from what they observe (`cargo test -p switchyard-tests --test it outages::matrix`); not to be
edited by hand.

One store, or both, is frozen (it accepts connections and never answers, as after `SIGSTOP` or behind a black hole) or
dead (connections are refused). The strategy stays in force all the time. Each cell says the status, and for a write
what the acknowledgement is worth. A `503` has a `retry-after`; nothing that was answered `503` is in doubt but a write
that was under way when the store fell silent, and repeating it is harmless.

Answers are the same before and after the breaker of the lost store has opened; they take up to what *first answers*
says before that, and AFTERWARDS at most afterwards. The breaker opens within 500 ms of refused connections and within 2 s
of silence, with or without requests, and closes by itself when the store takes writes again.

No answer is older than a write that this node has acknowledged: where only the lost store has the newest version, the
answer is `503`. What is *owed* is carried over by itself when the store is back and a strategy of two stores is in
force; under a strategy of one store it waits for the next switch.

*Stale* is what an answer may lack of what other nodes have acknowledged:

- `nothing`: what another node writes into the store that is left is read at once.
- `last moments`: the strategy acknowledges in the lost store alone, and what other nodes wrote there last is not read
  before it is carried over.
- `marked`: the store that decides cannot be asked, and the other one answers as far as it has followed. Each such answer
  has the header `x-switchyard-stale: true`.
- `-`: nothing is answered.

A copy in a node's near cache, which these tests do without, is believed for up to a second while Redis is away.
";

pub(super) fn page(observed: &[Vec<Observed>]) -> String {
    let mut page = HEAD.replace("AFTERWARDS", AFTERWARDS.1);
    for (at, strategy) in STRATEGIES.iter().enumerate() {
        let _ = write!(
            page,
            "\n## `{strategy}`\n\n| | {} | first answers | stale | owed |\n",
            OPERATIONS.join(" | ")
        );
        page.push_str("|---|---|---|---|---|---|---|---|---|\n");
        for (outage, rows) in OUTAGES.iter().zip(observed) {
            let Observed { answers, owed, stale, .. } = &rows[at];
            let _ = writeln!(
                page,
                "| {} | {} | {} | {stale} | {owed} |",
                outage.name,
                answers.join(" | "),
                outage.until_open.1
            );
        }
    }
    page
}
