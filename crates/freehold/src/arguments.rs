//! What may be said on the command line. Each verb's own arguments stand in the verb's file.

use std::path::PathBuf;

use clap::{
    Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
    builder::Resettable,
};
use freehold_model::Name;

use crate::commands::{
    admin, apply, audit, binding, completion, connect, delete, demo, describe, diff, doctor,
    explain, get, lint, login, migrate, operation, run, runner, serve, token, undelete,
};

const AFTER_HELP: &str = "\
Start here:
  freehold demo                             see it at work, on servers of its own
  freehold serve                            start a server; the first start makes all it needs
  freehold login                            on the same machine, finds the first token by itself
  freehold apply -f freehold.yaml --wait    declare databases and wait until they can be used
  freehold run orders -- ./my-program       run a program with its database's credentials

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused, 5 conflict, 6 unavailable,
7 undetermined, 130 interrupted. `run` and `connect` pass on their program's.";

/// Declare a database; get it placed, provisioned, migrated, connected, and audited.
#[derive(Debug, Parser)]
#[command(name = "freehold", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(disable_help_subcommand = true, subcommand_required = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// What this process was asked; ends it with help or an error when that cannot be understood.
    ///
    /// A variable that is set and empty counts as not set: that is how scripts and containers unset
    /// one, and an empty file name or address would only be refused.
    pub(crate) fn of_process() -> Self {
        let command = without_empty_variables(Self::command());
        let matches = command.get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| {
            let is_empty = argument
                .get_env()
                .is_some_and(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()));
            if is_empty {
                argument.env(Resettable::Reset)
            } else {
                argument
            }
        })
        .mut_subcommands(without_empty_variables)
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    /// Address of the server [default: http://127.0.0.1:7440]
    #[arg(
        long,
        global = true,
        env = "FREEHOLD_SERVER",
        value_name = "URL",
        help_heading = "Global options",
        hide_env = true
    )]
    pub server: Option<String>,
    /// PEM file of authorities to trust instead of the system's
    #[arg(
        long,
        global = true,
        env = "FREEHOLD_CA",
        value_name = "FILE",
        help_heading = "Global options",
        hide_env = true
    )]
    pub ca: Option<PathBuf>,
    /// File that holds the token; FREEHOLD_TOKEN may hold the token itself
    #[arg(
        long,
        global = true,
        env = "FREEHOLD_TOKEN_FILE",
        value_name = "FILE",
        help_heading = "Global options",
        hide_env = true
    )]
    pub token_file: Option<PathBuf>,
    /// Saved context to use (see `freehold login`)
    #[arg(
        long,
        global = true,
        env = "FREEHOLD_CONTEXT",
        value_name = "NAME",
        help_heading = "Global options",
        hide_env = true
    )]
    pub context: Option<Name>,
    /// Environment of the command [default: local]
    #[arg(
        short,
        long,
        global = true,
        env = "FREEHOLD_ENV",
        value_name = "NAME",
        help_heading = "Global options",
        hide_env = true
    )]
    pub env: Option<Name>,
    /// Team of the command [default: the only one you belong to]
    #[arg(
        short,
        long,
        short_alias = 'n',
        alias = "namespace",
        global = true,
        env = "FREEHOLD_TEAM",
        value_name = "NAME",
        help_heading = "Global options",
        hide_env = true
    )]
    pub team: Option<Name>,
    /// Form of the answer
    #[arg(
        short,
        long,
        global = true,
        env = "FREEHOLD_OUTPUT",
        value_name = "FORM",
        help_heading = "Global options",
        hide_env = true
    )]
    pub output: Option<Format>,
    /// Configuration file [default: freehold/freehold.toml in the XDG configuration directory]
    #[arg(
        long,
        global = true,
        env = "FREEHOLD_CONFIG",
        value_name = "FILE",
        help_heading = "Global options",
        hide_env = true
    )]
    pub config: Option<PathBuf>,
    /// Say nothing but results and errors
    #[arg(short, long, global = true, value_parser = clap::builder::FalseyValueParser::new(), env = "FREEHOLD_QUIET", help_heading = "Global options", hide_env = true)]
    pub quiet: bool,
    /// Never use colours
    #[arg(long, global = true, value_parser = clap::builder::FalseyValueParser::new(), env = "FREEHOLD_NO_COLOR", help_heading = "Global options", hide_env = true)]
    pub no_color: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    #[default]
    Table,
    /// More columns
    Wide,
    Json,
    Yaml,
    /// One `kind/name` per line
    Name,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(serve::Args),
    Demo(demo::Args),
    Login(login::Args),
    Token(token::Args),
    Apply(apply::Args),
    Diff(diff::Args),
    Get(get::Args),
    Describe(describe::Args),
    Explain(explain::Args),
    Delete(delete::Args),
    Undelete(undelete::Args),
    Run(run::Args),
    Connect(connect::Args),
    Binding(binding::Args),
    Migrate(migrate::Args),
    Lint(lint::Args),
    Operation(operation::Args),
    Audit(audit::Args),
    Admin(admin::Args),
    Doctor(doctor::Args),
    Completion(completion::Args),
    #[command(hide = true)]
    Runner(runner::Args),
}
