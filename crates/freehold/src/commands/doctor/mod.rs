//! The likeliest things that are wrong with a set-up, each with its repair.
//!
//! Checks look and change nothing. One that depends on another that failed is left out rather than
//! guessed at. What needs no reading of files or network is decided in [`finding`], purely.

mod client_side;
mod finding;
mod server_side;

use crate::{
    failure::{Exit, Failure, Outcome},
    output::{Output, Tone},
    session::Session,
    settings::Settings,
};
use finding::{Finding, Verdict};

/// Look for what is wrong with the set-up, and say how to repair it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Looks at: configuration, address, token, clock, versions, team, environment, instances; and, where
the server is on this machine: data directory, disk space, key file, port, PostgreSQL programs.

Example:
  freehold doctor --server https://freehold.example.com")]
pub(crate) struct Args {}

/// Runs also when the settings cannot be read: that is then what is wrong.
pub(crate) async fn run(_: Args, settings: Outcome<Settings>, output: &Output) -> Outcome {
    let mut findings = Vec::new();
    match settings {
        Err(failure) => {
            let bad = Finding::bad("configuration", failure.message);
            findings.push(bad.repair(failure.hint));
        }
        Ok(settings) => {
            findings.push(finding::configuration(&settings));
            let session = Session::new(settings, output.clone());
            client_side::look(&session, &mut findings).await;
            if session.settings.is_local() {
                server_side::look(&session.settings, &mut findings);
            }
        }
    }
    report(&findings, output)
}

fn report(findings: &[Finding], output: &Output) -> Outcome {
    if output.is_structured() {
        output.value(&serde_json::json!({ "findings": findings }))?;
    } else {
        for finding in findings {
            output.write(&render(finding, &|tone, text| output.paint(tone, text)))?;
        }
    }
    let count = |verdict| findings.iter().filter(|f| f.verdict == verdict).count();
    let (bad, doubtful) = (count(Verdict::Bad), count(Verdict::Doubtful));
    if bad == 0 {
        output.note(match doubtful {
            0 => "nothing is wrong".to_owned(),
            1 => "nothing is wrong; one thing to look at".to_owned(),
            many => format!("nothing is wrong; {many} things to look at"),
        });
        return Ok(());
    }
    Err(Failure::silent(Exit::Failed))
}

fn render(finding: &Finding, paint: &dyn Fn(Tone, &str) -> String) -> String {
    let mark = match finding.verdict {
        Verdict::Good => paint(Tone::Good, "ok   "),
        Verdict::Doubtful => paint(Tone::Warning, "look "),
        Verdict::Bad => paint(Tone::Bad, "WRONG"),
    };
    let message = finding.message.replace('\n', "\n        ");
    let mut text = format!("{mark}  {}: {message}\n", finding.check);
    if let Some(repair) = &finding.repair {
        text.push_str(&format!("       hint: {repair}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{arguments::Format, output::testing::captured};

    #[test]
    fn each_fault_comes_with_its_repair() {
        let (output, results, messages) = captured(Format::Table);
        let findings = [
            Finding::good("server", "it answers"),
            Finding::doubtful("psql", "not in PATH").fix("install it"),
            Finding::bad("key", "others can read it\nall of them").fix("chmod 600"),
        ];
        assert_eq!(report(&findings, &output).unwrap_err().exit, Exit::Failed);
        assert_eq!(messages.text(), "");
        insta::assert_snapshot!(results.text(), @r"
        ok     server: it answers
        look   psql: not in PATH
               hint: install it
        WRONG  key: others can read it
                all of them
               hint: chmod 600
        ");
        assert_eq!(report(&findings[..2], &output), Ok(()));
        assert_eq!(messages.text(), "nothing is wrong; one thing to look at\n");
    }
}
