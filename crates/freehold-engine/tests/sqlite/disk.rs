//! A disk that is full, at every moment.

use freehold_engine::{ConvergeMode, DesiredState, Fault, ScriptSession as _};
use freehold_model::Gate;
use freehold_testing::disk::Tiny;

use crate::world::{converge, database, engine, fence, session, stamp};

#[tokio::test]
async fn a_full_disk_leaves_nothing_half_done() {
    let disk = Tiny::new(1024 * 1024);
    let directory = disk.path().join("instance");
    let (engine, gate) = (engine(&directory), Gate::open());
    let desired = database("shop");
    let first = fence(1);

    // Before anything is there.
    disk.fill();
    let error = engine
        .reserve("shop", &desired.stamp, &first, &gate)
        .await
        .expect_err("full");
    assert!(matches!(error.fault, Fault::Exhausted { .. }), "{error}");
    disk.free();
    let reserving = engine.reserve("shop", &desired.stamp, &first, &gate);
    reserving.await.expect("room");

    // While the database is made.
    disk.fill();
    let error = converge(&engine, &desired, ConvergeMode::Apply, 1).await;
    let error = error.expect_err("full");
    assert!(matches!(error.fault, Fault::Exhausted { .. }), "{error}");
    assert!(error.is_retryable());
    disk.free();
    assert_eq!(engine.inspect().await.expect("inspected").databases, 0);
    converge(&engine, &desired, ConvergeMode::Apply, 1)
        .await
        .expect("room");
    let seen = converge(&engine, &desired, ConvergeMode::Observe, 1).await;
    assert_eq!(seen.expect("looked"), []);

    // While another name is taken: the name stays free.
    disk.fill();
    let error = engine
        .reserve("more", &stamp(2), &fence(7), &gate)
        .await
        .expect_err("full");
    assert!(matches!(error.fault, Fault::Exhausted { .. }), "{error}");
    disk.free();
    engine
        .reserve("more", &stamp(3), &first, &gate)
        .await
        .expect("still free");
}

#[tokio::test]
async fn a_script_that_fills_the_disk_is_rolled_back() {
    let disk = Tiny::new(2 * 1024 * 1024);
    let directory = disk.path().join("instance");
    let (engine, gate) = (engine(&directory), Gate::open());
    let desired = database("shop");
    engine
        .reserve("shop", &desired.stamp, &fence(1), &gate)
        .await
        .expect("free");
    converge(&engine, &desired, ConvergeMode::Apply, 1)
        .await
        .expect("made");
    let file = directory.join("databases/shop/shop.db");
    let mut scripts = session(&file).await;
    scripts
        .execute_batch("CREATE TABLE item (data); INSERT INTO item VALUES (1)")
        .await
        .expect("room");
    let hungry = "BEGIN; CREATE TABLE big (data); INSERT INTO big \
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000) \
        SELECT randomblob(4000) FROM n; COMMIT";
    let interrupted = scripts.execute_batch(hungry).await.expect_err("full");
    assert!(
        matches!(interrupted.error.fault, Fault::Exhausted { .. }),
        "{}",
        interrupted.error
    );
    assert_eq!(interrupted.completed, Some(2));
    scripts.reset().await.expect("a new session");
    let rows = scripts
        .query(
            "SELECT count(*), (SELECT count(*) FROM sqlite_schema) FROM item",
            &[],
        )
        .await
        .expect("read");
    assert_eq!(rows, [[Some("1".to_owned()), Some("1".to_owned())]]);
}

#[tokio::test]
async fn a_read_only_disk_says_so() {
    let disk = Tiny::new(1024 * 1024);
    let directory = disk.path().join("instance");
    let (engine, gate) = (engine(&directory), Gate::open());
    let mut desired = database("shop");
    let first = fence(1);
    engine
        .reserve("shop", &desired.stamp, &first, &gate)
        .await
        .expect("free");
    converge(&engine, &desired, ConvergeMode::Apply, 1)
        .await
        .expect("made");
    let before = engine.inspect().await.expect("inspected");
    remount(&disk, "ro");
    let facts = engine.inspect().await.expect("it may still be looked at");
    assert!(facts.read_only && !before.read_only);
    assert_eq!(facts.identity, before.identity);
    desired.state = DesiredState::Closed;
    for result in [
        engine.reserve("shop", &desired.stamp, &first, &gate).await,
        converge(&engine, &desired, ConvergeMode::Apply, 1)
            .await
            .map(|_| ()),
    ] {
        assert_eq!(result.expect_err("read-only").fault, Fault::ReadOnly);
    }
    remount(&disk, "rw");
    converge(&engine, &desired, ConvergeMode::Apply, 1)
        .await
        .expect("closed");
}

fn remount(disk: &Tiny, how: &str) {
    let mounted = std::process::Command::new("mount")
        .args(["-o", &format!("remount,{how}")])
        .arg(disk.path())
        .status()
        .expect("mount is installed");
    assert!(mounted.success());
}
