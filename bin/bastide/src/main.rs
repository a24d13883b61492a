//! `bastide`: the hub and its operator's commands.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong use.
#![deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic when nobody reads: see output")]

mod commands;
mod config;
mod open;
mod output;
mod server;

use std::process::ExitCode;
use std::time::Duration;

use bastide_hub::Problem;
use clap::Parser;

/// Requests allocate a lot of small things on all threads, for which glibc takes longer.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long work on other threads may hold up the end of the process. Whatever matters is on disk.
const LAST_WORK: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let command = commands::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::from(error)),
    };
    let result = runtime.block_on(command.run());
    runtime.shutdown_timeout(LAST_WORK);
    result.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &anyhow::Error) -> ExitCode {
    output::note(&format!("error: {}", full_text(error)));
    ExitCode::from(1)
}

/// The operator is at the machine, and no log holds what went wrong inside: it is shown.
fn full_text(error: &anyhow::Error) -> String {
    let detail = error.chain().find_map(|cause| match cause.downcast_ref::<Problem>() {
        Some(Problem::Internal(detail)) => Some(detail),
        _ => None,
    });
    detail.map_or_else(|| format!("{error:#}"), |detail| format!("{error:#}: {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_operator_sees_what_went_wrong_inside() {
        let result: Result<(), Problem> = Err(Problem::internal("the disk is on fire"));
        let text = full_text(&result.context("while sweeping").unwrap_err());
        assert_eq!(text, "while sweeping: internal error: the disk is on fire");
    }
}
