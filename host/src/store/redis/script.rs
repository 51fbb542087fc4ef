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
script!(CONTROL, "control.lua");
script!(ANNOUNCE, "board.lua");
script!(WITHDRAW, "withdraw.lua");
// Those that write records or usage: run with [`super::call::Call::write`].
script!(PUT, "fence.lua", "put.lua");
script!(ADOPT, "fence.lua", "adopt.lua");
script!(SETTLE, "fence.lua", "settle.lua");
script!(ADD, "fence.lua", "add.lua");
script!(IDENTITY, "identity.lua");
script!(RECOUNT, "recount.lua");
script!(DANGLING, "dangling.lua");
script!(DROP, "drop.lua");
script!(COMPLETE, "complete.lua");
script!(WINDOWS, "windows.lua");
