//! The help of every command, as people see it, and what the documentation must not forget.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};

use crate::arguments::Cli;

fn visit(command: &mut Command, path: &str, see: &mut impl FnMut(&str, &mut Command)) {
    see(path, command);
    for inner in command.get_subcommands_mut() {
        let path = format!("{path} {}", inner.get_name());
        visit(inner, &path, see);
    }
}

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_help_of_every_command_is_as_committed() {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut text = String::new();
    visit(&mut command, "freehold", &mut |path, command| {
        if command.is_hide_set() {
            return;
        }
        writeln!(text, "======== {path}\n{}", command.render_help()).unwrap();
    });
    let global = "Global options:\n";
    // The global options are the same everywhere: shown once.
    let mut parts = text.split("======== ");
    let mut short = String::new();
    for (index, part) in parts.by_ref().skip(1).enumerate() {
        let part = match part.split_once(global) {
            Some((before, rest)) if index > 0 => {
                let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
                format!("{before}{after}")
            }
            _ => part.to_owned(),
        };
        writeln!(short, "======== {}", part.trim_end()).unwrap();
    }
    insta::assert_snapshot!("help", short);
}

#[test]
fn every_verb_has_an_example_in_the_documentation() {
    let documentation = include_str!("../../../docs/cli.md");
    let mut command = Cli::command();
    visit(&mut command, "freehold", &mut |path, command| {
        let is_verb = command.get_subcommands().next().is_none() && !command.is_hide_set();
        assert!(
            !is_verb || documentation.contains(path),
            "{path} is not in docs/cli.md"
        );
    });
}

#[test]
fn every_verb_shows_an_example_in_its_help() {
    let mut command = Cli::command();
    visit(&mut command, "freehold", &mut |path, command| {
        let is_verb = command.get_subcommands().next().is_none() && !command.is_hide_set();
        let after = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(!is_verb || after.contains(path), "{path} shows no example");
    });
}
