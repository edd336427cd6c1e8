mod ready;

use std::{fmt::Write as _, time::Duration};

use freehold_api::{Applied, ApplyOutcome, ApplyReport, ApplyRequest, client};
use freehold_model::{Name, ResourceKey};

use super::{
    explain,
    manifests::{Manifests, Sources},
};
use crate::{
    arguments::Format,
    failure::{Exit, Outcome},
    follow::{self, Show},
    output::Tone,
    session::Session,
};

/// Declare resources: all manifests are accepted together, or none
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold apply -f freehold.yaml --wait
  freehold apply -f manifests/ --env prod --dry-run
  freehold apply -f manifests/ --prune shop
  generate | freehold apply -f -")]
pub(crate) struct Args {
    #[command(flatten)]
    sources: Sources,
    /// Decide everything, show what would change and where databases would be placed, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Wait until everything is ready
    #[arg(long)]
    wait: bool,
    /// How long to wait, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, requires = "wait")]
    timeout: u64,
    /// Delete what was applied under this set before and is not among the manifests any more
    #[arg(long, value_name = "SET")]
    prune: Option<Name>,
    /// Take over fields that another manager owns
    #[arg(long)]
    force: bool,
    /// Who owns the fields
    #[arg(long, value_name = "NAME", default_value = "cli")]
    field_manager: String,
}

/// What `apply` and `diff` ask of the server.
pub(crate) async fn request(
    manifests: &Manifests,
    session: &Session,
    dry_run: bool,
) -> Outcome<ApplyRequest> {
    // Only the server can say whether the manifests need a team; without one it names those.
    let team = match session.team().await {
        Ok(team) => Some(team),
        Err(failure) if failure.exit == Exit::Usage => None,
        Err(failure) => return Err(failure),
    };
    Ok(ApplyRequest {
        manifests: manifests.text.clone(),
        environment: session.environment(),
        team,
        manager: Some("cli".to_owned()),
        force: false,
        dry_run,
        prune_set: None,
    })
}

/// Sends the request; a fault in a manifest is told by the user's file and line.
pub(crate) async fn send(
    request: &ApplyRequest,
    manifests: &Manifests,
    session: &Session,
) -> Outcome<ApplyReport> {
    let answer = session.client().await?.apply(request).await;
    answer.map_err(|mut error| {
        if let client::Error::Refused { failure, .. } = &mut error {
            failure.message = manifests.locate(&failure.message);
        }
        error.into()
    })
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let manifests = args.sources.read().await?;
    let mut request = request(&manifests, session, args.dry_run).await?;
    request.manager = Some(args.field_manager);
    request.force = args.force;
    request.prune_set = args.prune;
    let report = send(&request, &manifests, session).await?;
    show(&report, session)?;
    if args.wait && !args.dry_run {
        wait(&report, Duration::from_secs(args.timeout), session).await?;
    }
    Ok(())
}

fn show(report: &ApplyReport, session: &Session) -> Outcome {
    let out = &session.output;
    match out.format {
        Format::Json | Format::Yaml => out.value(report),
        Format::Name => {
            let lines = report.applied.iter().map(|applied| name_line(&applied.key));
            out.write(&lines.collect::<String>())
        }
        Format::Table | Format::Wide => {
            for applied in &report.applied {
                out.write(&render(applied, report.dry_run, &|tone, text| {
                    out.paint(tone, text)
                }))?;
            }
            Ok(())
        }
    }
}

/// `database/orders`.
pub(crate) fn name_line(key: &ResourceKey) -> String {
    format!("{}/{}\n", key.kind.as_str().to_ascii_lowercase(), key.name)
}

fn render(applied: &Applied, dry_run: bool, paint: &dyn Fn(Tone, &str) -> String) -> String {
    let (word, tone) = match applied.outcome {
        ApplyOutcome::Created => ("created", Tone::Good),
        ApplyOutcome::Changed => ("changed", Tone::Warning),
        ApplyOutcome::Unchanged => ("unchanged", Tone::Faint),
        ApplyOutcome::Pruned => ("pruned", Tone::Bad),
    };
    let dry = if dry_run { " (dry run)" } else { "" };
    let mut text = format!("{} {}{dry}\n", applied.key, paint(tone, word));
    if dry_run && !applied.diff.is_empty() {
        for line in applied.diff.lines() {
            writeln!(text, "  {}", diff_line(line, paint)).expect("writing to a String");
        }
    }
    if let Some(placement) = &applied.placement {
        for line in explain::render(placement).lines() {
            writeln!(text, "  {line}").expect("writing to a String");
        }
    }
    text
}

/// The sign at a line's beginning says all; the colour repeats it.
pub(crate) fn diff_line(line: &str, paint: &dyn Fn(Tone, &str) -> String) -> String {
    match line.as_bytes().first() {
        Some(b'+') => paint(Tone::Good, line),
        Some(b'-') => paint(Tone::Bad, line),
        Some(b'@') => paint(Tone::Faint, line),
        _ => line.to_owned(),
    }
}

/// Operations first, as they come; then the conditions of what has any.
async fn wait(report: &ApplyReport, limit: Duration, session: &Session) -> Outcome {
    let waiting = ready::Waiting::default();
    let work = async {
        for applied in &report.applied {
            if let Some(operation) = applied.operation {
                follow::follow(session, operation, Show::AsNews).await?;
            }
        }
        for applied in &report.applied {
            if applied.outcome != ApplyOutcome::Pruned {
                ready::ready(&applied.key, &waiting, session).await?;
            }
        }
        Ok(())
    };
    match tokio::time::timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(waiting.out_of_time(limit)),
    }
}

#[cfg(test)]
mod tests {
    use freehold_api::{Candidate, Explanation};
    use freehold_model::Kind;

    use super::*;

    fn key(name: &str) -> ResourceKey {
        ResourceKey {
            kind: Kind::Database,
            environment: Some(Name::new("local").unwrap()),
            team: Some(Name::new("shop").unwrap()),
            name: Name::new(name).unwrap(),
        }
    }

    #[test]
    fn a_dry_run_shows_the_change_and_the_placement() {
        let applied = Applied {
            key: key("orders"),
            outcome: ApplyOutcome::Changed,
            changed: vec!["/spec/class".to_owned()],
            diff: "@@ -1 +1 @@\n-class: small\n+class: large\n".to_owned(),
            placement: Some(Explanation {
                chosen: Some(Name::new("pg-1").unwrap()),
                placed: false,
                candidates: vec![Candidate {
                    instance: Name::new("pg-1").unwrap(),
                    fits: true,
                    score: 40,
                    reasons: vec!["room for 3 more".to_owned()],
                }],
                way_out: None,
            }),
            operation: None,
        };
        insta::assert_snapshot!(render(&applied, true, &|_, text| text.to_owned()), @r"
        database/shop/orders in local changed (dry run)
          @@ -1 +1 @@
          -class: small
          +class: large
          would be placed on pg-1
          INSTANCE  FITS  SCORE  REASONS
          pg-1      yes      40  room for 3 more
        ");
    }
}
