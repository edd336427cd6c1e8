//! The project's own commands, run as `cargo xtask <command>`.
//!
//! They are a program of the workspace rather than shell scripts, so that they are typed, tested,
//! and the same on every machine. xtask knows nothing of the product but its outside: it drives
//! cargo, the servers' installers and the built program.

#![expect(
    clippy::print_stdout,
    reason = "a command-line tool speaks on standard output"
)]

mod bench;
#[path = "../../crates/freehold-testing/src/cache.rs"]
#[expect(
    dead_code,
    reason = "xtask installs into the cache; only tests search it"
)]
mod cache;
mod command;
mod demo;
mod deny;
mod install;
mod stages;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What went wrong, in words for the person who runs the command.
pub(crate) type Result<T = ()> = std::result::Result<T, String>;

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    about = "Freehold's own commands",
    disable_version_flag = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Installs what is missing, then checks and tests everything
    Test(stages::Arguments),
    /// Shows the product at work, on servers of its own, and checks each step
    Demo(demo::Arguments),
    /// Measures and prints the figures of docs/benchmarks.md
    Bench(bench::Arguments),
    /// Checks the rules that no compiler checks: dependency direction, sizes, links, names
    Tidy,
    /// Checks dependencies against deny.toml: bans, licences, sources
    Deny,
    /// Installs the servers and tools that `test` and `demo` need
    Install,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Test(arguments) => stages::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Tidy => tidy::run(),
        Command::Deny => deny::run(),
        Command::Install => install::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nerror: {error}");
            ExitCode::FAILURE
        }
    }
}
