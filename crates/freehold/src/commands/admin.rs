use std::{path::PathBuf, sync::Arc};

use clap::Subcommand;
use freehold_model::{Entropy, SystemEntropy};

use super::{audit, serve};
use crate::{
    failure::{Failure, Outcome},
    session::Session,
    settings::{ServerOverrides, ServerSettings},
};

/// Back up and restore the control plane itself
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write the store and the audit log to one file, while the server runs
    ///
    /// Secrets in it are encrypted with the server's key, which is not in it: keep the key elsewhere.
    #[command(after_help = "Example:\n  freehold admin backup freehold-2026-03-01.backup")]
    Backup {
        /// The file to write
        file: PathBuf,
    },
    /// Restore a backup into an empty store, while no server runs on it
    ///
    /// Works on the store that the server section of freehold.toml names, without a server. The
    /// restored server changes nothing by itself on servers that moved on since.
    #[command(
        after_help = "Example:\n  freehold admin restore freehold-2026-03-01.backup --data-dir /srv/freehold"
    )]
    Restore {
        /// The backup
        file: PathBuf,
        /// The server's data directory
        #[arg(long, env = "FREEHOLD_DATA_DIR", value_name = "DIR", hide_env = true)]
        data_dir: Option<PathBuf>,
    },
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    match args.verb {
        Verb::Backup { file } => {
            let download = session.client().await?.backup().await?;
            audit::save(download, Some(&file), session).await?;
            session
                .output
                .note("Its secrets open with the server's key only: keep that key elsewhere.");
            Ok(())
        }
        Verb::Restore { file, data_dir } => restore(&file, data_dir, session).await,
    }
}

async fn restore(file: &std::path::Path, data_dir: Option<PathBuf>, session: &Session) -> Outcome {
    let overrides = ServerOverrides {
        data_dir,
        ..ServerOverrides::default()
    };
    let settings = ServerSettings::resolve(&session.settings, overrides)?;
    let archive = tokio::fs::File::open(file)
        .await
        .map_err(|e| Failure::on_file("cannot read", file, &e))?;
    serve::make_data_dir(&settings.data_dir, &session.settings.surroundings)?;
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let store = serve::open_store(&settings, &session.clock(), &entropy).await?;
    let report = freehold_control::restore(&store, archive).await?;
    if session.output.is_structured() {
        return session.output.value(&report);
    }
    session.output.line(format!(
        "restored {} records, as of {}",
        report.records, report.taken_at
    ))?;
    session
        .output
        .note("Put the key of that time in its place (`server.key`) before you start the server.");
    Ok(())
}
