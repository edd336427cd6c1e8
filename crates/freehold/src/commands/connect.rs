use std::{ffi::OsString, process::Command};

use super::{
    binding::{self, Choice},
    run::{become_program, set_environment},
};
use crate::{
    failure::{Exit, Outcome},
    session::Session,
};

/// Open psql on a database, with a workload's credential
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold connect orders
  freehold connect orders --access orders-report -- -c 'select count(*) from orders'")]
pub(crate) struct Args {
    #[command(flatten)]
    choice: Choice,
    /// More arguments for psql
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let credentials = binding::credentials(&args.choice, session).await?;
    let ca = binding::ca_file(&credentials, session)?;
    let mut command = Command::new("psql");
    command.args(&args.arguments);
    set_environment(&mut command, &credentials, None, ca.as_deref())?;
    let failure = become_program(command, &[OsString::from("psql")]);
    if failure.exit == Exit::NotFound {
        let hint = "psql is in the package postgresql-client. `freehold binding export` gives what \
                    any other program needs.";
        return Err(failure.hint(hint));
    }
    Err(failure)
}
