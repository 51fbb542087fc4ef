//! The scripts, each one atomic step.

use std::sync::LazyLock;

use redis::Script;

macro_rules! script {
    ($name:ident, $($file:literal),+) => {
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!($(include_str!($file)),+)));
    };
}

script!(GET, "read.lua", "get.lua");
script!(FIND, "read.lua", "find.lua");
script!(SCAN, "read.lua", "scan.lua");
script!(DIRTY, "read.lua", "dirty.lua");
script!(MARKED, "read.lua", "marked.lua");
script!(LIST, "read.lua", "list.lua");
script!(CONTROL, "control.lua");
script!(ANNOUNCE, "board.lua");
script!(WITHDRAW, "withdraw.lua");
// Those that write records or usage, or say what Redis holds: run with [`super::call::Call::write`].
script!(PUT, "fence.lua", "listed.lua", "put.lua");
script!(ADOPT, "fence.lua", "listed.lua", "adopt.lua");
script!(VANISHED, "fence.lua", "listed.lua", "vanished.lua");
script!(SETTLE, "fence.lua", "settle.lua");
script!(ADD, "fence.lua", "cost.lua", "week.lua", "add.lua");
script!(COUNTED, "fence.lua", "counted.lua");
script!(RECOUNT, "fence.lua", "cost.lua", "week.lua", "recount.lua");
script!(DROP, "fence.lua", "drop.lua");
script!(COMPLETE, "fence.lua", "complete.lua");
// Not fenced: who Redis is, and how the comparison of the stores goes on, holds by the server's run and the right to
// repair, under whichever epoch.
script!(IDENTITY, "identity.lua");
script!(DANGLING, "dangling.lua");
script!(WINDOWS, "windows.lua");
script!(RESERVE, "reserved.lua", "cost.lua", "week.lua", "reserve.lua");
script!(SPEND, "reserved.lua", "spend.lua");
script!(RENEW, "reserved.lua", "renew.lua");
script!(GIVE_BACK, "listed.lua", "give_back.lua");
