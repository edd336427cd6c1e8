//! A decision as text.

use super::{Decision, Reason};

/// One line of the table that `freehold explain` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub instance: String,
    /// `chosen`, `fits` or `no`.
    pub verdict: &'static str,
    /// Empty when it does not fit.
    pub score: String,
    pub why: String,
}

pub const COLUMNS: [&str; 4] = ["INSTANCE", "VERDICT", "SCORE", "WHY"];

/// One row for each candidate, best first.
pub fn rows(decision: &Decision) -> Vec<Row> {
    decision
        .ranked
        .iter()
        .map(|verdict| Row {
            instance: verdict.instance.to_string(),
            verdict: match verdict.fits {
                true if decision.chosen.as_ref() == Some(&verdict.instance) => "chosen",
                true => "fits",
                false => "no",
            },
            score: if verdict.fits {
                verdict.score.to_string()
            } else {
                String::new()
            },
            why: verdict
                .reasons
                .iter()
                .map(Reason::to_string)
                .collect::<Vec<_>>()
                .join("; "),
        })
        .collect()
}

/// The whole explanation as aligned plain text.
pub fn explain(decision: &Decision) -> String {
    let cells = rows(decision)
        .into_iter()
        .map(|row| [row.instance, row.verdict.to_owned(), row.score, row.why]);
    let mut lines: Vec<[String; 4]> = vec![COLUMNS.map(str::to_owned)];
    lines.extend(cells);
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].len())
            .max()
            .unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    if lines.len() > 1 {
        for [instance, verdict, score, why] in &lines {
            let [w0, w1, w2] = widths;
            text.push_str(&format!(
                "{instance:<w0$}  {verdict:<w1$}  {score:>w2$}  {why}\n"
            ));
        }
    }
    if let Some(way_out) = &decision.way_out {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("No instance fits. Way out: {way_out}.\n"));
    }
    text
}
