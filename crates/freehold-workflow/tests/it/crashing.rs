//! Two workers at once, lost replies, a store that goes away, clocks that jump, stale fences.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use freehold_model::{SystemEntropy, kinds::OperationPhase};
use freehold_store::{MemoryStore, SqliteStore, StoreHandle};
use freehold_testing::faults::JumpClock;
use freehold_workflow::{Next, RunnerConfig, StepError};
use tokio::sync::Notify;

use crate::{
    flaky::{Flaky, Weather},
    stage::{Phase, Stage, done, quick, script, second, within},
    toy::Server,
};

async fn stage_with_weather() -> (Stage, Arc<Weather>) {
    let clock = Arc::new(JumpClock::default());
    let weather = Arc::new(Weather::default());
    let flaky = Flaky {
        inner: StoreHandle::new(MemoryStore::new(clock.clone(), Arc::new(SystemEntropy))),
        weather: weather.clone(),
    };
    (Stage::on(StoreHandle::new(flaky), clock).await, weather)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runners_that_share_a_store_run_every_step_once() {
    let clock = Arc::new(JumpClock::default());
    let store = StoreHandle::new(MemoryStore::new(clock.clone(), Arc::new(SystemEntropy)));
    share(clock, 100, || store.clone()).await;
}

/// As four processes would: each with its own connections to one file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runners_that_share_a_file_run_every_step_once() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(JumpClock::default());
    let open = || {
        let path = folder.path().join("freehold.db");
        StoreHandle::new(SqliteStore::open(path, clock.clone(), Arc::new(SystemEntropy)).unwrap())
    };
    share(clock.clone(), 20, open).await;
}

async fn share(clock: Arc<JumpClock>, operations: usize, open: impl Fn() -> StoreHandle) {
    let stage = Stage::on(open(), clock.clone()).await;
    let runs: Arc<Mutex<HashMap<_, u32>>> = Arc::default();
    let count = runs.clone();
    let step = script(move |step, state| {
        let key = (step.id, format!("{state:?}"));
        *count.lock().unwrap().entry(key).or_default() += 1;
        async move {
            tokio::task::yield_now().await;
            match state {
                Phase::First => Ok(Next::go(second(""), "on")),
                _ => done(),
            }
        }
    });
    let mut runners = Vec::new();
    for _ in 0..4 {
        let replica = Stage::on(open(), clock.clone()).await;
        runners.push(replica.start(quick(), step.clone()));
    }
    let mut ids = Vec::new();
    for _ in 0..operations {
        ids.push(stage.request(stage.uid(), Phase::First).await);
    }
    for id in ids {
        assert_eq!(stage.ended(id).await.phase, OperationPhase::Succeeded);
        assert_eq!(stage.history(id).await.len(), 3);
    }
    for runner in runners {
        runner.stop().await;
    }
    let runs = runs.lock().unwrap();
    assert_eq!(runs.len(), 2 * operations);
    assert!(runs.values().all(|&times| times == 1), "{runs:?}");
}

#[tokio::test]
async fn a_killed_workers_operation_goes_on_elsewhere_once_its_lease_has_lapsed() {
    let stage = Stage::new().await;
    let reached = Arc::new(Notify::new());
    let tell = reached.clone();
    let dying = stage.start(
        quick(),
        script(move |_, state| {
            let tell = tell.clone();
            async move {
                if state == Phase::First {
                    return Ok(Next::go(second("saved before the kill"), "on"));
                }
                tell.notify_one();
                std::future::pending().await
            }
        }),
    );
    let id = stage.request(stage.uid(), Phase::First).await;
    within(reached.notified()).await;
    dying.kill().await;
    let epochs = Arc::new(AtomicU32::new(0));
    let seen = epochs.clone();
    let heir = stage.start(
        quick(),
        script(move |step, state| {
            seen.store(u32::try_from(step.epoch).unwrap(), Ordering::SeqCst);
            assert_eq!(state, second("saved before the kill"));
            async { done() }
        }),
    );
    // While the lease lives the heir gets nothing; other work is not held up by it.
    let other = stage
        .request(stage.uid(), second("saved before the kill"))
        .await;
    stage.ended(other).await;
    let record = stage.operations.get(id).await.unwrap().unwrap();
    assert_eq!(record.phase, OperationPhase::Running);
    stage.clock.forward(Duration::from_secs(31));
    stage.ended(id).await;
    assert_eq!(epochs.load(Ordering::SeqCst), 2);
    heir.stop().await;
}

#[tokio::test]
async fn a_lost_reply_is_settled_by_reading_and_no_step_runs_twice_for_it() {
    let (stage, weather) = stage_with_weather().await;
    let runs = Arc::new(AtomicU32::new(0));
    let (count, bad) = (runs.clone(), weather.clone());
    let running = stage.start(
        quick(),
        script(move |_, state| {
            count.fetch_add(1, Ordering::SeqCst);
            // The save that follows is applied, and nobody hears of it.
            bad.replies_lost.store(1, Ordering::SeqCst);
            async move {
                match state {
                    Phase::First => Ok(Next::go(second(""), "on")),
                    _ => done(),
                }
            }
        }),
    );
    let id = stage.request(stage.uid(), Phase::First).await;
    stage.ended(id).await;
    running.stop().await;
    assert_eq!(
        weather.replies_lost.load(Ordering::SeqCst),
        0,
        "both were lost"
    );
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    assert_eq!(
        stage.history(id).await,
        ["scripted requested by a test", "on", "done"]
    );
}

#[tokio::test]
async fn a_lost_request_is_saved_again_and_no_step_runs_twice_for_it() {
    let (stage, weather) = stage_with_weather().await;
    let runs = Arc::new(AtomicU32::new(0));
    let (count, bad) = (runs.clone(), weather.clone());
    let running = stage.start(
        quick(),
        script(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
            bad.requests_lost.store(3, Ordering::SeqCst);
            async move { done() }
        }),
    );
    let id = stage.request(stage.uid(), Phase::First).await;
    stage.ended(id).await;
    running.stop().await;
    assert_eq!(weather.requests_lost.load(Ordering::SeqCst), 0);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(stage.history(id).await.len(), 2);
}

#[tokio::test]
async fn a_short_outage_of_the_store_costs_nothing_but_time() {
    let (stage, weather) = stage_with_weather().await;
    let (reached, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (reached.clone(), finish.clone());
    let runs = Arc::new(AtomicU32::new(0));
    let count = runs.clone();
    let running = stage.start(
        quick(),
        script(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
            let (tell, wait) = (tell.clone(), wait.clone());
            async move {
                tell.notify_one();
                wait.notified().await;
                done()
            }
        }),
    );
    let id = stage.request(stage.uid(), Phase::First).await;
    within(reached.notified()).await;
    weather.offline.store(true, Ordering::SeqCst);
    finish.notify_one();
    // The save is being tried by now; the store comes back a little later.
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    weather.offline.store(false, Ordering::SeqCst);
    stage.ended(id).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    running.stop().await;
}

#[tokio::test]
async fn an_outage_longer_than_the_lease_drops_the_step_and_it_is_run_again_later() {
    let (stage, weather) = stage_with_weather().await;
    let config = RunnerConfig {
        lease_ttl: Duration::from_millis(100),
        ..quick()
    };
    let dropped = Arc::new(Notify::new());
    let (tell, bad) = (dropped.clone(), weather.clone());
    // The lease may lapse before the step has begun once: what counts is the first run, not the epoch.
    let runs = Arc::new(AtomicU32::new(0));
    struct Tells(Arc<Notify>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let running = stage.start(
        config,
        script(move |_, _| {
            let first = runs.fetch_add(1, Ordering::SeqCst) == 0;
            let tell = first.then(|| Tells(tell.clone()));
            let bad = bad.clone();
            async move {
                if tell.is_some() {
                    bad.offline.store(true, Ordering::SeqCst);
                    std::future::pending::<()>().await;
                }
                done()
            }
        }),
    );
    let id = stage.request(stage.uid(), Phase::First).await;
    within(dropped.notified()).await;
    weather.offline.store(false, Ordering::SeqCst);
    let record = stage.ended(id).await;
    assert_eq!(record.phase, OperationPhase::Succeeded);
    assert_eq!(
        stage.history(id).await.len(),
        2,
        "the lost attempt left no trace"
    );
    running.stop().await;
}

/// Runs twenty operations; the clock jumps in the first run of every step. Gives how often each
/// step ran.
async fn with_jumps(jump: impl Fn(&JumpClock) + Send + Sync + 'static) -> HashMap<String, u32> {
    let stage = Stage::new().await;
    let runs: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let (count, clock) = (runs.clone(), stage.clock.clone());
    let running = stage.start(
        quick(),
        script(move |step, state| {
            let mut counts = count.lock().unwrap();
            let times = counts.entry(format!("{} {state:?}", step.id)).or_default();
            *times += 1;
            if *times == 1 {
                jump(&clock);
            }
            async move {
                match state {
                    Phase::First => Ok(Next::go(second(""), "on")),
                    _ => done(),
                }
            }
        }),
    );
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(stage.request(stage.uid(), Phase::First).await);
    }
    for id in ids {
        assert_eq!(stage.ended(id).await.phase, OperationPhase::Succeeded);
    }
    running.stop().await;
    let runs = runs.lock().unwrap();
    assert_eq!(runs.len(), 40);
    runs.clone()
}

#[tokio::test]
async fn a_clock_that_is_set_back_stops_nothing_and_repeats_nothing() {
    let runs = with_jumps(|clock| clock.back(Duration::from_secs(3600))).await;
    assert!(runs.values().all(|&times| times == 1), "{runs:?}");
}

#[tokio::test]
async fn a_clock_that_leaps_ahead_takes_leases_away_and_the_steps_are_run_again() {
    let runs = with_jumps(|clock| clock.forward(Duration::from_secs(3600))).await;
    // The leap ends the lease of the step that sees it, and of those that ran beside it.
    assert!(runs.values().all(|&times| times > 1), "{runs:?}");
}

#[tokio::test]
async fn a_fence_that_is_ahead_of_the_store_is_shown_to_a_person_and_not_climbed_over() {
    let stage = Stage::new().await;
    let server = Arc::new(Server::default());
    let target = stage.uid();
    // As after yesterday's store was restored: the server has seen later epochs.
    server.raise_fence(target, 40);
    let there = server.clone();
    let running = stage.start(
        quick(),
        script(move |step, _| {
            let server = there.clone();
            async move {
                let fence = Some((step.target_uid, step.epoch));
                server
                    .create(fence, "role".to_owned())
                    .await
                    .map_err(StepError::from)?;
                done()
            }
        }),
    );
    let id = stage.request(target, Phase::First).await;
    let parked = stage
        .until(id, |r| r.phase == OperationPhase::NeedsAttention)
        .await;
    assert!(
        parked.message.contains("refused epoch 1"),
        "{}",
        parked.message
    );
    assert!(server.things().is_empty());
    running.stop().await;
}

#[tokio::test]
async fn a_step_that_ends_while_its_progress_is_being_saved_is_saved_all_the_same() {
    let (stage, weather) = stage_with_weather().await;
    let (finish, bad) = (Arc::new(Notify::new()), weather.clone());
    let wait = finish.clone();
    let running = stage.start(
        quick(),
        script(move |step, _| {
            let wait = wait.clone();
            bad.replies_stuck.store(1, Ordering::SeqCst);
            async move {
                step.progress.say("half way");
                wait.notified().await;
                done()
            }
        }),
    );
    let id = stage.request(stage.uid(), Phase::First).await;
    stage.until(id, |record| record.sequence == 2).await;
    finish.notify_one();
    let record = stage.ended(id).await;
    assert_eq!(weather.replies_stuck.load(Ordering::SeqCst), 0);
    assert_eq!(record.phase, OperationPhase::Succeeded);
    assert_eq!(
        stage.history(id).await,
        ["scripted requested by a test", "half way", "done"]
    );
    running.stop().await;
}
