use std::path::PathBuf;

use serde::Serialize;

use crate::{
    demo::{
        self, Chapter, Summary, chapters,
        interruption::Interruption,
        programs::{self, Program},
        schema::Zabbix,
        stage::Stage,
        voice::Voice,
    },
    failure::{Exit, Failure, Outcome},
    output::Output,
};

/// See the product at work on servers of its own, each step explained and checked
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Needs PostgreSQL's programs, on Debian the packages postgresql and postgresql-client. Uses
free ports and a directory of its own, leaves your servers and settings alone, and removes
everything at its end. With `-o json` the story goes to standard error, and a summary of its
checks to standard output.

Examples:
  freehold demo                        stays up after the last step, until Ctrl-C
  freehold demo --exit                 ends after it, with status 0 only if every check held
  freehold demo --exit -o json | jq .checksHeld")]
pub(crate) struct Args {
    /// End after the last step instead of staying up
    #[arg(long)]
    exit: bool,
    /// Print the titles of the steps and do nothing
    #[arg(long)]
    list: bool,
    /// Folder that holds Zabbix's schema.sql, images.sql and data.sql, plain or with .gz [default:
    /// where its Debian package puts them; without it a sample schema of 42 tables]
    #[arg(long, value_name = "DIR")]
    schema: Option<PathBuf>,
    /// Leave the demo's directory behind: data, logs, exports. Its servers end all the same
    #[arg(long)]
    keep: bool,
}

/// A title, for `--list`.
#[derive(Debug, Serialize)]
struct Title {
    number: usize,
    chapter: &'static str,
    title: &'static str,
}

pub(crate) fn run(args: &Args, output: &Output) -> Outcome {
    if args.list {
        return list(output);
    }
    let zabbix = Zabbix::find(args.schema.as_deref())?;
    programs::require(&needed(chapters::ALL, zabbix.as_ref()))?;
    let freehold = std::env::current_exe()
        .map_err(|error| Failure::failed("this program cannot find itself").because(&error))?;
    let interruption = Interruption::of_process()
        .map_err(|error| Failure::failed("cannot listen for Ctrl-C").because(&error))?;
    let voice = Voice::new(output.clone(), interruption);
    let mut stage = Stage::new(freehold, zabbix, voice.clone()).map_err(Failure::failed)?;
    stage.start_keeper(args.keep).map_err(Failure::failed)?;
    if args.keep {
        voice.say(&format!("What is made stays in {}", stage.path().display()));
    }
    let summary = demo::tell(chapters::ALL, &mut stage);
    if output.is_structured() {
        output.value(&summary)?;
    }
    verdict(&summary)?;
    let (steps, checks) = (summary.steps.len(), summary.checks_held);
    voice.say(&format!(
        "\n{steps} steps, {checks} checks, all held ({:.0} s)",
        summary.seconds
    ));
    if !args.exit {
        voice.say("\nEverything stays up until Ctrl-C:");
        for note in stage.notes() {
            voice.say(&format!("  {note}"));
        }
        voice.interruption().wait();
        voice.say("\nstopping");
    }
    Ok(())
}

fn list(output: &Output) -> Outcome {
    let titles = demo::numbered(chapters::ALL).map(|(number, chapter, step)| Title {
        number,
        chapter,
        title: step.title,
    });
    if output.is_structured() {
        return output.value(&titles.collect::<Vec<_>>());
    }
    for title in titles {
        output.line(format!("{:>2}. {}", title.number, title.title))?;
    }
    Ok(())
}

fn needed(chapters: &[Chapter], zabbix: Option<&Zabbix>) -> Vec<Program> {
    let mut needed = vec![programs::SETPRIV];
    needed.extend(chapters.iter().flat_map(|chapter| chapter.needs));
    needed.extend(
        zabbix
            .filter(|zabbix| zabbix.is_packed())
            .map(|_| programs::GZIP),
    );
    needed
}

/// An interrupted demo has neither passed nor failed, and says where it was.
fn verdict(summary: &Summary) -> Outcome {
    if summary.passed && !summary.interrupted {
        return Ok(());
    }
    let step = summary.broken().or(summary.steps.last());
    let number = step.map_or(0, |step| step.number);
    if summary.interrupted {
        let message = format!("interrupted in step {number} of {}", summary.steps.len());
        return Err(Failure::new(Exit::Interrupted, message));
    }
    let title = step.map_or("none was told", |step| step.title);
    let error = step.and_then(|step| step.error.as_deref());
    let message = format!(
        "step {number} ({title}) failed: {}",
        error.unwrap_or("it was not run")
    );
    Err(Failure::failed(message))
}
