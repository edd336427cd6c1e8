//! `cargo xtask bench`: each crate's measurements are an example of that crate, so that they use
//! what its users use; this builds them in release mode, starts one PostgreSQL server for them, runs
//! them one after another and shows their tables.
//!
//! All are built before the first is measured, so that no compiler runs beside a measurement. The load
//! is printed with the tables, because figures from a busy machine are worth less.
//!
//! - `server`: the server that is measured, which is not one of the tests'

mod server;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use serde::Deserialize;

use crate::{Result, command, workspace};
use server::Server;

/// A program that measures.
#[derive(Debug)]
struct Bench {
    package: &'static str,
    example: &'static str,
    /// What it is told of the server. All find the password in `PGPASSWORD`.
    arguments: fn(&Server) -> Vec<String>,
}

/// In the order in which they are run.
const BENCHES: &[Bench] = &[
    Bench {
        package: "freehold-store",
        example: "store_bench",
        arguments: |server| {
            let mut arguments = vec![server.folder().display().to_string()];
            arguments.extend(place(server));
            arguments.push(server::DATABASE.to_owned());
            arguments
        },
    },
    Bench {
        package: "freehold-engine",
        example: "provision_bench",
        arguments: |server| place(server).to_vec(),
    },
    Bench {
        package: "freehold-migrate",
        example: "migrate_bench",
        arguments: |server| {
            let [host, port, user] = place(server);
            vec![format!(
                "postgres://{user}@{host}:{port}/{}",
                server::DATABASE
            )]
        },
    },
];

fn place(server: &Server) -> [String; 3] {
    [
        server::HOST.to_owned(),
        server.port().to_string(),
        server::USER.to_owned(),
    ]
}

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Run only these, by example name
    only: Vec<String>,

    /// Where the databases' files are made for the time of the run [default: the temporary folder].
    /// Writing costs what this disk costs
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result {
    let benches = chosen(&arguments.only)?;
    // Ctrl-C ends the program in the foreground, and we then stop the server.
    let interrupted = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&interrupted);
    ctrlc::set_handler(move || raised.store(true, Ordering::Relaxed))
        .map_err(|error| format!("cannot listen for Ctrl-C: {error}"))?;

    let programs = build(&benches)?;
    let folder = arguments.folder.clone().unwrap_or_else(std::env::temp_dir);
    let server = Server::start(&folder)?;
    println!(
        "{}, default settings, files on {}; {} processors, load {}",
        server.version(),
        file_system(&folder),
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        load()
    );
    for bench in benches {
        println!("\n=== {} ({})", bench.example, bench.package);
        let program = programs
            .get(bench.example)
            .ok_or_else(|| format!("cargo built no program for `{}`", bench.example))?;
        let measured = measure(program, bench, &server);
        if interrupted.load(Ordering::Relaxed) {
            return Err("interrupted".to_owned());
        }
        measured?;
    }
    println!("\nload at the end {}", load());
    Ok(())
}

fn chosen(only: &[String]) -> Result<Vec<&'static Bench>> {
    let unknown = only
        .iter()
        .find(|name| !BENCHES.iter().any(|bench| bench.example == name.as_str()));
    if let Some(unknown) = unknown {
        let known: Vec<&str> = BENCHES.iter().map(|bench| bench.example).collect();
        return Err(format!(
            "there is no measurement `{unknown}`; there are {}",
            known.join(", ")
        ));
    }
    Ok(BENCHES
        .iter()
        .filter(|bench| only.is_empty() || only.iter().any(|name| name == bench.example))
        .collect())
}

/// A line of what cargo tells a program about a build, as far as we ask.
#[derive(Debug, Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
}

/// Builds the examples and returns where cargo put each.
fn build(benches: &[&Bench]) -> Result<HashMap<String, PathBuf>> {
    let mut cargo = command::cargo(&workspace::root());
    cargo.args(["build", "--release", "--locked", "--all-features"]);
    for bench in benches {
        cargo.args(["--package", bench.package, "--example", bench.example]);
    }
    println!("$ {}", command::shown(&cargo));
    let output = cargo
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("the build failed ({})", output.status));
    }
    Ok(executables(&String::from_utf8_lossy(&output.stdout)))
}

/// Every program that a build made, by its name. Lines of other shapes tell of other things.
fn executables(messages: &str) -> HashMap<String, PathBuf> {
    messages
        .lines()
        .filter_map(|line| {
            let message: Message = serde_json::from_str(line).ok()?;
            Some((message.target?.name, message.executable?))
        })
        .collect()
}

/// Runs a measurement with its output shown as it comes. The reader's own settings for PostgreSQL stay
/// out of it.
fn measure(program: &Path, bench: &Bench, server: &Server) -> Result {
    let mut command = Command::new(program);
    server::forget_settings(&mut command);
    let status = command
        .args((bench.arguments)(server))
        .env("PGPASSWORD", server.password())
        .env("PATH", server.search_path()?)
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("cannot run {}: {error}", bench.example))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!(
            "`{}` failed ({status}); the end of the server's log:\n{}",
            bench.example,
            server.log_end()
        ))
    }
}

/// The kind of file system, because one in memory makes every flush to disk free.
fn file_system(folder: &Path) -> String {
    let asked = command::capture(
        Command::new("findmnt")
            .args(["--noheadings", "--output=FSTYPE", "--target"])
            .arg(folder),
    );
    // One line per mount of the same place, of which the last one hides the others.
    match asked
        .as_deref()
        .map(|kinds| kinds.lines().last().unwrap_or_default().trim())
    {
        Ok(kind @ ("tmpfs" | "ramfs")) => {
            format!("{kind} (in memory, where flushing to disk is free: see --folder)")
        }
        Ok(kind) if !kind.is_empty() => kind.to_owned(),
        _ => "a file system of unknown kind".to_owned(),
    }
}

/// How many processes have wanted to run in the last minute.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ')
        .next()
        .filter(|load| !load.is_empty())
        .unwrap_or("unknown")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_run_or_those_that_are_named_in_their_order_and_no_others_exist() {
        let names = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|&name| name.to_owned()).collect();
            chosen(&only).map(|benches| {
                let names: Vec<&str> = benches.iter().map(|bench| bench.example).collect();
                names.join(" ")
            })
        };
        assert_eq!(
            names(&[]).unwrap(),
            "store_bench provision_bench migrate_bench"
        );
        assert_eq!(
            names(&["migrate_bench", "store_bench"]).unwrap(),
            "store_bench migrate_bench"
        );
        let error = names(&["store"]).unwrap_err();
        assert!(error.contains("`store`") && error.contains("provision_bench"));
    }

    #[test]
    fn each_measurement_is_an_example_of_its_package() {
        for bench in BENCHES {
            let file = workspace::root().join(format!(
                "crates/{}/examples/{}.rs",
                bench.package, bench.example
            ));
            assert!(file.is_file(), "{} is missing", file.display());
        }
    }

    #[test]
    fn a_program_is_found_among_what_cargo_says() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"serde"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"store_bench"},"executable":"/target/store_bench"}
not a message
{"reason":"build-finished","success":true}"#;
        let found = executables(messages);
        assert_eq!(found.len(), 1);
        assert_eq!(found["store_bench"], Path::new("/target/store_bench"));
    }
}
