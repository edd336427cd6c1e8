//! The fault harness on every operation and on the reconciler of databases: each is disturbed at
//! every save and every effect, and the world must end as the undisturbed one did.
//!
//! `FREEHOLD_FAULTS=all` runs every case there is; without it a test takes a share of its cases, spread
//! over all points, that keeps the whole below a minute or two. Which share it is turns with
//! `FREEHOLD_FAULTS_TURN` (`cargo xtask test` gives the commit), else with the day, so that each case has
//! its turn. `FREEHOLD_FAULTS_ONLY` runs one case, as a report names it.

mod seen;
mod shop;

use std::time::Duration;

use freehold_model::{Clock as _, Gate, SystemClock};
use freehold_testing::faults::{
    self, Fault, Options, Report, Scenario, Snapshot, WorkError, Worker,
};
use tokio_util::sync::CancellationToken;

use self::shop::{Adapter, Shop};

/// The piece of work that is disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Provision,
    Migrate,
    Quarantine,
    Retain,
    Undelete,
    /// Cancelling a provisioning that has its name on the server already.
    GiveUp,
    /// Drift, repaired by the reconciler.
    Repair,
    /// One access added and one taken away, by the reconciler.
    Change,
}

struct Disturbed {
    work: Work,
    adapter: Adapter,
}

impl Scenario for Disturbed {
    type World = Shop;

    async fn build(&self) -> Shop {
        shop::with_registry().await;
        let mut shop = Shop::new(self.adapter).await;
        shop.declare().await;
        let provision = shop.provision().await;
        if self.work == Work::Provision {
            shop.operation = Some(provision);
            return shop;
        }
        if self.work == Work::GiveUp {
            shop.reserve_and_cancel(provision).await;
            shop.operation = Some(provision);
            return shop;
        }
        shop.complete(provision).await;
        match self.work {
            Work::Provision | Work::GiveUp => {}
            Work::Migrate => shop.operation = Some(shop.migrate().await),
            Work::Quarantine => shop.operation = Some(shop.delete("Quarantine").await),
            Work::Retain => shop.operation = Some(shop.delete("Retain").await),
            Work::Undelete => {
                let closed = shop.delete("Quarantine").await;
                shop.complete(closed).await;
                shop.operation = Some(shop.undelete().await);
            }
            Work::Repair => shop.drift().await,
            Work::Change => shop.change().await,
        }
        shop
    }

    async fn work(&self, shop: &Shop, worker: Worker) -> Result<(), WorkError> {
        let gate = shop.plain_gate(worker.gate);
        let control = shop.control(&worker.name, gate).await;
        let stop = CancellationToken::new();
        match shop.operation {
            Some(operation) => {
                let ended = async {
                    let ended = shop.operations().ended(operation).await;
                    stop.cancel();
                    ended
                };
                let ((), ended) = tokio::join!(control.run_operations(stop.clone()), ended);
                ended?;
            }
            None => {
                let settled = async {
                    match self.work {
                        Work::Repair => shop.repaired().await,
                        _ => shop.changed().await,
                    }
                    stop.cancel();
                };
                tokio::join!(control.run_reconcilers(stop.clone()), settled);
            }
        }
        Ok(())
    }

    async fn lapse(&self, shop: &Shop) {
        shop.clock.forward(shop::LEASE_TTL + Duration::from_secs(1));
    }

    async fn observe(&self, shop: &Shop) -> Snapshot {
        let control = shop.control("observer", Gate::open()).await;
        let snapshot = seen::records(shop, seen::server(shop, Snapshot::new())).await;
        seen::credentials(shop, &control, snapshot).await
    }
}

/// Which share of the cases is run this time.
fn turn() -> (String, usize) {
    let turn = std::env::var("FREEHOLD_FAULTS_TURN");
    let text = turn.unwrap_or_else(|_| {
        let day = SystemClock.now().as_second() / (24 * 60 * 60);
        format!("day {day}")
    });
    // FNV-1a: the same text must mean the same share on every machine.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (text, (hash % (1 << 32)) as usize)
}

fn say(words: std::fmt::Arguments<'_>) {
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), words);
}

/// Runs the cases of some faults: all of them when asked, else one of `shares`. Tests begin with
/// different ones, so that a point that two of them pass is disturbed in more ways at once.
fn check(
    work: Work,
    adapter: Adapter,
    faults: &[Fault],
    (first, shares): (usize, usize),
) -> Report {
    let mut options = Options::from_env().only_faults(faults);
    let all = std::env::var("FREEHOLD_FAULTS").is_ok_and(|word| word == "all");
    if options.shard == (0, 1) && options.only.is_none() && !all {
        let (text, turn) = turn();
        let share = (first + turn) % shares;
        options.shard = (share, shares);
        say(format_args!(
            "share {} of {shares} (FREEHOLD_FAULTS_TURN={text:?})\n",
            share + 1
        ));
    }
    options.patience = Duration::from_secs(90);
    options.budget = Duration::from_secs(if all { 3600 } else { 300 });
    options.parallel = if faults == [Fault::Sleep] { 6 } else { 3 };
    let report = faults::check(&Disturbed { work, adapter }, &options);
    if all {
        say(format_args!("{work:?} {faults:?}: {report}"));
    }
    report
}

const FAILS: [Fault; 2] = [Fault::FailBefore, Fault::FailAfter];

#[test]
fn provisioning_survives_a_kill_at_any_point() {
    let report = check(Work::Provision, Adapter::Memory, &[Fault::Kill], (0, 4));
    report.assert_clean();
    let points: Vec<_> = report.points.iter().map(ToString::to_string).collect();
    for state in ["Reserve", "Credentials", "Create", "Done"] {
        assert!(
            points
                .iter()
                .any(|point| point.contains(&format!("save provision {state}"))),
            "{points:#?}"
        );
    }
    assert!(
        points.iter().any(|point| point.contains("create database")),
        "{points:#?}"
    );
}

#[test]
fn provisioning_survives_errors_before_and_after_each_effect() {
    check(Work::Provision, Adapter::Memory, &FAILS, (1, 6)).assert_clean();
}

#[test]
fn provisioning_steps_may_run_twice_and_kills_lose_nothing_in_sqlite() {
    let faults = [Fault::RunTwice, Fault::Kill];
    check(Work::Provision, Adapter::Sqlite, &faults, (2, 14)).assert_clean();
}

#[test]
fn a_provisioning_worker_that_wakes_up_late_changes_nothing() {
    check(Work::Provision, Adapter::Memory, &[Fault::Sleep], (0, 8)).assert_clean();
}

#[test]
fn a_cancelled_provisioning_gives_name_and_room_back_whatever_happens() {
    check(Work::GiveUp, Adapter::Memory, &Fault::ALL, (0, 3)).assert_clean();
}

#[test]
fn a_migration_survives_a_kill_at_any_point() {
    check(Work::Migrate, Adapter::Memory, &[Fault::Kill], (0, 4)).assert_clean();
}

#[test]
fn a_migration_survives_errors_and_repeated_steps() {
    let faults = [Fault::FailBefore, Fault::FailAfter, Fault::RunTwice];
    check(Work::Migrate, Adapter::Memory, &faults, (0, 5)).assert_clean();
}

#[test]
fn a_migrating_worker_that_wakes_up_late_changes_nothing() {
    check(Work::Migrate, Adapter::Memory, &[Fault::Sleep], (1, 6)).assert_clean();
}

#[test]
fn quarantine_survives_every_fault() {
    check(Work::Quarantine, Adapter::Memory, &Fault::ALL, (1, 7)).assert_clean();
}

#[test]
fn retaining_survives_every_fault() {
    check(Work::Retain, Adapter::Memory, &Fault::ALL, (0, 8)).assert_clean();
}

#[test]
fn bringing_back_survives_every_fault() {
    check(Work::Undelete, Adapter::Memory, &Fault::ALL, (2, 7)).assert_clean();
}

#[test]
fn repairs_of_drift_survive_a_kill_at_any_point() {
    check(Work::Repair, Adapter::Memory, &[Fault::Kill], (0, 2)).assert_clean();
}

#[test]
fn repairs_of_drift_survive_errors_and_sleep() {
    let faults = [Fault::FailBefore, Fault::FailAfter, Fault::Sleep];
    check(Work::Repair, Adapter::Memory, &faults, (1, 4)).assert_clean();
}

#[test]
fn changed_accesses_survive_a_kill_at_any_point() {
    check(Work::Change, Adapter::Memory, &[Fault::Kill], (1, 3)).assert_clean();
}

#[test]
fn changed_accesses_survive_errors_and_sleep() {
    let faults = [Fault::FailBefore, Fault::FailAfter, Fault::Sleep];
    check(Work::Change, Adapter::Memory, &faults, (2, 7)).assert_clean();
}

/// The harness must be able to see: a world that a stranger changed is not like the others.
#[test]
fn the_snapshot_sees_a_grant_a_setting_and_a_forgotten_claim() {
    let scenario = Disturbed {
        work: Work::Provision,
        adapter: Adapter::Memory,
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let shop = scenario.build().await;
        let claimed = scenario.observe(&shop).await;
        shop.complete(shop.operation.expect("requested")).await;
        let done = scenario.observe(&shop).await;
        assert_ne!(claimed, done, "an open claim is seen");
        for change in [
            "GRANT CONNECT ON DATABASE NAME TO PUBLIC",
            "ALTER ROLE NAME_migrator LOGIN",
            "ALTER DATABASE NAME SET work_mem = '5MB'",
            "UPDATE freehold.registry SET state = 'released' WHERE name = 'NAME'",
        ] {
            let before = scenario.observe(&shop).await;
            let sql = change.replace(
                "NAME_migrator",
                &format!("\"{}_migrator\"", shop.database()),
            );
            let sql = sql.replace("'NAME'", &format!("'{}'", shop.database()));
            let sql = sql.replace("NAME", &format!("\"{}\"", shop.database()));
            shop::server().psql("postgres", &sql);
            assert_ne!(before, scenario.observe(&shop).await, "{change}");
        }
    });
}
