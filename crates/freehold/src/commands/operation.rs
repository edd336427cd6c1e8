use clap::Subcommand;
use freehold_api::OperationQuery;
use freehold_model::Name;

use super::get;
use crate::{
    failure::Outcome,
    follow::{self, Show},
    session::Session,
};

/// List, watch and steer operations
#[derive(Debug, clap::Args)]
#[command(visible_alias = "op")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List operations, newest first
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  freehold operation list
  freehold operation list --open -A
  freehold operation list --database orders --limit 5"
    )]
    List {
        /// Only those that are not finished
        #[arg(long)]
        open: bool,
        /// Only those on this database
        #[arg(long, value_name = "NAME")]
        database: Option<Name>,
        /// Of all teams that you may see
        #[arg(short = 'A', long = "all-teams")]
        all_teams: bool,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show one operation and its events so far
    #[command(after_help = "Example:\n  freehold operation get 0198f0a0-… -o yaml")]
    Get { id: String },
    /// Follow an operation to its end; Ctrl-C ends the following, not the operation
    #[command(after_help = "\
Examples:
  freehold operation watch 0198f0a0-…
  freehold operation watch 0198f0a0-… --after 12 -o json")]
    Watch {
        id: String,
        /// Only events after this sequence number
        #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
        after: u64,
    },
    /// Ask an operation to stop, where it still can
    #[command(after_help = "Example:\n  freehold operation cancel 0198f0a0-…")]
    Cancel { id: String },
    /// Go on with an operation that waits for a person
    #[command(after_help = "Example:\n  freehold operation resume 0198f0a0-…")]
    Resume { id: String },
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    match args.verb {
        Verb::List {
            open,
            database,
            all_teams,
            limit,
        } => {
            let team = if all_teams {
                None
            } else {
                Some(session.team().await?)
            };
            let query = OperationQuery {
                environment: Some(session.environment()),
                team,
                database,
                open,
                limit: None,
                after: None,
            };
            let found = get::operations(session, query, limit).await?;
            get::show_operations(&found, session)
        }
        Verb::Get { id } => show(&id, session).await,
        Verb::Watch { id, after } => {
            follow::follow_from(session, get::operation_id(&id)?, after, Show::AsResult).await
        }
        Verb::Cancel { id } => {
            let id = get::operation_id(&id)?;
            let view = session.client().await?.operation_cancel(id).await?;
            get::show_operations(&[view], session)
        }
        Verb::Resume { id } => {
            let id = get::operation_id(&id)?;
            let view = session.client().await?.operation_resume(id).await?;
            get::show_operations(&[view], session)
        }
    }
}

async fn show(id: &str, session: &Session) -> Outcome {
    let id = get::operation_id(id)?;
    let found = session.client().await?.operation_events(id, 0).await?;
    if session.output.is_structured() {
        return session.output.value(&found);
    }
    get::show_operations(std::slice::from_ref(&found.operation), session)?;
    let message = &found.operation.spec.message;
    if message.contains('\n') {
        session.output.line(format!("\n{message}"))?;
    }
    session.output.line("")?;
    for event in &found.events {
        session.output.line(follow::event_line(event))?;
    }
    Ok(())
}
