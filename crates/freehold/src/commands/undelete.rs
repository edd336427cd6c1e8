use freehold_model::Name;

use crate::{
    failure::Outcome,
    follow::{self, Show},
    session::Session,
};

/// Bring a quarantined database back, until its date
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  freehold undelete orders --env prod --wait")]
pub(crate) struct Args {
    /// The database's name
    name: Name,
    /// Wait until it can be used again
    #[arg(long)]
    wait: bool,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let path = session.database(&args.name).await?;
    let started = session.client().await?.database_undelete(&path).await?;
    if args.wait {
        return follow::follow(session, started.operation, Show::AsNews).await;
    }
    if session.output.is_structured() {
        return session.output.value(&started);
    }
    session.output.line(format!(
        "database/{} is coming back; watch it with `freehold operation watch {}`",
        args.name, started.operation
    ))
}
