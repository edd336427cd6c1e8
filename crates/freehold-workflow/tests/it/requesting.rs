//! Asking for operations: together with the asker's own change, and at most one per target.

use std::sync::{Arc, atomic::Ordering};

use freehold_model::{Code, SystemEntropy};
use freehold_store::{
    Batch, CollectionName, CollectionSpec, ErrorKind, Key, MemoryStore, PutMode, StoreHandle, Value,
};
use freehold_testing::faults::JumpClock;
use freehold_workflow::WorkflowError;

use crate::{
    flaky::{Flaky, Weather},
    stage::{Phase, Stage, done, new, quick, script},
};

fn resources() -> CollectionName {
    CollectionName::new("resources").unwrap()
}

/// The asker's own change: a resource that must not exist yet.
fn change(mode: PutMode) -> Batch {
    Batch::new().put(
        &resources(),
        Key::new("dev/shop/orders").unwrap(),
        Value::encode("spec").unwrap(),
        mode,
    )
}

async fn stage() -> (Stage, Arc<Weather>) {
    let clock = Arc::new(JumpClock::default());
    let weather = Arc::new(Weather::default());
    let flaky = Flaky {
        inner: StoreHandle::new(MemoryStore::new(clock.clone(), Arc::new(SystemEntropy))),
        weather: weather.clone(),
    };
    let stage = Stage::on(StoreHandle::new(flaky), clock).await;
    let spec = CollectionSpec {
        name: resources(),
        indexes: vec![],
    };
    stage.store.define(spec).await.unwrap();
    (stage, weather)
}

#[tokio::test]
async fn the_change_and_its_operation_are_accepted_together() {
    let (stage, _) = stage().await;
    let requested = stage
        .operations
        .request(&new(stage.uid(), &Phase::First))
        .await
        .unwrap();
    let submitted = stage
        .operations
        .submit(change(PutMode::Create), requested)
        .await
        .unwrap();
    assert_eq!(submitted.outcome.unwrap().etags.len(), 4);
    assert!(stage.operations.get(submitted.id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_taken_target_is_refused_naming_its_holder_and_nothing_is_written() {
    let (stage, _) = stage().await;
    let target = stage.uid();
    let holder = stage.request(target, Phase::First).await;
    let requested = stage
        .operations
        .request(&new(target, &Phase::First))
        .await
        .unwrap();
    let second = requested.id;
    let refused = stage
        .operations
        .submit(change(PutMode::Create), requested)
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, WorkflowError::Held { holder: named, .. } if *named == holder),
        "{refused}"
    );
    assert_eq!(
        refused.to_string(),
        format!("database/shop/orders in dev is being worked on by operation {holder} (scripted)")
    );
    let shown = freehold_model::Error::from(refused);
    assert_eq!(shown.code, Code::Conflict);
    assert!(
        shown
            .hint
            .unwrap()
            .contains(&format!("operation watch {holder}"))
    );
    assert!(stage.operations.get(second).await.unwrap().is_none());
    let key = Key::new("dev/shop/orders").unwrap();
    assert!(stage.store.get(&resources(), &key).await.unwrap().is_none());
}

#[tokio::test]
async fn the_askers_own_conflict_comes_back_as_its_own_with_its_position() {
    let (stage, _) = stage().await;
    stage.store.apply(change(PutMode::Create)).await.unwrap();
    let requested = stage
        .operations
        .request(&new(stage.uid(), &Phase::First))
        .await
        .unwrap();
    let refused = stage
        .operations
        .submit(change(PutMode::Create), requested)
        .await
        .unwrap_err();
    let WorkflowError::Store(error) = refused else {
        panic!("{refused}")
    };
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(error.position(), Some(0));
}

#[tokio::test]
async fn a_lost_reply_is_no_refusal() {
    let (stage, weather) = stage().await;
    let target = stage.uid();
    for lost in [&weather.replies_lost, &weather.requests_lost] {
        lost.store(2, Ordering::SeqCst);
        let requested = stage
            .operations
            .request(&new(target, &Phase::First))
            .await
            .unwrap();
        let id = requested.id;
        let submitted = stage
            .operations
            .submit(change(PutMode::Upsert), requested)
            .await
            .unwrap();
        assert_eq!(submitted.id, id);
        lost.store(0, Ordering::SeqCst);
        let claim = stage.operations.holder(target).await.unwrap().unwrap();
        assert_eq!(claim.operation, id);
        let running = stage.start(quick(), script(|_, _| async { done() }));
        stage.ended(id).await;
        running.stop().await;
    }
}

#[tokio::test]
async fn of_many_requests_for_one_target_one_is_accepted() {
    let (stage, _) = stage().await;
    let target = stage.uid();
    let asks = (0..32).map(|_| async {
        let requested = stage
            .operations
            .request(&new(target, &Phase::First))
            .await
            .unwrap();
        stage.operations.submit(Batch::new(), requested).await
    });
    let answers = futures::future::join_all(asks).await;
    let accepted: Vec<_> = answers.iter().flatten().map(|s| s.id).collect();
    assert_eq!(accepted.len(), 1);
    for refused in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert!(
            matches!(refused, WorkflowError::Held { holder, .. } if *holder == accepted[0]),
            "{refused}"
        );
    }
}
