//! Shutting down: finish what finishes, drop what does not, give the leases back.

use std::{sync::Arc, time::Duration};

use freehold_model::kinds::OperationPhase;
use freehold_workflow::{Next, RunnerConfig};
use tokio::sync::Notify;

use crate::stage::{Phase, Stage, done, quick, script, second, within};

#[tokio::test]
async fn a_running_step_is_finished_and_saved_and_the_next_one_is_left_to_others() {
    let stage = Stage::new().await;
    let reached = Arc::new(Notify::new());
    let tell = reached.clone();
    let running = stage.start(
        quick(),
        script(move |step, state| {
            let tell = tell.clone();
            async move {
                assert_eq!(state, Phase::First, "no new step after the word to stop");
                tell.notify_one();
                step.stopping.cancelled().await;
                Ok(Next::go(second(""), "finished in time"))
            }
        }),
    );
    let target = stage.uid();
    let id = stage.request(target, Phase::First).await;
    within(reached.notified()).await;
    running.stop().await;
    let record = stage.operations.get(id).await.unwrap().unwrap();
    assert_eq!(record.message, "finished in time");
    // Leases are long here: only because this one was given back can another worker go on at once.
    let next = stage.start(quick(), script(|_, _| async { done() }));
    assert_eq!(stage.ended(id).await.phase, OperationPhase::Succeeded);
    next.stop().await;
}

#[tokio::test]
async fn a_step_that_does_not_finish_is_dropped_without_a_trace_and_its_lease_given_back() {
    let stage = Stage::new().await;
    let reached = Arc::new(Notify::new());
    let tell = reached.clone();
    let config = RunnerConfig {
        shutdown_grace: Duration::from_millis(20),
        ..quick()
    };
    let running = stage.start(
        config,
        script(move |_, _| {
            tell.notify_one();
            std::future::pending()
        }),
    );
    let id = stage.request(stage.uid(), Phase::First).await;
    within(reached.notified()).await;
    running.stop().await;
    let record = stage.operations.get(id).await.unwrap().unwrap();
    assert_eq!((record.attempts, record.sequence), (0, 1));
    let next = stage.start(quick(), script(|_, _| async { done() }));
    stage.ended(id).await;
    next.stop().await;
}

#[tokio::test]
async fn a_runner_without_work_stops_at_once() {
    let stage = Stage::new().await;
    let running = stage.start(quick(), script(|_, _| async { done() }));
    running.stop().await;
}
