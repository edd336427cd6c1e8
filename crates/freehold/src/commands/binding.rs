//! Handing a workload's credential to a program or a file. `run` and `connect` come here too.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use freehold_api::{BindingRead, BindingTarget, ListQuery, client::DatabasePath};
use freehold_control::binding_formats::{Forms as _, write_directory};
use freehold_model::{
    Kind, Name,
    kinds::{Binding, BindingSpec},
};

use super::get;
use crate::{
    failure::{Failure, Outcome},
    session::Session,
    settings::write_private,
    tables::lower,
};

/// Export the credential and address of a workload
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a binding in a form that a program can read; recorded in the audit log
    #[command(after_help = "\
Examples:
  freehold binding export orders --form env
  freehold binding export orders --access orders-checkout --form directory --to ./bindings/orders
  freehold binding export orders --form pgpass --to ~/.pgpass")]
    Export(Export),
}

#[derive(Debug, clap::Args)]
struct Export {
    #[command(flatten)]
    choice: Choice,
    #[arg(long, value_enum, default_value_t = Form::Env)]
    form: Form,
    /// Put this before each variable's name: `--prefix orders` gives ORDERS_DATABASE_URL
    #[arg(long)]
    prefix: Option<String>,
    /// Write here, readable by you only, instead of standard output; for `directory`, the directory
    #[arg(long, value_name = "PATH", required_if_eq("form", "directory"))]
    to: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// NAME='value' lines, for a shell or a .env file
    Env,
    /// One JSON object
    Json,
    /// One line of a .pgpass file, for PostgreSQL
    Pgpass,
    /// The section `client` of a my.cnf file, for MariaDB
    MyCnf,
    /// One file per key, as servicebinding.io projects them
    Directory,
}

/// Which binding of a database.
#[derive(Debug, clap::Args)]
pub(crate) struct Choice {
    /// The database's name
    #[arg(value_name = "DATABASE")]
    database: Name,
    /// The access to use, when the database has more than one; see `freehold get accesses`
    #[arg(long, value_name = "NAME")]
    access: Option<Name>,
    /// What for, in your words; kept in the audit log
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

impl Choice {
    /// What the binding's directory is called.
    pub(crate) fn name(&self) -> &str {
        self.access.as_ref().unwrap_or(&self.database).as_str()
    }
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let Verb::Export(export) = args.verb;
    let credentials = credentials(&export.choice, session).await?;
    if export.form == Form::Directory {
        let directory = export.to.as_deref().unwrap_or(Path::new("."));
        return project(directory, &credentials, session);
    }
    let ca = ca_file(&credentials, session)?;
    let ca = ca.as_deref().and_then(Path::to_str);
    let refuse = |e: &dyn std::error::Error| {
        Failure::failed(format!("the binding cannot be written in this form: {e}"))
            .hint("Use --form json.")
    };
    let text = match export.form {
        Form::Env => credentials
            .dotenv(export.prefix.as_deref(), ca)
            .map_err(|e| refuse(&e))?,
        Form::Pgpass => credentials.pgpass().map_err(|e| refuse(&e))?,
        Form::MyCnf => credentials.my_cnf(ca).map_err(|e| refuse(&e))?,
        Form::Json | Form::Directory => credentials.json(),
    };
    let text = format!("{}\n", text.expose().trim_end());
    match export.to {
        Some(path) => {
            write_private(&path, text.as_bytes())?;
            session
                .output
                .note(format!("written to {}", path.display()));
            Ok(())
        }
        None => session.output.write(&text),
    }
}

pub(crate) fn project(directory: &Path, credentials: &BindingTarget, session: &Session) -> Outcome {
    write_directory(directory, credentials)
        .map_err(|e| Failure::on_file("cannot write the binding to", directory, &e))?;
    session
        .output
        .note(format!("written to {}", directory.display()));
    Ok(())
}

/// Asks the server for the credential of the one access that is meant.
pub(crate) async fn credentials(choice: &Choice, session: &Session) -> Outcome<BindingTarget> {
    let access = match &choice.access {
        Some(access) => access.clone(),
        None => only_access(&choice.database, session).await?,
    };
    let path = DatabasePath {
        environment: session.environment(),
        team: session.team().await?,
        name: access,
    };
    let request = BindingRead {
        reason: choice.reason.clone(),
    };
    let secret = session
        .client()
        .await?
        .binding_read(&path, &request)
        .await?;
    Ok(secret.target)
}

async fn only_access(database: &Name, session: &Session) -> Outcome<Name> {
    let query = ListQuery {
        environment: Some(session.environment()),
        team: Some(session.team().await?),
        ..ListQuery::default()
    };
    let bindings = get::resources(session, Kind::Binding, query).await?;
    let mut fitting: Vec<(Name, BindingSpec)> = Vec::new();
    for resource in bindings {
        let value = serde_json::to_value(&resource).expect("a resource is plain data");
        if let Ok(binding) = serde_json::from_value::<Binding>(value)
            && &binding.spec.database == database
        {
            fitting.push((binding.metadata.name, binding.spec));
        }
    }
    choose(database, fitting)
}

fn choose(database: &Name, mut fitting: Vec<(Name, BindingSpec)>) -> Outcome<Name> {
    match fitting.len() {
        1 => Ok(fitting.remove(0).0),
        0 => Err(Failure::not_found(format!(
            "database/{database} has no credentials to hand out"
        ))
        .hint(format!(
            "`freehold describe database {database}` says whether it is ready; its manifest \
                     names workloads under `access`."
        ))),
        _ => {
            let lines: Vec<String> = fitting
                .iter()
                .map(|(name, spec)| {
                    format!(
                        "  {name}  ({}, {})",
                        spec.subject.workload,
                        lower(&spec.level)
                    )
                })
                .collect();
            let message = format!(
                "database/{database} has more than one access:\n{}",
                lines.join("\n")
            );
            Err(Failure::usage(message).hint("Say which with --access NAME."))
        }
    }
}

/// Programs want the authorities as a file. They are no secret, so they may stay in the cache, under
/// a name made of their content: no file is ever changed under a program that reads it.
pub(crate) fn ca_file(credentials: &BindingTarget, session: &Session) -> Outcome<Option<PathBuf>> {
    let Some(pem) = credentials.certificates() else {
        return Ok(None);
    };
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, pem.as_bytes());
    let name = format!("ca-{}.pem", hex::encode(digest));
    let path = session.settings.directories.cache.join(name);
    if std::fs::read(&path).ok().as_deref() != Some(pem.as_bytes()) {
        write_private(&path, pem.as_bytes())?;
    }
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use freehold_model::kinds::{AccessLevel, Subject};

    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn binding(access: &str, workload: &str) -> (Name, BindingSpec) {
        let spec = BindingSpec {
            database: name("orders"),
            subject: Subject {
                workload: name(workload),
                team: None,
            },
            level: AccessLevel::ReadWrite,
        };
        (name(access), spec)
    }

    #[test]
    fn the_only_access_is_taken_and_several_are_named() {
        let one = vec![binding("orders-web", "web")];
        assert_eq!(choose(&name("orders"), one), Ok(name("orders-web")));
        let two = vec![binding("orders-web", "web"), binding("orders-job", "job")];
        insta::assert_snapshot!(
            crate::output::render(&choose(&name("orders"), two).unwrap_err(), false),
            @r"
        error: database/orders has more than one access:
          orders-web  (web, readWrite)
          orders-job  (job, readWrite)
        hint: Say which with --access NAME.
        "
        );
        assert!(choose(&name("orders"), vec![]).is_err());
    }
}
