//! `freehold`: the server, the command line, and the migration runner in one program.
//!
//! It reads from the top down: [`arguments`] say what is asked, [`settings`] join them with the
//! environment, the saved contexts and the configuration file, and each verb is one file in
//! [`commands`]. Results go to standard output and everything else to standard error, both through
//! [`output`]; errors leave through [`failure`], which also decides the exit code.

mod arguments;
mod commands;
mod demo;
mod failure;
mod follow;
#[cfg(test)]
mod help_tests;
mod output;
mod session;
mod settings;
mod tables;
mod traces;
mod units;

use std::process::ExitCode;

use crate::{
    arguments::{Cli, Command},
    failure::{Failure, Outcome},
    output::Output,
    session::Session,
    settings::{Settings, Surroundings},
};

fn main() -> ExitCode {
    let cli = Cli::of_process();
    let surroundings = Surroundings::of_process();
    let output = Output::of_process(&cli.global, &surroundings);
    let outcome = start(cli, &surroundings, &output);
    if let Err(failure) = &outcome {
        output.failure(failure);
    }
    failure::exit_code(&outcome).into()
}

/// Configuration, runtime, verb.
fn start(cli: Cli, surroundings: &Surroundings, output: &Output) -> Outcome {
    if let Command::Completion(args) = &cli.command {
        return commands::completion::run(args, output);
    }
    if let Command::Demo(args) = &cli.command {
        // It has servers and settings of its own, and drives this program from outside.
        return commands::demo::run(args, output);
    }
    if let Command::Runner(args) = &cli.command {
        return commands::runner::run(args);
    }
    let settings = Settings::resolve(&cli.global, surroundings);
    let runtime = runtime(&cli.command)
        .map_err(|e| Failure::failed("the program's runtime cannot be started").because(&e))?;
    if let Command::Doctor(args) = cli.command {
        return runtime.block_on(commands::doctor::run(args, settings, output));
    }
    let settings = settings?;
    let session = Session::new(settings, output.clone());
    let outcome = runtime.block_on(dispatch(cli.command, &session));
    // A read of standard input that never ends must not keep the program from ending.
    runtime.shutdown_background();
    outcome
}

/// The server uses all processors; a command waits most of its time.
fn runtime(command: &Command) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match command {
        Command::Serve(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    builder.enable_all().build()
}

async fn dispatch(command: Command, session: &Session) -> Outcome {
    match command {
        Command::Serve(args) => commands::serve::run(args, session).await,
        Command::Login(args) => commands::login::run(args, session).await,
        Command::Token(args) => commands::token::run(args, session).await,
        Command::Apply(args) => commands::apply::run(args, session).await,
        Command::Diff(args) => commands::diff::run(args, session).await,
        Command::Get(args) => commands::get::run(args, session).await,
        Command::Describe(args) => commands::describe::run(args, session).await,
        Command::Explain(args) => commands::explain::run(args, session).await,
        Command::Delete(args) => commands::delete::run(args, session).await,
        Command::Undelete(args) => commands::undelete::run(args, session).await,
        Command::Run(args) => commands::run::run(args, session).await,
        Command::Connect(args) => commands::connect::run(args, session).await,
        Command::Binding(args) => commands::binding::run(args, session).await,
        Command::Migrate(args) => commands::migrate::run(args, session).await,
        Command::Lint(args) => commands::lint::run(&args, session),
        Command::Operation(args) => commands::operation::run(args, session).await,
        Command::Audit(args) => commands::audit::run(args, session).await,
        Command::Admin(args) => commands::admin::run(args, session).await,
        Command::Completion(_) | Command::Demo(_) | Command::Runner(_) | Command::Doctor(_) => {
            unreachable!("these have run before, without a session")
        }
    }
}
