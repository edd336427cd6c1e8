//! Cancelling: before the point of no return, after it, while a step runs, while it is parked.

use std::sync::Arc;

use freehold_model::kinds::OperationPhase;
use freehold_store::{CollectionName, CollectionSpec, Key, PutMode, Value, Write};
use freehold_workflow::{Next, StepError, WorkflowError};
use tokio::sync::Notify;

use crate::stage::{Phase, Stage, done, quick, script, second, within};

#[tokio::test]
async fn a_cancelled_operation_undoes_its_work_and_ends_as_cancelled() {
    let stage = Stage::new().await;
    let target = stage.uid();
    let id = stage.request(target, Phase::First).await;
    stage
        .operations
        .cancel(id, "mia", Vec::new())
        .await
        .unwrap();
    stage
        .operations
        .cancel(id, "tom", Vec::new())
        .await
        .unwrap();
    let running = stage.start(
        quick(),
        script(|_, state| async move {
            assert_eq!(state, Phase::Undo);
            done()
        }),
    );
    let record = stage.ended(id).await;
    assert_eq!(record.phase, OperationPhase::Cancelled);
    assert_eq!(
        stage.history(id).await,
        [
            "scripted requested by a test",
            "cancellation requested by mia",
            "cancelled by mia",
            "done"
        ]
    );
    assert_eq!(stage.operations.holder(target).await.unwrap(), None);
    let again = stage.operations.cancel(id, "mia", Vec::new()).await;
    assert!(matches!(again, Err(WorkflowError::Ended { .. })));
    running.stop().await;
}

#[tokio::test]
async fn past_the_point_of_no_return_it_is_refused_with_the_reason_and_goes_on() {
    let stage = Stage::new().await;
    let id = stage.request(stage.uid(), second("")).await;
    stage
        .operations
        .cancel(id, "mia", Vec::new())
        .await
        .unwrap();
    let running = stage.start(quick(), script(|_, _| async { done() }));
    let record = stage.ended(id).await;
    assert_eq!(record.phase, OperationPhase::Succeeded);
    assert!(
        stage
            .history(id)
            .await
            .contains(&"not cancelled: the point of no return is passed".to_owned())
    );
    running.stop().await;
}

#[tokio::test]
async fn a_running_step_hears_of_it_even_from_another_process() {
    let stage = Stage::new().await;
    let reached = Arc::new(Notify::new());
    let tell = reached.clone();
    let running = stage.start(
        quick(),
        script(move |step, state| {
            let tell = tell.clone();
            async move {
                if state == Phase::First {
                    tell.notify_one();
                    step.cancelled.cancelled().await;
                    return Ok(Next::go(Phase::First, "stopped early"));
                }
                done()
            }
        }),
    );
    let id = stage.request(stage.uid(), Phase::First).await;
    within(reached.notified()).await;
    // `stage.operations` is not connected to the runner: the news travels through the store.
    stage
        .operations
        .cancel(id, "mia", Vec::new())
        .await
        .unwrap();
    assert_eq!(stage.ended(id).await.phase, OperationPhase::Cancelled);
    assert_eq!(
        stage.history(id).await,
        [
            "scripted requested by a test",
            "cancellation requested by mia",
            "stopped early",
            "cancelled by mia",
            "done"
        ]
    );
    running.stop().await;
}

#[tokio::test]
async fn a_request_written_while_a_step_ends_the_operation_loses_nothing() {
    let stage = Stage::new().await;
    let operations = stage.operations.clone();
    let running = stage.start(
        quick(),
        script(move |step, _| {
            let operations = operations.clone();
            async move {
                // Changes the record under the worker, which saves its result all the same.
                operations.cancel(step.id, "mia", Vec::new()).await.unwrap();
                done()
            }
        }),
    );
    let id = stage.request(stage.uid(), Phase::First).await;
    let record = stage.ended(id).await;
    assert_eq!(record.phase, OperationPhase::Succeeded);
    assert_eq!(stage.history(id).await.len(), 3);
    running.stop().await;
}

#[tokio::test]
async fn a_parked_operation_can_be_cancelled() {
    let stage = Stage::new().await;
    let running = stage.start(
        quick(),
        script(|_, state| async move {
            match state {
                Phase::First => Err(StepError::needs_attention("stuck", "Look.")),
                _ => done(),
            }
        }),
    );
    let id = stage.request(stage.uid(), Phase::First).await;
    stage
        .until(id, |r| r.phase == OperationPhase::NeedsAttention)
        .await;
    stage
        .operations
        .cancel(id, "mia", Vec::new())
        .await
        .unwrap();
    assert_eq!(stage.ended(id).await.phase, OperationPhase::Cancelled);
    running.stop().await;
}

#[tokio::test]
async fn only_what_waits_for_a_person_or_a_retry_can_be_resumed() {
    let stage = Stage::new().await;
    let id = stage.request(stage.uid(), Phase::First).await;
    let refused = stage.operations.resume(id, "mia", Vec::new()).await;
    assert!(matches!(refused, Err(WorkflowError::NotParked { .. })));
    let config = freehold_workflow::RunnerConfig {
        retry_first: std::time::Duration::from_secs(3600),
        retry_max: std::time::Duration::from_secs(3600),
        ..quick()
    };
    let running = stage.start(
        config,
        script(|step, _| async move {
            if step.attempts == 0 {
                return Err(StepError::retry("not yet"));
            }
            done()
        }),
    );
    stage.until(id, |r| r.attempts == 1).await;
    stage
        .operations
        .resume(id, "mia", Vec::new())
        .await
        .unwrap();
    assert_eq!(stage.ended(id).await.phase, OperationPhase::Succeeded);
    running.stop().await;
}

#[tokio::test]
async fn a_refused_cancellation_ends_no_wait_and_no_parking_early() {
    let stage = Stage::new().await;
    let running = stage.start(
        quick(),
        script(|step, state| async move {
            match state {
                Phase::First => {
                    let until = step.now + std::time::Duration::from_secs(7 * 24 * 3600);
                    Ok(Next::wait(second("drop it"), until, "quarantined"))
                }
                Phase::Second { note } if note == "drop it" => panic!("dropped early"),
                _ => Err(StepError::needs_attention("stuck", "Look.")),
            }
        }),
    );
    let waiting = stage.request(stage.uid(), Phase::First).await;
    let parked = stage.request(stage.uid(), second("")).await;
    for (id, phase) in [
        (waiting, OperationPhase::Waiting),
        (parked, OperationPhase::NeedsAttention),
    ] {
        let before = stage.until(id, |r| r.phase == phase).await;
        stage
            .operations
            .cancel(id, "mia", Vec::new())
            .await
            .unwrap();
        let after = stage.until(id, |r| r.sequence == before.sequence + 2).await;
        assert_eq!(
            (after.phase, after.due_at_ms, after.message, after.hint),
            (phase, before.due_at_ms, before.message, before.hint)
        );
        assert_eq!(after.cancellation, None);
        let history = stage.history(id).await;
        assert!(history.last().unwrap().starts_with("not cancelled: "));
    }
    running.stop().await;
}

#[tokio::test]
async fn a_cancellation_that_arrives_while_a_step_decides_to_wait_is_decided_at_once() {
    let stage = Stage::new().await;
    let operations = stage.operations.clone();
    let running = stage.start(
        quick(),
        script(move |step, state| {
            let operations = operations.clone();
            async move {
                if state == Phase::Undo {
                    return done();
                }
                operations.cancel(step.id, "mia", Vec::new()).await.unwrap();
                let until = step.now + std::time::Duration::from_secs(7 * 24 * 3600);
                Ok(Next::wait(Phase::First, until, "waiting"))
            }
        }),
    );
    let id = stage.request(stage.uid(), Phase::First).await;
    assert_eq!(stage.ended(id).await.phase, OperationPhase::Cancelled);
    running.stop().await;
}

#[tokio::test]
async fn after_a_refusal_the_next_step_is_not_told_to_stop_and_a_second_request_is_heard() {
    let stage = Stage::new().await;
    let reached = Arc::new(Notify::new());
    let tell = reached.clone();
    let running = stage.start(
        quick(),
        script(move |step, state| {
            let tell = tell.clone();
            async move {
                assert!(!step.cancelled.is_cancelled(), "told before anybody asked");
                let Phase::Second { note } = state else {
                    panic!("{state:?}")
                };
                if note == "the end" {
                    return done();
                }
                tell.notify_one();
                step.cancelled.cancelled().await;
                let next = if note.is_empty() { "again" } else { "the end" };
                Ok(Next::go(second(next), "stopped early"))
            }
        }),
    );
    let id = stage.request(stage.uid(), second("")).await;
    for by in ["mia", "tom"] {
        within(reached.notified()).await;
        stage.operations.cancel(id, by, Vec::new()).await.unwrap();
    }
    assert_eq!(stage.ended(id).await.phase, OperationPhase::Succeeded);
    let refused = "not cancelled: the point of no return is passed";
    assert_eq!(
        stage.history(id).await,
        [
            "scripted requested by a test",
            "cancellation requested by mia",
            "stopped early",
            refused,
            "cancellation requested by tom",
            "stopped early",
            refused,
            "done"
        ]
    );
    running.stop().await;
}

#[tokio::test]
async fn what_goes_with_a_cancellation_is_saved_with_it_or_neither_is() {
    let stage = Stage::new().await;
    let notes = CollectionName::new("notes").unwrap();
    let spec = CollectionSpec {
        name: notes.clone(),
        indexes: vec![],
    };
    stage.store.define(spec).await.unwrap();
    let key = Key::new("first").unwrap();
    let note = |mode| Write::Put {
        collection: notes.clone(),
        key: key.clone(),
        value: Value::encode(&"who did it").unwrap(),
        mode,
        expires_at: None,
    };
    let id = stage.request(stage.uid(), Phase::First).await;
    let also = vec![note(PutMode::Create)];
    stage.operations.cancel(id, "mia", also).await.unwrap();
    assert!(stage.store.get(&notes, &key).await.unwrap().is_some());
    // The note cannot be saved a second time, so neither can the cancellation.
    let other = stage.request(stage.uid(), Phase::First).await;
    let also = vec![note(PutMode::Create)];
    assert!(stage.operations.cancel(other, "mia", also).await.is_err());
    let record = stage.operations.get(other).await.unwrap().unwrap();
    assert!(record.cancellation.is_none());
}
