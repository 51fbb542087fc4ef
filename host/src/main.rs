//! The `switchyard` command.

use std::process::ExitCode;

/// A request makes some hundred allocations on two threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    switchyard::cli::run().await
}
