//! `cargo xtask demo`: the product at work, step by step, each step explained and checked.
//!
//! A step that checks nothing proves nothing, so it fails. The command ends with status 0 only when
//! every step was run and every check held. Without `--exit` everything that was started stays up
//! afterwards until Ctrl-C. What was started ends with the demo, also when the demo is killed.
//!
//! - `checks`: what a step claims, and whether it held
//! - `world`: the machine as the demo sees it: the built program, a directory, processes
//! - `steps`: the story, one function per step

mod checks;
mod steps;
mod world;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use clap::Args;

use crate::{Result, command, install, workspace};
use checks::Checks;
use world::World;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// End after the last step instead of staying up
    #[arg(long)]
    exit: bool,

    /// Print the titles of the steps and do nothing
    #[arg(long)]
    list: bool,
}

/// One step of the story.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) title: &'static str,
    /// What the reader learns from it, in a sentence or two.
    pub(crate) meaning: &'static str,
    pub(crate) run: fn(&mut World, &mut Checks) -> Result,
}

pub(crate) fn run(arguments: &Arguments) -> Result {
    let steps = steps::all();
    if arguments.list {
        for (number, step) in (1..).zip(steps) {
            println!("{number:>2}. {}", step.title);
        }
        return Ok(());
    }
    if steps.is_empty() {
        return Err("the demo has no steps yet".to_owned());
    }
    let (interrupted, interruptions) = mpsc::channel();
    let flag = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&flag);
    ctrlc::set_handler(move || {
        raised.store(true, Ordering::Relaxed);
        let _ = interrupted.send(());
    })
    .map_err(|error| format!("cannot listen for Ctrl-C: {error}"))?;

    install::run()?;
    let root = workspace::root();
    command::run(command::cargo(&root).args(["build", "--locked", "--package", "freehold"]))?;
    let mut world = World::new(&root, flag)?;
    world.start_keeper()?;
    tell(steps, &mut world)?;
    if arguments.exit {
        return Ok(());
    }
    println!("\nEverything stays up until Ctrl-C:");
    for note in world.notes() {
        println!("  {note}");
    }
    let _ = interruptions.recv();
    println!("\nstopping");
    Ok(())
}

/// Runs the steps in order up to the first that fails; what follows builds on it.
fn tell(steps: &[Step], world: &mut World) -> Result {
    let start = Instant::now();
    let mut checked = 0;
    for (number, step) in (1..).zip(steps) {
        if world.is_interrupted() {
            return Err(format!("interrupted before step {number}"));
        }
        println!("\n━━ {number}/{} {}", steps.len(), step.title);
        println!("   {}", step.meaning);
        let began = Instant::now();
        let mut checks = Checks::default();
        let ended = (step.run)(world, &mut checks).and_then(|()| checks.verdict());
        if let Err(error) = ended {
            if world.is_interrupted() {
                return Err(format!("interrupted in step {number}"));
            }
            for (name, log) in world.logs() {
                println!("\n--- the end of {name}'s log\n{log}");
            }
            return Err(format!("step {number} ({}) failed: {error}", step.title));
        }
        checked += checks.held();
        println!("   {:.1} s", began.elapsed().as_secs_f64());
    }
    println!(
        "\n{} steps, {checked} checks, all held ({:.0} s)",
        steps.len(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(steps: &[Step]) -> Result {
        tell(
            steps,
            &mut World::new(&workspace::root(), Arc::default()).unwrap(),
        )
    }

    const GOOD: Step = Step {
        title: "good",
        meaning: "it checks something",
        run: |_, checks| {
            checks.equal("one is one", &1, &1);
            Ok(())
        },
    };

    #[test]
    fn a_demo_whose_every_check_holds_passes() {
        assert_eq!(told(&[GOOD, GOOD]), Ok(()));
    }

    #[test]
    fn a_step_without_a_check_or_with_a_false_one_or_an_error_fails() {
        let silent = Step {
            run: |_, _| Ok(()),
            ..GOOD
        };
        let wrong = Step {
            run: |_, checks| {
                checks.equal("one is two", &1, &2);
                checks.equal("one is one", &1, &1);
                Ok(())
            },
            ..GOOD
        };
        let broken = Step {
            run: |_, _| Err("no server".to_owned()),
            ..GOOD
        };
        for (step, why) in [
            (silent, "checked nothing"),
            (wrong, "one is two"),
            (broken, "no server"),
        ] {
            let error = told(&[GOOD, step]).unwrap_err();
            assert!(error.contains("step 2") && error.contains(why), "{error}");
        }
    }
}
