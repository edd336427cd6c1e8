use std::io::{self, BufRead as _, IsTerminal as _};

use super::get::{self, Wish};
use crate::{
    failure::{Exit, Failure, Outcome},
    follow::{self, Show},
    session::Session,
};

/// Delete resources; a database's deletion policy says what becomes of its data
///
/// Nothing is ever dropped: with the policy Retain the server keeps the data and Freehold forgets
/// it; with Quarantine connections are refused and `freehold undelete` brings it back for a while.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold delete database orders
  freehold delete access/orders-report --yes --wait")]
pub(crate) struct Args {
    #[arg(value_name = "KIND[/NAME]")]
    kind: Wish,
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Do not ask; needed when nobody is at a terminal
    #[arg(short, long)]
    yes: bool,
    /// Wait until it is done
    #[arg(long)]
    wait: bool,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let wishes = get::named(&args.kind, &args.names)?;
    if wishes.is_empty() {
        return Err(Failure::usage("delete needs a name").hint(format!(
            "`freehold get {}` lists them.",
            args.kind.kind.plural()
        )));
    }
    let mut keys = Vec::new();
    for (kind, text) in &wishes {
        keys.push(session.key(*kind, get::name(text)?).await?);
    }
    if !args.yes {
        let shown: Vec<String> = keys.iter().map(ToString::to_string).collect();
        confirm(&shown.join(", ")).await?;
    }
    for key in &keys {
        let report = session.client().await?.resource_delete(key).await?;
        if session.output.is_structured() {
            session.output.value(&report)?;
        } else {
            session
                .output
                .line(format!("{}: {}", report.key, report.message))?;
        }
        if let (true, Some(operation)) = (args.wait, report.operation) {
            follow::follow(session, operation, Show::AsNews).await?;
        }
    }
    Ok(())
}

async fn confirm(what: &str) -> Outcome {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(
            Failure::usage(format!("deleting {what} needs a confirmation"))
                .hint("Say --yes where nobody can be asked."),
        );
    }
    let question = format!("Delete {what}? [y/N] ");
    let ask = move || {
        io::Write::write_all(&mut io::stderr(), question.as_bytes())?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        io::Result::Ok(answer)
    };
    let answer = tokio::task::spawn_blocking(ask)
        .await
        .map_err(io::Error::other)
        .and_then(|answer| answer)
        .map_err(|e| Failure::failed("the answer cannot be read").because(&e))?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(Failure::new(Exit::Refused, "nothing was deleted"))
    }
}
