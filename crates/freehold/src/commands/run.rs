use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use freehold_api::BindingTarget;
use freehold_control::binding_formats::Forms as _;
use freehold_model::Secret;

use super::binding::{self, Choice};
use crate::{
    failure::{Exit, Failure, Outcome},
    session::Session,
};

/// Run a program with the credentials of its database
///
/// The program gets DATABASE_URL and the variables of its database's own client in its environment:
/// PGHOST, PGPASSWORD and their like for PostgreSQL, MYSQL_HOST and its like for MariaDB, SQLITE_PATH;
/// for Redis REDIS_URL, REDIS_KEY_PREFIX and their like. It takes this command's place: it receives all signals itself, and its exit code
/// is the command's. Freehold's own token is not passed on.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold run orders -- cargo run
  freehold run orders --access orders-report --prefix orders -- ./report
  freehold run orders --bind-dir ./bindings -- ./gradlew bootRun")]
pub(crate) struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Put this before each variable's name: `--prefix orders` gives ORDERS_DATABASE_URL
    #[arg(long)]
    prefix: Option<String>,
    /// Also write the binding as files below this directory and set SERVICE_BINDING_ROOT to it
    #[arg(long, value_name = "DIR")]
    bind_dir: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let credentials = binding::credentials(&args.choice, session).await?;
    let ca = binding::ca_file(&credentials, session)?;
    let mut command = program(&args.command);
    set_environment(
        &mut command,
        &credentials,
        args.prefix.as_deref(),
        ca.as_deref(),
    )?;
    if let Some(root) = &args.bind_dir {
        let root =
            std::path::absolute(root).map_err(|e| Failure::on_file("cannot use", root, &e))?;
        binding::project(&root.join(args.choice.name()), &credentials, session)?;
        command.env("SERVICE_BINDING_ROOT", root);
    }
    Err(become_program(command, &args.command))
}

fn program(words: &[OsString]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// Variables of another database that were set before must not mix with these.
const STALE: &[&str] = &[
    "PGPASSFILE",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGHOSTADDR",
    "PGSSLROOTCERT",
    "PGOPTIONS",
    "PGHOST",
    "PGPORT",
    "PGDATABASE",
    "PGUSER",
    "PGPASSWORD",
    "MYSQL_HOST",
    "MYSQL_TCP_PORT",
    "MYSQL_UNIX_PORT",
    "MYSQL_PWD",
    "MYSQL_SSL_CA",
    "SQLITE_PATH",
    "REDIS_URL",
    "REDIS_HOST",
    "REDIS_PORT",
    "REDIS_USERNAME",
    "REDIS_PASSWORD",
    "REDIS_KEY_PREFIX",
    "REDIS_CA_CERT",
    "REDISCLI_AUTH",
];

pub(crate) fn set_environment(
    command: &mut Command,
    credentials: &BindingTarget,
    prefix: Option<&str>,
    ca: Option<&Path>,
) -> Outcome {
    let variables: BTreeMap<String, Secret> =
        credentials.environment(prefix, ca.and_then(Path::to_str));
    if prefix.is_none() {
        for stale in STALE {
            command.env_remove(stale);
        }
    }
    command.env_remove("FREEHOLD_TOKEN");
    command.env_remove("FREEHOLD_TOKEN_FILE");
    for (name, value) in &variables {
        if value.expose().contains('\0') {
            return Err(Failure::failed(format!(
                "{name} holds what no environment can"
            )));
        }
        command.env(name, value.expose());
    }
    Ok(())
}

/// Returns only when the program could not be started.
pub(crate) fn become_program(mut command: Command, words: &[OsString]) -> Failure {
    let error = command.exec();
    let shown = words[0].to_string_lossy();
    match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(Exit::NotFound, format!("there is no program {shown:?}"))
                .hint("Check the spelling and PATH.")
        }
        io::ErrorKind::PermissionDenied => {
            Failure::new(Exit::Refused, format!("{shown:?} may not be run"))
                .hint("Is it a program? `chmod +x` makes a script one.")
        }
        _ => Failure::failed(format!("{shown:?} cannot be started")).because(&error),
    }
}
