use freehold_api::ApplyOutcome;

use super::{
    apply::{self, diff_line},
    manifests::Sources,
};
use crate::{
    failure::{Exit, Failure, Outcome},
    session::Session,
};

/// Show what applying manifests would change
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold diff -f freehold.yaml
  freehold diff -f manifests/ --env prod --exit-code")]
pub(crate) struct Args {
    #[command(flatten)]
    sources: Sources,
    /// Exit with 1 when there are differences
    #[arg(long)]
    exit_code: bool,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let manifests = args.sources.read().await?;
    let request = apply::request(&manifests, session, true).await?;
    let report = apply::send(&request, &manifests, session).await?;
    let out = &session.output;
    if out.is_structured() {
        out.value(&report)?;
    } else {
        for applied in &report.applied {
            if applied.outcome != ApplyOutcome::Unchanged {
                out.line(format!("# {}", applied.key))?;
            }
            for line in applied.diff.lines() {
                out.line(diff_line(line, &|tone, text| out.paint(tone, text)))?;
            }
        }
    }
    let differs = report
        .applied
        .iter()
        .any(|applied| applied.outcome != ApplyOutcome::Unchanged);
    if args.exit_code && differs {
        return Err(Failure::silent(Exit::Failed));
    }
    Ok(())
}
