//! The ordinary life of operations, and of steps that misbehave.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use freehold_model::kinds::OperationPhase;
use freehold_store::{Batch, CollectionName, Key, PutMode, Value};
use freehold_workflow::{Next, RunnerConfig, StepError, record};
use serde_json::json;
use tokio::sync::Notify;

use crate::stage::{Phase, Running, Scripted, Stage, done, quick, script, second, within};

#[tokio::test]
async fn an_operation_goes_from_state_to_state_and_leaves_a_gapless_history() {
    let stage = Stage::new().await;
    let target = stage.uid();
    let running = stage.start(
        quick(),
        script(|_, state| async move {
            match state {
                Phase::First => Ok(Next::go(second("made"), "first done")),
                Phase::Second { note } => Ok(Next::done(json!(note), "second done")),
                Phase::Undo => done(),
            }
        }),
    );
    let id = stage.request(target, Phase::First).await;
    let record = stage.ended(id).await;
    assert_eq!(record.phase, OperationPhase::Succeeded);
    assert_eq!(record.output, Some(json!("made")));
    assert_eq!(record.state_name, "Second");
    assert_eq!(
        stage.history(id).await,
        ["scripted requested by a test", "first done", "second done"]
    );
    assert_eq!(stage.operations.holder(target).await.unwrap(), None);
    running.stop().await;
}

#[tokio::test]
async fn a_wait_ends_when_the_stores_clock_says_so() {
    let stage = Stage::new().await;
    let running = stage.start(
        quick(),
        script(|step, state| async move {
            match state {
                Phase::First => {
                    let until = step.now + Duration::from_secs(3600);
                    Ok(Next::wait(second(""), until, "waiting"))
                }
                _ => done(),
            }
        }),
    );
    let id = stage.request(stage.uid(), Phase::First).await;
    let waiting = stage
        .until(id, |r| r.phase == OperationPhase::Waiting)
        .await;
    assert_eq!(waiting.attempts, 0);
    stage.clock.forward(Duration::from_secs(3601));
    assert_eq!(stage.ended(id).await.phase, OperationPhase::Succeeded);
    running.stop().await;
}

#[tokio::test]
async fn a_failing_step_is_tried_again_under_a_new_epoch_each_time() {
    let stage = Stage::new().await;
    let epochs = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = epochs.clone();
    let running = stage.start(
        quick(),
        script(move |step, _| {
            seen.lock().unwrap().push((step.attempts, step.epoch));
            async move {
                if step.attempts < 5 {
                    return Err(StepError::retry("the server is down"));
                }
                done()
            }
        }),
    );
    let id = stage.request(stage.uid(), Phase::First).await;
    stage.ended(id).await;
    let epochs = epochs.lock().unwrap().clone();
    let attempts: Vec<_> = epochs.iter().map(|(attempt, _)| *attempt).collect();
    assert_eq!(attempts, [0, 1, 2, 3, 4, 5]);
    assert!(epochs.is_sorted_by(|a, b| a.1 < b.1), "{epochs:?}");
    let complaints = stage.history(id).await;
    let complaints = complaints.iter().filter(|m| m.contains("down")).count();
    assert_eq!(complaints, 3, "told at attempts 1, 2 and 4 only");
    running.stop().await;
}

#[tokio::test]
async fn a_step_that_needs_a_person_is_parked_until_resumed() {
    let stage = Stage::new().await;
    let running = stage.start(
        quick(),
        script(|step, _| async move {
            if step.requested_by == "a test" && step.attempts == 0 && step.epoch == 1 {
                return Err(StepError::needs_attention(
                    "no disk left",
                    "Free some disk.",
                ));
            }
            done()
        }),
    );
    let id = stage.request(stage.uid(), Phase::First).await;
    let parked = stage
        .until(id, |r| r.phase == OperationPhase::NeedsAttention)
        .await;
    assert_eq!(parked.view().message, "no disk left Free some disk.");
    assert_eq!(parked.due_at_ms, None, "no worker looks at it");
    stage
        .operations
        .resume(id, "mia", Vec::new())
        .await
        .unwrap();
    assert_eq!(stage.ended(id).await.phase, OperationPhase::Succeeded);
    assert!(
        stage
            .history(id)
            .await
            .contains(&"resumed by mia".to_owned())
    );
    running.stop().await;
}

#[tokio::test]
async fn a_step_that_fails_for_good_ends_the_operation_and_frees_the_target() {
    let stage = Stage::new().await;
    let target = stage.uid();
    let running = stage.start(
        quick(),
        script(|_, _| async { Err(StepError::failed("the name is taken")) }),
    );
    let id = stage.request(target, Phase::First).await;
    let record = stage.ended(id).await;
    assert_eq!(record.phase, OperationPhase::Failed);
    assert_eq!(record.message, "the name is taken");
    assert_eq!(stage.operations.holder(target).await.unwrap(), None);
    running.stop().await;
}

#[tokio::test]
async fn a_step_that_panics_is_tried_again_then_parked_and_harms_nobody_else() {
    let stage = Stage::new().await;
    let running = stage.start(
        quick(),
        script(|_, state| async move {
            assert_ne!(state, Phase::First, "a bug in a step");
            done()
        }),
    );
    let id = stage.request(stage.uid(), Phase::First).await;
    let healthy = stage.request(stage.uid(), second("")).await;
    let parked = stage
        .until(id, |r| r.phase == OperationPhase::NeedsAttention)
        .await;
    assert!(
        parked.message.contains("First panicked"),
        "{}",
        parked.message
    );
    assert!(
        parked.message.contains("a bug in a step"),
        "{}",
        parked.message
    );
    assert_eq!(parked.panics, 2, "the third one parked it");
    assert_eq!(stage.ended(healthy).await.phase, OperationPhase::Succeeded);
    running.stop().await;
}

#[tokio::test]
async fn a_step_that_never_returns_is_dropped_after_its_time_and_tried_again() {
    let stage = Stage::new().await;
    let config = RunnerConfig {
        step_timeout: Duration::from_millis(30),
        ..quick()
    };
    let running = stage.start(
        config,
        script(|step, _| async move {
            if step.attempts == 0 {
                std::future::pending::<()>().await;
            }
            done()
        }),
    );
    let id = stage.request(stage.uid(), Phase::First).await;
    assert_eq!(stage.ended(id).await.phase, OperationPhase::Succeeded);
    assert!(
        stage
            .history(id)
            .await
            .contains(&"First did not finish within 30ms".to_owned())
    );
    running.stop().await;
}

#[tokio::test]
async fn a_long_step_keeps_its_lease_by_renewing() {
    let stage = Stage::new().await;
    let config = RunnerConfig {
        // Long against the hiccups of a busy machine, short against the test.
        lease_ttl: Duration::from_secs(6),
        ..quick()
    };
    let runs = Arc::new(AtomicU32::new(0));
    let (go, gone) = (Arc::new(Notify::new()), runs.clone());
    let wait = go.clone();
    let step = script(move |_, _| {
        gone.fetch_add(1, Ordering::SeqCst);
        let wait = wait.clone();
        async move {
            wait.notified().await;
            done()
        }
    });
    let first = stage.start(config.clone(), step.clone());
    let id = stage.request(stage.uid(), Phase::First).await;
    within(async {
        while runs.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let second = stage.start(config, step);
    // More than the lease passes on the store's clock while both runners are at it.
    let began = stage.store.now().await.unwrap();
    within(async {
        while stage.store.now().await.unwrap() < began + Duration::from_secs(7) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    go.notify_one();
    stage.ended(id).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn stuck_operations_do_not_delay_others() {
    let stage = Stage::new().await;
    let running = stage.start(
        quick(),
        script(|_, state| async move {
            if state == Phase::First {
                std::future::pending::<()>().await;
            }
            done()
        }),
    );
    for _ in 0..20 {
        stage.request(stage.uid(), Phase::First).await;
    }
    let id = stage.request(stage.uid(), second("")).await;
    stage.ended(id).await;
    running.kill().await;
}

#[tokio::test]
async fn more_operations_than_slots_all_get_their_turn() {
    let stage = Stage::new().await;
    let config = RunnerConfig {
        concurrency: 3,
        ..quick()
    };
    let now = Arc::new(AtomicU32::new(0));
    let most = Arc::new(AtomicU32::new(0));
    let (at_once, peak) = (now.clone(), most.clone());
    let step = script(move |_, _| {
        let at_once = at_once.clone();
        peak.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        async move {
            tokio::task::yield_now().await;
            at_once.fetch_sub(1, Ordering::SeqCst);
            done()
        }
    });
    let mut ids = Vec::new();
    for _ in 0..150 {
        ids.push(stage.request(stage.uid(), Phase::First).await);
    }
    let running = stage.start(config, step);
    for id in ids {
        stage.ended(id).await;
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
    running.stop().await;
}

#[tokio::test]
async fn what_a_step_hands_over_is_saved_with_its_state_or_not_at_all() {
    let stage = Stage::new().await;
    let statuses = CollectionName::new("statuses").unwrap();
    let name = Key::new("orders").unwrap();
    stage
        .store
        .define(freehold_store::CollectionSpec {
            name: statuses.clone(),
            indexes: vec![],
        })
        .await
        .unwrap();
    let store = stage.store.clone();
    let runs = Arc::new(AtomicU32::new(0));
    let (ran, at, what) = (runs.clone(), statuses.clone(), name.clone());
    let running = stage.start(
        quick(),
        script(move |_, _| {
            let (store, at, what) = (store.clone(), at.clone(), what.clone());
            let run = ran.fetch_add(1, Ordering::SeqCst);
            async move {
                let found = store.get(&at, &what).await?;
                let mode = found.map_or(PutMode::Create, |found| PutMode::Match(found.etag));
                if run == 0 {
                    // Somebody writes between our look and our save.
                    let other = Value::encode("theirs")?;
                    let batch = Batch::new().put(&at, what.clone(), other, PutMode::Upsert);
                    store.apply(batch).await?;
                }
                let batch = Batch::new().put(&at, what, Value::encode("ours")?, mode);
                Ok(Next::done(json!(null), "status written").also(batch))
            }
        }),
    );
    let id = stage.request(stage.uid(), Phase::First).await;
    let record = stage.ended(id).await;
    assert_eq!(record.phase, OperationPhase::Succeeded);
    assert_eq!(
        runs.load(Ordering::SeqCst),
        2,
        "it read afresh and ran again"
    );
    let status = stage.store.get(&statuses, &name).await.unwrap().unwrap();
    assert_eq!(status.value.text(), "\"ours\"");
    assert_eq!(status.etag.rev(), 2);
    running.stop().await;
}

#[tokio::test]
async fn records_that_keep_changing_become_a_retry_and_nonsense_is_parked() {
    let stage = Stage::new().await;
    let running = stage.start(
        quick(),
        script(|_, state| async move {
            let claims = record::claims();
            let batch = match state {
                // The claim exists, so creating it conflicts whenever it is tried.
                Phase::First => Batch::new().require(freehold_store::Precondition::Unchanged {
                    collection: claims,
                    key: Key::new("nobody").unwrap(),
                    etag: freehold_store::Etag::new(1, [7; 16]),
                }),
                _ => Batch::new()
                    .put(
                        &claims,
                        Key::new("x").unwrap(),
                        Value::encode(&1)?,
                        PutMode::Upsert,
                    )
                    .put(
                        &claims,
                        Key::new("x").unwrap(),
                        Value::encode(&2)?,
                        PutMode::Upsert,
                    ),
            };
            Ok(Next::done(json!(null), "never").also(batch))
        }),
    );
    let conflicting = stage.request(stage.uid(), Phase::First).await;
    let nonsense = stage.request(stage.uid(), second("")).await;
    let retrying = stage.until(conflicting, |r| r.attempts > 0).await;
    assert!(
        retrying.message.contains("keep changing"),
        "{}",
        retrying.message
    );
    let parked = stage
        .until(nonsense, |r| r.phase == OperationPhase::NeedsAttention)
        .await;
    assert!(
        parked.message.contains("the store refuses"),
        "{}",
        parked.message
    );
    running.stop().await;
}

#[tokio::test]
async fn progress_becomes_events_between_the_states() {
    let stage = Stage::new().await;
    let finish = Arc::new(Notify::new());
    let wait = finish.clone();
    let running = stage.start(
        quick(),
        script(move |step, _| {
            let wait = wait.clone();
            async move {
                step.progress.report(3, 10, "copying");
                wait.notified().await;
                done()
            }
        }),
    );
    let id = stage.request(stage.uid(), Phase::First).await;
    stage.until(id, |r| r.message == "copying").await;
    let events = stage.operations.events(id, 1, 10).await.unwrap();
    assert_eq!(events[0].progress, Some((3, 10)));
    finish.notify_one();
    stage.ended(id).await;
    assert_eq!(
        stage.history(id).await,
        ["scripted requested by a test", "copying", "done"]
    );
    running.stop().await;
}

#[tokio::test]
async fn a_verb_that_only_newer_replicas_know_is_left_to_them() {
    let stage = Stage::new().await;
    let old = Running::start(stage.runner(quick()));
    let id = stage.request(stage.uid(), Phase::First).await;
    let untouched = stage.operations.get(id).await.unwrap().unwrap();
    let new = Running::start(
        stage
            .runner(quick())
            .register(Scripted(script(|_, _| async { done() }))),
    );
    stage.ended(id).await;
    assert_eq!((untouched.attempts, untouched.sequence), (0, 1));
    old.stop().await;
    new.stop().await;
}

#[tokio::test]
async fn a_state_that_only_newer_replicas_know_is_left_alone_then_parked() {
    let stage = Stage::new().await;
    let mut new = crate::stage::new(stage.uid(), &Phase::First);
    new.state = json!({ "phase": "Third" });
    let requested = stage.operations.request(&new).await.unwrap();
    let id = stage
        .operations
        .submit(Batch::new(), requested)
        .await
        .unwrap()
        .id;
    let running = stage.start(quick(), script(|_, _| async { done() }));
    let other = stage.request(stage.uid(), Phase::First).await;
    stage.ended(other).await;
    let record = stage.operations.get(id).await.unwrap().unwrap();
    assert_eq!(
        (record.phase, record.sequence),
        (OperationPhase::Running, 1)
    );
    stage.clock.forward(Duration::from_secs(300));
    running.stop().await;
    let running = stage.start(quick(), script(|_, _| async { done() }));
    let record = stage
        .until(id, |r| r.phase == OperationPhase::NeedsAttention)
        .await;
    assert!(record.message.contains("cannot be read by this version"));
    assert_eq!(record.state, json!({ "phase": "Third" }), "nothing is lost");
    running.stop().await;
}

#[tokio::test]
async fn what_a_newer_version_keeps_in_a_record_survives_an_older_worker() {
    let stage = Stage::new().await;
    let id = stage.request(stage.uid(), Phase::First).await;
    let found = stage
        .store
        .get(&record::operations(), &Key::new(id.to_string()).unwrap())
        .await
        .unwrap()
        .unwrap();
    let mut json: serde_json::Value = found.value.decode().unwrap();
    json["budget"] = json!({ "calls": 3 });
    let batch = Batch::new().put(
        &record::operations(),
        found.key,
        Value::encode(&json).unwrap(),
        PutMode::Match(found.etag),
    );
    stage.store.apply(batch).await.unwrap();
    let running = stage.start(quick(), script(|_, _| async { done() }));
    let record = stage.ended(id).await;
    assert_eq!(record.unknown["budget"], json!({ "calls": 3 }));
    running.stop().await;
}

#[tokio::test]
#[should_panic(expected = "two operations are called \"scripted\"")]
async fn two_operations_of_one_verb_are_refused() {
    let stage = Stage::new().await;
    let step = script(|_, _| async { done() });
    let _ = stage
        .runner(quick())
        .register(Scripted(step.clone()))
        .register(Scripted(step));
}
