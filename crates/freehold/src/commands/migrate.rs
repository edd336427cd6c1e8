use std::path::{Path, PathBuf};

use clap::Subcommand;
use freehold_api::{MigrateRequest, MigrationList, client::DatabasePath};
use freehold_migrate::{
    Bundle, BundleError, Dialect, NewMigration, Packed, Project, new_repeatable, next_versioned,
};
use freehold_model::{
    BundleDigest, Kind, Name, ResourceKey,
    kinds::{ClassSpec, DatabaseSpec},
};

use crate::{
    failure::{Exit, Failure, Outcome},
    follow::{self, Show},
    session::Session,
    tables::Table,
    units,
};

/// Change a database's schema with versioned scripts
///
/// Scripts are named and ordered as Flyway's: V1__create_orders.sql runs once, R__views.sql again
/// whenever it has changed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make the next script's file, named in the folder's own style
    #[command(after_help = "\
Examples:
  freehold migrate new add customer email
  freehold migrate new --repeatable order views")]
    New {
        /// What it does, in a few words
        #[arg(required = true)]
        description: Vec<String>,
        /// Runs again whenever it has changed
        #[arg(long)]
        repeatable: bool,
        #[command(flatten)]
        folder: Folder,
    },
    /// Show which scripts have run and which are pending
    #[command(after_help = "\
Examples:
  freehold migrate status orders
  freehold migrate status orders --env prod --dir db/migrations")]
    Status {
        /// The database's name
        #[arg(value_name = "DATABASE")]
        database: Name,
        #[command(flatten)]
        folder: Folder,
    },
    /// Run the pending scripts
    ///
    /// The folder is packed into a bundle and uploaded first, so that the run no longer depends on
    /// this machine. Then it is followed; Ctrl-C ends the following, not the run.
    #[command(after_help = "\
Examples:
  freehold migrate apply orders
  freehold migrate apply orders --env prod --reason 'release 4.2' --no-wait")]
    Apply {
        /// The database's name
        #[arg(value_name = "DATABASE")]
        database: Name,
        #[command(flatten)]
        folder: Folder,
        /// What for; kept in the audit log
        #[arg(long, default_value = "")]
        reason: String,
        /// Do not wait until it is done
        #[arg(long)]
        no_wait: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Folder {
    /// The folder of the scripts
    #[arg(long, value_name = "DIR", default_value = "migrations")]
    dir: PathBuf,
    /// The project's flyway.toml or flyway.conf; the one in the folder when absent
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    config: Option<PathBuf>,
}

impl Folder {
    fn project(&self) -> Result<Project, BundleError> {
        match &self.config {
            None => Project::of_folder(&self.dir),
            Some(file) => {
                let mut project = Project::of_settings(file)?;
                if project.folders.is_empty() {
                    let beside = file.parent().unwrap_or(Path::new(""));
                    project.folders.push(beside.join(&self.dir));
                }
                Ok(project)
            }
        }
    }

    /// Where the scripts are, in words.
    fn shown(&self) -> String {
        let place = self.config.as_ref().unwrap_or(&self.dir);
        place.display().to_string()
    }

    fn exists(&self) -> bool {
        self.config.as_ref().unwrap_or(&self.dir).exists()
    }
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    match args.verb {
        Verb::New {
            description,
            repeatable,
            folder,
        } => new(&description.join(" "), repeatable, &folder.dir, session),
        Verb::Status { database, folder } => status(&database, &folder, session).await,
        Verb::Apply {
            database,
            folder,
            reason,
            no_wait,
        } => apply(&database, &folder, reason, !no_wait, session).await,
    }
}

fn new(description: &str, repeatable: bool, dir: &Path, session: &Session) -> Outcome {
    if !description.chars().any(char::is_alphanumeric) {
        return Err(Failure::usage(
            "a script needs a description of letters or digits",
        ));
    }
    std::fs::create_dir_all(dir).map_err(|e| Failure::on_file("cannot make", dir, &e))?;
    let entries = std::fs::read_dir(dir)
        .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
        .map_err(|e| Failure::on_file("cannot read", dir, &e))?;
    let names: Vec<String> = entries
        .iter()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let NewMigration { file_name, content } = if repeatable {
        new_repeatable(description)
    } else {
        next_versioned(names.iter().map(String::as_str), description, session.now())
    };
    let path = dir.join(file_name);
    let mut file =
        std::fs::File::create_new(&path).map_err(|e| Failure::on_file("cannot make", &path, &e))?;
    std::io::Write::write_all(&mut file, content.as_bytes())
        .map_err(|e| Failure::on_file("cannot write", &path, &e))?;
    session.output.line(path.display().to_string())
}

/// Whose SQL the scripts are in: that of the database's engine, which its class names.
async fn dialect(database: &DatabasePath, session: &Session) -> Outcome<Dialect> {
    let client = session.client().await?;
    let database = client
        .resource_get(&ResourceKey {
            kind: Kind::Database,
            environment: Some(database.environment.clone()),
            team: Some(database.team.clone()),
            name: database.name.clone(),
        })
        .await?;
    let unreadable = |what: &str, e: &serde_json::Error| {
        Failure::failed(format!("the server's {what} cannot be read: {e}"))
    };
    let spec: DatabaseSpec =
        serde_json::from_value(database.spec).map_err(|e| unreadable("database resource", &e))?;
    let class = client
        .resource_get(&ResourceKey {
            kind: Kind::Class,
            environment: database.metadata.environment.clone(),
            team: None,
            name: spec.class,
        })
        .await?;
    let class: ClassSpec =
        serde_json::from_value(class.spec).map_err(|e| unreadable("class resource", &e))?;
    class
        .engine
        .as_str()
        .parse()
        .map_err(|e: freehold_migrate::UnknownDialect| Failure::failed(e.to_string()))
}

/// Everything that is wrong with the folder, before anything is uploaded.
fn pack(dialect: Dialect, folder: &Folder, session: &Session) -> Outcome<Packed> {
    let refused = |error: BundleError| match &error {
        BundleError::Refused(_) => Failure::failed(format!(
            "{} cannot be packed, and nothing ran:\n{error}",
            folder.shown()
        )),
        BundleError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Failure::not_found(error.to_string())
                .hint("Say where the scripts are with --dir, or begin with `freehold migrate new`.")
        }
        _ => Failure::failed(error.to_string()),
    };
    let project = folder.project().map_err(refused)?;
    let packed = Bundle::pack_project(dialect, &project).map_err(refused)?;
    if !project.without_meaning.is_empty() {
        let names = project.without_meaning.join(", ");
        session.output.note(format!(
            "Freehold connects by itself: {names} of the project's settings have no meaning here"
        ));
    }
    for path in &packed.left_out {
        session
            .output
            .note(format!("{path} is no migration and is left out"));
    }
    let refusals = packed.bundle.check();
    if !refusals.is_empty() {
        let lines: Vec<String> = refusals.iter().map(ToString::to_string).collect();
        let message = format!(
            "these scripts cannot run, and nothing ran:\n{}",
            lines.join("\n")
        );
        return Err(Failure::failed(message));
    }
    Ok(packed)
}

async fn upload(packed: Packed, session: &Session) -> Outcome<BundleDigest> {
    let digest = packed.bundle.digest().clone();
    let size = units::bytes(packed.archive.len() as u64);
    let bar = session.output.progress(format!("uploading {size}"));
    let answer = session
        .client()
        .await?
        .bundle_put(&digest, packed.archive)
        .await;
    bar.finish_and_clear();
    let accepted = answer?;
    if accepted.new {
        session
            .output
            .note(format!("uploaded bundle {digest} ({size})"));
    }
    Ok(digest)
}

async fn status(database: &Name, folder: &Folder, session: &Session) -> Outcome {
    let path = session.database(database).await?;
    // Without a folder the history alone is worth showing.
    let bundle = if folder.exists() {
        let dialect = dialect(&path, session).await?;
        Some(upload(pack(dialect, folder, session)?, session).await?)
    } else {
        session.output.note(format!(
            "there is no {}: only the history is shown",
            folder.shown()
        ));
        None
    };
    let client = session.client().await?;
    let list = client.migration_status(&path, bundle.as_ref()).await?;
    if session.output.is_structured() {
        return session.output.value(&list);
    }
    session.output.write(&render(&list))
}

fn render(list: &MigrationList) -> String {
    if list.entries.is_empty() {
        return "no migrations yet\n".to_owned();
    }
    let mut table = Table::new(&[
        "VERSION",
        "DESCRIPTION",
        "STATE",
        "RAN AT",
        "TOOK",
        "SCRIPT",
    ]);
    for entry in &list.entries {
        let row = entry.row.as_ref();
        table.row(vec![
            entry
                .version
                .clone()
                .unwrap_or_else(|| "(repeatable)".to_owned()),
            entry.description.clone(),
            entry.state.clone(),
            row.map(|row| row.installed_on.clone()).unwrap_or_default(),
            row.map(|row| format!("{} ms", row.execution_time_ms))
                .unwrap_or_default(),
            entry.script.clone(),
        ]);
    }
    table.render()
}

async fn apply(
    database: &Name,
    folder: &Folder,
    reason: String,
    wait: bool,
    session: &Session,
) -> Outcome {
    let path = session.database(database).await?;
    let packed = pack(dialect(&path, session).await?, folder, session)?;
    let bundle = upload(packed, session).await?;
    let request = MigrateRequest { bundle, reason };
    let started = session
        .client()
        .await?
        .migration_submit(&path, &request)
        .await?;
    if !wait {
        if session.output.is_structured() {
            return session.output.value(&started);
        }
        return session.output.line(format!(
            "operation {id}; watch it with `freehold operation watch {id}`",
            id = started.operation
        ));
    }
    let outcome = follow::follow(session, started.operation, Show::AsNews).await;
    conclude(outcome, database, &path, session).await
}

/// On success says what the database is at now; on failure what to do about the script.
async fn conclude(
    outcome: Outcome,
    database: &Name,
    path: &DatabasePath,
    session: &Session,
) -> Outcome {
    match outcome {
        Ok(()) => {
            let list = session.client().await?.migration_status(path, None).await?;
            if session.output.is_structured() {
                return session.output.value(&list);
            }
            let version = list
                .entries
                .iter()
                .rev()
                .find_map(|entry| entry.row.as_ref().and(entry.version.as_deref()));
            match version {
                Some(version) => session
                    .output
                    .line(format!("database/{database} is at version {version}")),
                None => session.output.line(format!("database/{database} is migrated")),
            }
        }
        Err(failure) if failure.exit == Exit::Failed => Err(failure.hint(format!(
            "`freehold migrate status {database}` shows what ran. Correct the script and apply again."
        ))),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_history_and_what_is_pending_stand_in_one_table() {
        let list: MigrationList = serde_json::from_value(json!({
            "database": "orders",
            "entries": [
                {"version": "1", "description": "create orders", "script": "V1__create_orders.sql",
                 "state": "Success", "row": {"installedRank": 1, "installedBy": "m",
                 "installedOn": "2026-03-01 09:00:00", "executionTimeMs": 12, "success": true}},
                {"description": "views", "script": "R__views.sql", "state": "Pending"},
            ],
        }))
        .unwrap();
        insta::assert_snapshot!(render(&list), @r"
        VERSION       DESCRIPTION    STATE    RAN AT               TOOK   SCRIPT
        1             create orders  Success  2026-03-01 09:00:00  12 ms  V1__create_orders.sql
        (repeatable)  views          Pending                              R__views.sql
        ");
    }
}
