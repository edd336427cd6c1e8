use std::{ffi::OsString, path::Path, process::Command};

use freehold_api::BindingTarget;

use super::{
    binding::{self, Choice},
    run::{become_program, set_environment},
};
use crate::{
    failure::{Exit, Outcome},
    session::Session,
};

/// Open the engine's own client on a database, with a workload's credential
///
/// That is psql for PostgreSQL, mariadb for MariaDB, sqlite3 for SQLite and redis-cli for Redis.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold connect orders
  freehold connect orders --access orders-report -- -c 'select count(*) from orders'")]
pub(crate) struct Args {
    #[command(flatten)]
    choice: Choice,
    /// More arguments for the client
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let binding = binding::credentials(&args.choice, session).await?;
    let ca = binding::ca_file(&binding, session)?;
    let (program, package) = match &binding {
        BindingTarget::Postgresql(_) => ("psql", "postgresql-client"),
        BindingTarget::Mysql(_) => ("mariadb", "mariadb-client"),
        BindingTarget::Sqlite(_) => ("sqlite3", "sqlite3"),
        BindingTarget::Redis(_) => ("redis-cli", "redis-tools"),
    };
    let mut command = Command::new(program);
    command.args(own_arguments(&binding, ca.as_deref()));
    command.args(&args.arguments);
    set_environment(&mut command, &binding, None, ca.as_deref())?;
    let failure = become_program(command, &[OsString::from(program)]);
    if failure.exit == Exit::NotFound {
        let hint = format!(
            "{program} is in the package {package}. `freehold binding export` gives what any other \
             program needs."
        );
        return Err(failure.hint(hint));
    }
    Err(failure)
}

/// What a client does not read from its environment. Never the password: everyone on the machine sees
/// the arguments of a program.
fn own_arguments(binding: &BindingTarget, ca: Option<&Path>) -> Vec<OsString> {
    match binding {
        BindingTarget::Postgresql(_) => Vec::new(),
        BindingTarget::Mysql(server) => {
            let mut arguments = vec![
                format!("--user={}", server.username).into(),
                format!("--database={}", server.database).into(),
                "--protocol=tcp".into(),
            ];
            if server.sslmode == "verify-full" {
                arguments.push("--ssl-verify-server-cert".into());
            }
            if let Some(ca) = ca {
                let mut argument = OsString::from("--ssl-ca=");
                argument.push(ca);
                arguments.push(argument);
            }
            arguments
        }
        BindingTarget::Sqlite(file) if file.read_only => {
            vec!["-readonly".into(), file.path.clone().into()]
        }
        BindingTarget::Sqlite(file) => vec![file.path.clone().into()],
        BindingTarget::Redis(server) => {
            let mut arguments: Vec<OsString> = ["-h", &server.host, "-p", &server.port.to_string()]
                .map(Into::into)
                .into();
            arguments.extend(["--user", &server.username].map(Into::into));
            if server.sslmode == "verify-full" {
                arguments.extend(["--tls", "--sni", &server.host].map(Into::into));
            }
            if let Some(ca) = ca {
                arguments.extend(["--cacert".into(), ca.into()]);
            }
            arguments
        }
    }
}
