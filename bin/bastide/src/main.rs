//! `bastide`: the hub and its operator's commands.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong use.

mod commands;
mod config;
mod open;
mod output;

use std::process::ExitCode;

use clap::Parser;

/// Requests allocate a lot of small things on all threads, for which glibc takes longer.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = commands::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::from(error)),
    };
    match runtime.block_on(command.run()) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::from(1)
}
