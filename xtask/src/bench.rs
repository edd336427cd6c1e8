//! `cargo xtask bench`: each crate's measurements are an example of that crate, so that they use
//! what its users use; this runs them in release mode and shows their tables.

use clap::Args;

use crate::{Result, command, workspace};

/// Package and example, in the order in which they are run.
const BENCHES: &[(&str, &str)] = &[
    ("freehold-store", "store_bench"),
    ("freehold-engine", "provision_bench"),
    ("freehold-migrate", "migrate_bench"),
];

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Run only these, by example name
    only: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result {
    let known: Vec<&str> = BENCHES.iter().map(|(_, example)| *example).collect();
    if let Some(unknown) = arguments
        .only
        .iter()
        .find(|name| !known.contains(&name.as_str()))
    {
        return Err(format!(
            "there is no measurement `{unknown}`; there are {}",
            known.join(", ")
        ));
    }
    let root = workspace::root();
    for (package, example) in BENCHES {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|name| name == example) {
            continue;
        }
        println!("\n=== {example} ({package})");
        command::run(command::cargo(&root).args([
            "run",
            "--quiet",
            "--release",
            "--locked",
            "--package",
            package,
            "--all-features",
            "--example",
            example,
        ]))?;
    }
    Ok(())
}
