use clap::Subcommand;
use freehold_api::Explanation;
use freehold_model::Name;

use crate::{failure::Outcome, session::Session, tables::Table};

/// Say where something is or would be placed, and why
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The instances considered for a database, best first, and why each was or was not taken
    #[command(visible_aliases = ["db", "databases"], after_help = "Example:\n  freehold explain database orders --env prod")]
    Database { name: Name },
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let What::Database { name } = args.what;
    let path = session.database(&name).await?;
    let explanation = session.client().await?.database_explain(&path).await?;
    if session.output.is_structured() {
        return session.output.value(&explanation);
    }
    session.output.write(&render(&explanation))
}

pub(crate) fn render(explanation: &Explanation) -> String {
    let mut text = match (&explanation.chosen, explanation.placed) {
        (Some(instance), true) => format!("is placed on {instance}; decided now, it would be:\n"),
        (Some(instance), false) => format!("would be placed on {instance}\n"),
        (None, _) => "no instance fits\n".to_owned(),
    };
    if !explanation.candidates.is_empty() {
        let mut table = Table::new(&["INSTANCE", "FITS", "SCORE", "REASONS"]).right(2);
        for candidate in &explanation.candidates {
            table.row(vec![
                candidate.instance.to_string(),
                if candidate.fits { "yes" } else { "no" }.to_owned(),
                candidate.score.to_string(),
                candidate.reasons.join("; "),
            ]);
        }
        text.push_str(&table.render());
    }
    if let Some(way_out) = &explanation.way_out {
        text.push_str(&format!("way out: {way_out}\n"));
    }
    text
}
