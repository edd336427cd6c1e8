//! The product at work, step by step, each step explained and checked: what `freehold demo` tells.
//!
//! The demo drives the real program from outside, as people would, on servers of its own. A step that
//! checks nothing proves nothing, so it fails. What was started ends with the demo, also when the demo
//! is killed.
//!
//! A chapter is one file in [`chapters`] with one line in its list: the steps it tells and the
//! programs it needs. Everything that a step does goes through the [`stage`].
//!
//! - `chapters`: the story
//! - `stage`: the machine as a step sees it: the program, a directory, processes
//! - `checks`: what a step claims, and whether it held
//! - `programs`: what has to be installed, and what to say when it is not
//! - `interruption`: Ctrl-C and its kin, at any moment
//! - `samples`, `schema`: what the demo's people wrote, carried in the program; a real application's
//!   schema, where it is at hand
//! - `voice`: where all of it is told

pub(crate) mod chapters;
mod checks;
pub(crate) mod interruption;
pub(crate) mod programs;
mod samples;
pub(crate) mod schema;
pub(crate) mod stage;
pub(crate) mod voice;

use std::time::Instant;

use serde::Serialize;

use checks::{Check, Checks};
use programs::Program;
use stage::Stage;

/// What went wrong in a step, in words for the person who watches.
pub(crate) type Result<T = ()> = std::result::Result<T, String>;

/// Steps that belong together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chapter {
    pub name: &'static str,
    /// What must be installed for it.
    pub needs: &'static [Program],
    pub steps: &'static [Step],
}

/// One step of the story.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub title: &'static str,
    /// What the reader learns from it, in a sentence or two.
    pub meaning: &'static str,
    pub run: fn(&mut Stage, &mut Checks) -> Result,
}

/// How the whole went, for a program to read. Times are in seconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    /// Every step was run and every check held.
    pub passed: bool,
    pub interrupted: bool,
    pub checks_held: usize,
    pub seconds: f64,
    pub steps: Vec<Told>,
}

/// How one step went.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    pub number: usize,
    pub chapter: &'static str,
    pub title: &'static str,
    pub outcome: Ended,
    pub seconds: f64,
    pub checks: Vec<Check>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Ended {
    Held,
    Failed,
    NotRun,
}

impl Summary {
    /// The step that ended the story early.
    pub(crate) fn broken(&self) -> Option<&Told> {
        self.steps.iter().find(|step| step.outcome != Ended::Held)
    }
}

/// The steps of some chapters, numbered from 1.
pub(crate) fn numbered(
    chapters: &[Chapter],
) -> impl Iterator<Item = (usize, &'static str, &'static Step)> {
    let steps = chapters
        .iter()
        .flat_map(|chapter| chapter.steps.iter().map(|step| (chapter.name, step)));
    (1..)
        .zip(steps)
        .map(|(number, (chapter, step))| (number, chapter, step))
}

/// Runs the steps in order up to the first that fails; what follows builds on it.
pub(crate) fn tell(chapters: &[Chapter], stage: &mut Stage) -> Summary {
    let voice = stage.voice().clone();
    let start = Instant::now();
    let count = numbered(chapters).count();
    let mut steps = Vec::with_capacity(count);
    let mut is_whole = true;
    for (number, chapter, step) in numbered(chapters) {
        is_whole = is_whole && !stage.is_interrupted();
        let told = if is_whole {
            voice.say(&format!("\n━━ {number}/{count} {}", step.title));
            voice.say(&format!("   {}", step.meaning));
            play(number, chapter, step, stage)
        } else {
            not_run(number, chapter, step)
        };
        is_whole = is_whole && told.outcome == Ended::Held;
        steps.push(told);
    }
    Summary {
        passed: is_whole && count > 0,
        interrupted: stage.is_interrupted(),
        checks_held: steps.iter().map(Told::held).sum(),
        seconds: start.elapsed().as_secs_f64(),
        steps,
    }
}

fn play(number: usize, chapter: &'static str, step: &Step, stage: &mut Stage) -> Told {
    let began = Instant::now();
    let mut checks = Checks::new(stage.voice().clone());
    let ended = (step.run)(stage, &mut checks).and_then(|()| checks.verdict());
    let seconds = began.elapsed().as_secs_f64();
    let outcome = match &ended {
        Ok(()) => Ended::Held,
        Err(_) => Ended::Failed,
    };
    if outcome == Ended::Held {
        stage.voice().say(&format!("   {seconds:.1} s"));
    } else if !stage.is_interrupted() {
        for (name, log) in stage.logs() {
            let end = format!("\n--- the end of {name}'s log\n{log}");
            stage.voice().say(&end);
        }
    }
    Told {
        outcome,
        seconds,
        checks: checks.into_all(),
        error: ended.err(),
        ..not_run(number, chapter, step)
    }
}

fn not_run(number: usize, chapter: &'static str, step: &Step) -> Told {
    Told {
        number,
        chapter,
        title: step.title,
        outcome: Ended::NotRun,
        seconds: 0.0,
        checks: Vec::new(),
        error: None,
    }
}

impl Told {
    fn held(&self) -> usize {
        self.checks.iter().filter(|check| check.held).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interruption::Interruption;

    const GOOD: Step = Step {
        title: "good",
        meaning: "it checks something",
        run: |_, checks| {
            checks.equal("one is one", &1, &1);
            Ok(())
        },
    };
    const SILENT: Step = Step {
        run: |_, _| Ok(()),
        ..GOOD
    };
    const WRONG: Step = Step {
        run: |_, checks| {
            checks.equal("one is two", &1, &2);
            checks.equal("one is one", &1, &1);
            Ok(())
        },
        ..GOOD
    };
    const BROKEN: Step = Step {
        run: |_, _| Err("no server".to_owned()),
        ..GOOD
    };
    const INTERRUPTED: Step = Step {
        run: |stage, checks| {
            checks.that("so far so good", true);
            stage.voice().interruption().raise();
            Ok(())
        },
        ..GOOD
    };

    fn told(steps: &'static [Step]) -> Summary {
        let (voice, _) = voice::testing::captured(&Interruption::default());
        let mut stage = Stage::new("/nowhere".into(), None, voice).unwrap();
        let chapter = Chapter {
            name: "one",
            needs: &[],
            steps,
        };
        tell(&[chapter], &mut stage)
    }

    #[test]
    fn a_demo_whose_every_check_holds_passes() {
        let summary = told(&[GOOD, GOOD]);
        assert!(summary.passed && summary.broken().is_none());
        assert_eq!(summary.checks_held, 2);
    }

    #[test]
    fn a_step_without_a_check_or_with_a_false_one_or_an_error_fails() {
        for (steps, why) in [
            (&[GOOD, SILENT, GOOD] as &[Step], "checked nothing"),
            (&[GOOD, WRONG, GOOD], "one is two"),
            (&[GOOD, BROKEN, GOOD], "no server"),
        ] {
            let summary = told(steps);
            assert!(!summary.passed);
            let outcomes: Vec<Ended> = summary.steps.iter().map(|step| step.outcome).collect();
            assert_eq!(outcomes, [Ended::Held, Ended::Failed, Ended::NotRun]);
            let broken = summary.broken().unwrap();
            assert_eq!(broken.number, 2);
            let error = broken.error.as_deref().unwrap();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_demo_without_steps_or_with_an_interruption_has_not_passed() {
        assert!(!told(&[]).passed);
        let summary = told(&[INTERRUPTED, GOOD]);
        assert!(!summary.passed && summary.interrupted);
        assert_eq!(summary.broken().unwrap().outcome, Ended::NotRun);
        assert_eq!(summary.checks_held, 1);
    }

    #[test]
    fn a_summary_says_what_was_claimed() {
        let summary = serde_json::to_value(told(&[WRONG])).unwrap();
        let step = &summary["steps"][0];
        assert_eq!(step["outcome"], "Failed");
        assert_eq!(
            step["checks"],
            serde_json::json!([
                {"claim": "one is two", "held": false},
                {"claim": "one is one", "held": true},
            ])
        );
        assert_eq!(step["error"], "not true: one is two");
    }
}
