//! Passes and operations keep out of each other's way.

use std::{sync::Arc, time::Duration};

use freehold_model::kinds::OperationPhase;
use freehold_store::{Batch, CollectionName, CollectionSpec, ErrorKind, Key, PutMode, Value};
use freehold_workflow::PassError;
use tokio::sync::Notify;

use crate::stage::{Phase, Stage, done, new, quick, script, within};

const LONG: Duration = Duration::from_secs(30);

async fn stage() -> (Stage, CollectionName) {
    let stage = Stage::new().await;
    let name = CollectionName::new("seen").unwrap();
    let spec = CollectionSpec {
        name: name.clone(),
        indexes: vec![],
    };
    stage.store.define(spec).await.unwrap();
    (stage, name)
}

fn note(seen: &CollectionName, mode: PutMode) -> Batch {
    Batch::new().put(
        seen,
        Key::new("it").unwrap(),
        Value::encode("seen").unwrap(),
        mode,
    )
}

#[tokio::test]
async fn one_pass_at_a_time_and_the_next_one_has_a_later_epoch() {
    let (stage, seen) = stage().await;
    let (claims, target) = (stage.claims(LONG), stage.uid());
    let first = claims.pass(target, "one").await.unwrap().unwrap();
    assert!(claims.pass(target, "two").await.unwrap().is_none());
    assert!(claims.pass(stage.uid(), "two").await.unwrap().is_some());
    first.save(note(&seen, PutMode::Create)).await.unwrap();
    let epoch = first.epoch();
    first.finish().await;
    let next = claims.pass(target, "two").await.unwrap().unwrap();
    assert!(next.epoch() > epoch);
}

#[tokio::test]
async fn no_pass_while_an_operation_holds_the_target_running_or_not() {
    let (stage, _) = stage().await;
    let (claims, target) = (stage.claims(LONG), stage.uid());
    let id = stage.request(target, Phase::First).await;
    assert!(claims.pass(target, "one").await.unwrap().is_none());
    let running = stage.start(quick(), script(|_, _| async { done() }));
    stage.ended(id).await;
    running.stop().await;
    assert!(claims.pass(target, "one").await.unwrap().is_some());
}

#[tokio::test]
async fn an_operation_waits_for_the_pass_and_the_pass_learns_of_it_when_it_saves() {
    let (stage, seen) = stage().await;
    let (claims, target) = (stage.claims(LONG), stage.uid());
    let pass = claims.pass(target, "one").await.unwrap().unwrap();
    let began = Arc::new(Notify::new());
    let tell = began.clone();
    let running = stage.start(
        quick(),
        script(move |_, _| {
            tell.notify_one();
            async { done() }
        }),
    );
    let id = stage.request(target, Phase::First).await;
    let lost = pass.save(note(&seen, PutMode::Create)).await;
    assert!(matches!(lost, Err(PassError::Lost)), "{lost:?}");
    let record = stage.operations.get(id).await.unwrap().unwrap();
    assert_eq!(record.phase, OperationPhase::Running);
    assert!(
        futures::FutureExt::now_or_never(began.notified()).is_none(),
        "a step ran beside the pass"
    );
    // Dropped, not finished: the target is given back in the background.
    drop(pass);
    within(began.notified()).await;
    stage.ended(id).await;
    running.stop().await;
}

#[tokio::test]
async fn a_pass_that_lost_its_lease_saves_nothing() {
    let (stage, seen) = stage().await;
    let (claims, target) = (stage.claims(LONG), stage.uid());
    let stale = claims.pass(target, "one").await.unwrap().unwrap();
    stage.clock.forward(LONG + Duration::from_secs(1));
    let fresh = claims.pass(target, "two").await.unwrap().unwrap();
    let lost = stale.save(note(&seen, PutMode::Create)).await;
    assert!(matches!(lost, Err(PassError::Lost)), "{lost:?}");
    fresh.save(note(&seen, PutMode::Create)).await.unwrap();
}

#[tokio::test]
async fn a_pass_can_enqueue_an_operation_for_its_own_target() {
    let (stage, seen) = stage().await;
    let (claims, target) = (stage.claims(LONG), stage.uid());
    let pass = claims.pass(target, "one").await.unwrap().unwrap();
    let requested = stage
        .operations
        .request(&new(target, &Phase::First))
        .await
        .unwrap();
    let id = requested.id;
    pass.save(requested.merged_into(note(&seen, PutMode::Create)))
        .await
        .unwrap();
    pass.finish().await;
    let running = stage.start(quick(), script(|_, _| async { done() }));
    stage.ended(id).await;
    running.stop().await;
}

#[tokio::test]
async fn a_conflict_of_the_passs_own_records_is_given_with_its_own_position() {
    let (stage, seen) = stage().await;
    let pass = stage.claims(LONG).pass(stage.uid(), "one").await.unwrap();
    let pass = pass.unwrap();
    pass.save(note(&seen, PutMode::Create)).await.unwrap();
    match pass.save(note(&seen, PutMode::Create)).await {
        Err(PassError::Store(error)) => {
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            assert_eq!(error.position(), Some(0));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_a_dropped_pass_held_is_free_once_it_was_waited_for() {
    let (stage, _) = stage().await;
    let (claims, target) = (stage.claims(LONG), stage.uid());
    drop(claims.pass(target, "one").await.unwrap().unwrap());
    claims.returned().await;
    assert!(claims.pass(target, "two").await.unwrap().is_some());
}
