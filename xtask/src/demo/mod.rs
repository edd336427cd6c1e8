//! `cargo xtask demo`: installs what the demo needs, builds Freehold, and becomes `freehold demo`.
//!
//! The demo is a verb of the product, so that whoever has the program alone can run it. This command
//! adds what a checkout has and an installation has not: the installers, cargo, and the download of
//! Zabbix's schema. It does not start the demo but turns into it (`exec`), so that arguments, signals
//! and the exit status are the demo's own without anything handed through.
//!
//! - `zabbix`: Zabbix's schema, out of its Debian package, kept for the next time

mod zabbix;

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use clap::Args;

use crate::{Result, command, install, workspace};

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// Given to `freehold demo` as they are; `--help` shows them
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENTS"
    )]
    words: Vec<OsString>,
}

pub(crate) fn run(arguments: &Arguments) -> Result {
    let root = workspace::root();
    let mut words = arguments.words.clone();
    let build = ["build", "--locked", "--package", "freehold"];
    if only_tells(&words) {
        // What is printed is all that is wanted.
        command::capture(command::cargo(&root).args(build))?;
    } else {
        install::run()?;
        command::run(command::cargo(&root).args(build))?;
        if !names_schema(&words) {
            words.extend(schema());
        }
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |dir| root.join(dir));
    let freehold = target.join("debug/freehold");
    let error = Command::new(&freehold).arg("demo").args(words).exec();
    Err(format!("cannot run {}: {error}", freehold.display()))
}

/// The option that names Zabbix's schema, or none where it cannot be had; the demo has a sample then.
fn schema() -> Vec<OsString> {
    match zabbix::unpacked() {
        Ok(folder) => vec!["--schema".into(), folder.into()],
        Err(error) => {
            println!("Zabbix's package cannot be had here ({error}); a sample takes its place");
            Vec::new()
        }
    }
}

/// Whether the demo will print something and end, and needs nothing installed for it.
fn only_tells(words: &[OsString]) -> bool {
    let tells = |word: &OsString| ["--list", "--help", "-h"].iter().any(|told| word == told);
    words.iter().any(tells)
}

fn names_schema(words: &[OsString]) -> bool {
    words.iter().any(|word| {
        word == "--schema"
            || word
                .as_encoded_bytes()
                .starts_with(OsStr::new("--schema=").as_encoded_bytes())
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn words(line: &[&str]) -> Vec<OsString> {
        let line = ["demo"].iter().chain(line);
        Line::try_parse_from(line).unwrap().arguments.words
    }

    #[test]
    fn every_word_reaches_the_demo_as_it_is() {
        for line in [
            &["--exit"][..],
            &["--help"],
            &["-o", "json", "--schema", "/somewhere", "--keep"],
            &["--no-such-option"],
            &[],
        ] {
            assert_eq!(words(line), line, "{line:?}");
        }
    }

    #[test]
    fn the_schema_that_is_named_is_the_one_that_is_used() {
        assert!(names_schema(&words(&["--exit", "--schema=/a"])));
        assert!(names_schema(&words(&["--schema", "/a"])));
        assert!(!names_schema(&words(&["--exit", "--keep"])));
    }

    #[test]
    fn nothing_is_installed_to_print_titles() {
        assert!(only_tells(&words(&["--list"])));
        assert!(!only_tells(&words(&["--exit"])));
    }
}
