use std::{
    fs::File,
    io::{BufReader, Write as _},
    path::{Path, PathBuf},
};

use clap::Subcommand;
use freehold_api::{AuditEntry, AuditQuery, client::Download};
use freehold_audit::{Checkpoint, Report, VerifyOptions, VerifyingKey};
use freehold_model::Name;

use crate::{
    arguments::Format,
    failure::{Exit, Failure, Outcome},
    output::Tone,
    session::Session,
    tables::Table,
};

/// Read, export and verify the audit log
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show entries, newest first
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  freehold audit list --limit 20
  freehold audit list --action binding. --actor ana --team shop -o wide"
    )]
    List {
        /// Only what this subject did
        #[arg(long, value_name = "SUBJECT")]
        actor: Option<String>,
        /// Only this action, or all that begin with it, e.g. `database.`
        #[arg(long, value_name = "ACTION")]
        action: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Write the whole log as JSON Lines, for `freehold audit verify`
    #[command(after_help = "Example:\n  freehold audit export --to audit.jsonl")]
    Export {
        /// Write here instead of standard output
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Check an export without the server: any changed, dropped or reordered byte is found
    #[command(after_help = "\
Examples:
  freehold audit verify audit.jsonl
  freehold audit verify audit.jsonl --key freehold.pub --checkpoint kept-in-march.txt

Without --key the export's own key is taken, which proves that the export fits together but not who
made it. Without --checkpoint a log that was cut off at its end cannot be told from a shorter one.")]
    Verify {
        /// The export
        file: PathBuf,
        /// The log's public key, or a file that holds it
        #[arg(long, value_name = "KEY|FILE")]
        key: Option<String>,
        /// A file with a checkpoint of this log that you kept
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
    },
    /// Print the newest signed checkpoint; keep it somewhere that Freehold's operators cannot change
    #[command(after_help = "Example:\n  freehold audit checkpoint --to kept-in-march.txt")]
    Checkpoint {
        /// Write here instead of standard output
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    match args.verb {
        Verb::List {
            actor,
            action,
            limit,
        } => {
            let query = AuditQuery {
                actor,
                action,
                team: session.settings.team.clone(),
                limit: None,
                after: None,
            };
            list(query, limit, session).await
        }
        Verb::Export { to } => {
            let download = session.client().await?.audit_export().await?;
            save(download, to.as_deref(), session).await
        }
        Verb::Verify {
            file,
            key,
            checkpoint,
        } => verify(&file, key.as_deref(), checkpoint.as_deref(), session),
        Verb::Checkpoint { to } => {
            let note = session.client().await?.audit_checkpoint().await?;
            match to {
                Some(path) => std::fs::write(&path, note)
                    .map_err(|e| Failure::on_file("cannot write", &path, &e)),
                None => session.output.write(&note),
            }
        }
    }
}

async fn list(mut query: AuditQuery, limit: usize, session: &Session) -> Outcome {
    let client = session.client().await?;
    let mut entries = Vec::new();
    query.limit = Some(limit.clamp(1, 500));
    loop {
        let page = client.audit_list(&query).await?;
        entries.extend(page.items);
        match page.next {
            Some(next) if entries.len() < limit => query.after = Some(next),
            _ => break,
        }
    }
    entries.truncate(limit);
    if session.output.is_structured() {
        return session
            .output
            .value(&serde_json::json!({ "items": entries }));
    }
    let wide = session.output.format == Format::Wide;
    session.output.write(&render(&entries, wide))
}

fn render(entries: &[AuditEntry], wide: bool) -> String {
    let mut headers = vec!["INDEX", "AT", "ACTOR", "ACTION", "TARGET", "OUTCOME"];
    if wide {
        headers.extend(["REQUEST", "REASON"]);
    }
    let mut table = Table::new(&headers).right(0);
    for entry in entries {
        let target: Option<&Name> = entry.target.as_ref().map(|key| &key.name);
        let mut row = vec![
            entry.index.to_string(),
            entry.at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            entry.actor.clone(),
            entry.action.clone(),
            match (&entry.target, target) {
                (Some(key), Some(_)) => key.to_string(),
                _ => String::new(),
            },
            entry.outcome.clone(),
        ];
        if wide {
            row.extend([entry.request_id.clone(), entry.reason.clone()]);
        }
        table.row(row);
    }
    table.render()
}

/// Writes a download; a file takes its name only when it is whole.
pub(crate) async fn save(mut download: Download, to: Option<&Path>, session: &Session) -> Outcome {
    let Some(path) = to else {
        while let Some(chunk) = download.chunk().await? {
            session.output.write_bytes(&chunk)?;
        }
        return Ok(());
    };
    let failed = |e: std::io::Error| Failure::on_file("cannot write", path, &e);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let mut file =
        tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(failed)?;
    let mut bytes = 0;
    while let Some(chunk) = download.chunk().await? {
        file.write_all(&chunk).map_err(failed)?;
        bytes += chunk.len() as u64;
    }
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    let size = crate::units::bytes(bytes);
    session
        .output
        .note(format!("{size} written to {}", path.display()));
    Ok(())
}

fn verify(file: &Path, key: Option<&str>, checkpoint: Option<&Path>, session: &Session) -> Outcome {
    let options = VerifyOptions {
        key: key.map(read_key).transpose()?,
        kept: checkpoint.map(read_checkpoint).transpose()?,
    };
    let failed = |e: std::io::Error| Failure::on_file("cannot read", file, &e);
    let export = BufReader::new(File::open(file).map_err(failed)?);
    let report = freehold_audit::verify(export, &options).map_err(failed)?;
    show(&report, session)?;
    if report.is_sound() {
        Ok(())
    } else {
        Err(Failure::silent(Exit::Failed))
    }
}

fn show(report: &Report, session: &Session) -> Outcome {
    let out = &session.output;
    if out.is_structured() {
        return out.value(report);
    }
    let verdict = if report.is_sound() {
        out.paint(Tone::Good, "sound")
    } else {
        out.paint(Tone::Bad, "NOT SOUND")
    };
    out.line(format!("{verdict}\n{}", report.to_string().trim_end()))
}

/// The key itself, or a file that holds it.
fn read_key(text: &str) -> Outcome<VerifyingKey> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let path = Path::new(text);
    let content = std::fs::read_to_string(path).map_err(|e| {
        Failure::on_file(
            "this is neither a key nor can it be read as a file:",
            path,
            &e,
        )
    })?;
    content.trim().parse().map_err(|e| {
        Failure::usage(format!(
            "{} does not hold a log's public key",
            path.display()
        ))
        .because(&e)
    })
}

fn read_checkpoint(path: &Path) -> Outcome<Checkpoint> {
    let note =
        std::fs::read_to_string(path).map_err(|e| Failure::on_file("cannot read", path, &e))?;
    Checkpoint::parse(&note)
        .map_err(|e| Failure::usage(format!("{} is not a checkpoint", path.display())).because(&e))
}
