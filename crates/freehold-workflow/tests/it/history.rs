//! Looking back: lists, histories as they grow, purging.

use std::{collections::BTreeSet, time::Duration};

use freehold_model::{Name, OperationId, Uid, kinds::OperationPhase};
use freehold_store::{Range, Scan};
use freehold_workflow::{Next, OperationFilter, StepError, WorkflowError, record};
use futures::{StreamExt, TryStreamExt};

use crate::stage::{Phase, Stage, done, quick, script, second, within};

#[tokio::test]
async fn a_watcher_sees_the_whole_history_once_and_its_end() {
    let stage = Stage::new().await;
    let id = stage.request(stage.uid(), Phase::First).await;
    let early = tokio::spawn(stage.operations.watch(id, 0).try_collect::<Vec<_>>());
    let running = stage.start(
        quick(),
        script(|step, state| async move {
            match (state, step.attempts) {
                (Phase::First, 0) => Err(StepError::retry("not yet")),
                (Phase::First, _) => Ok(Next::go(second(""), "on")),
                _ => done(),
            }
        }),
    );
    let seen: Vec<_> = within(early).await.unwrap().unwrap();
    let told: Vec<_> = seen.iter().map(|event| event.message.as_str()).collect();
    assert_eq!(
        told,
        ["scripted requested by a test", "not yet", "on", "done"]
    );
    let resumed = stage.operations.watch(id, 2).map_ok(|event| event.sequence);
    assert_eq!(
        within(resumed.try_collect::<Vec<_>>()).await.unwrap(),
        [3, 4]
    );
    let nobody = freehold_model::OperationId::generate(
        freehold_model::Clock::now(&*stage.clock),
        &*stage.entropy,
    );
    let mut none = Box::pin(stage.operations.watch(nobody, 0));
    let answer = within(none.next()).await;
    assert!(matches!(answer, Some(Err(WorkflowError::NotFound { .. }))));
    running.stop().await;
}

#[tokio::test]
async fn a_list_is_narrowed_by_every_part_of_the_filter_and_paged_without_gaps() {
    let stage = Stage::new().await;
    let target = stage.uid();
    let mine = stage.request(target, second("")).await;
    let running = stage.start(
        quick(),
        script(|_, state| async move {
            match state {
                Phase::First => Err(StepError::needs_attention("stuck", "Look.")),
                _ => done(),
            }
        }),
    );
    stage.ended(mine).await;
    let mut others = BTreeSet::new();
    for _ in 0..25 {
        let id = stage.request(stage.uid(), Phase::First).await;
        stage
            .until(id, |r| r.phase == OperationPhase::NeedsAttention)
            .await;
        others.insert(id);
    }
    running.stop().await;
    for (filter, expected) in filters(target) {
        let found = pages(&stage, &filter).await;
        let distinct: BTreeSet<_> = found.iter().copied().collect();
        assert_eq!(
            (found.len(), distinct.len()),
            (expected, expected),
            "{filter:?}"
        );
    }
}

/// Filters, and how many of 26 operations they find: one that succeeded on `target`, 25 parked.
fn filters(target: Uid) -> Vec<(OperationFilter, usize)> {
    let name = |text: &str| Some(Name::new(text).unwrap());
    let none = OperationFilter::default;
    let phase = |phase| OperationFilter {
        phase: Some(phase),
        ..none()
    };
    let owner = |environment, team| OperationFilter {
        environment,
        team,
        ..none()
    };
    let target = OperationFilter {
        target_uid: Some(target),
        ..none()
    };
    let verb = OperationFilter {
        verb: Some("other".to_owned()),
        ..none()
    };
    let succeeded_of_shop = OperationFilter {
        phase: Some(OperationPhase::Succeeded),
        ..owner(name("dev"), name("shop"))
    };
    vec![
        (none(), 26),
        (target, 1),
        (verb, 0),
        (phase(OperationPhase::NeedsAttention), 25),
        (phase(OperationPhase::Running), 0),
        (owner(name("dev"), name("shop")), 26),
        (owner(name("dev"), None), 26),
        (owner(None, name("hop")), 0),
        (succeeded_of_shop, 1),
    ]
}

/// All that a filter finds, in pages of seven.
async fn pages(stage: &Stage, filter: &OperationFilter) -> Vec<OperationId> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = stage.operations.list(filter, 7, after).await.unwrap();
        assert!(page.operations.len() <= 7);
        found.extend(page.operations.into_iter().map(|record| record.id));
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

#[tokio::test]
async fn purging_removes_old_ended_operations_with_their_history_and_nothing_else() {
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
    let old = stage.request(stage.uid(), second("")).await;
    stage.ended(old).await;
    let parked = stage.request(stage.uid(), Phase::First).await;
    stage
        .until(parked, |r| r.phase == OperationPhase::NeedsAttention)
        .await;
    stage.clock.forward(Duration::from_secs(3600));
    let border = stage.store.now().await.unwrap();
    stage.clock.forward(Duration::from_secs(1));
    let young = stage.request(stage.uid(), second("")).await;
    stage.ended(young).await;
    running.stop().await;
    assert_eq!(stage.operations.purge(border).await.unwrap(), 1);
    assert_eq!(stage.operations.purge(border).await.unwrap(), 0);
    assert!(stage.operations.get(old).await.unwrap().is_none());
    assert!(stage.operations.get(parked).await.unwrap().is_some());
    assert!(stage.operations.get(young).await.unwrap().is_some());
    let events = Scan::new(
        record::operation_events(),
        Range::KeyPrefix(old.to_string()),
    );
    assert!(stage.store.scan(events).await.unwrap().records.is_empty());
    assert_eq!(stage.history(young).await.len(), 2);
}
