//! Several processes on one directory, some of them killed.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use freehold_engine::{ConvergeMode, DesiredState};
use freehold_model::Gate;

use crate::world::{World, converge, database, fence, patient_engine};

const DIRECTORY: &str = "FREEHOLD_TEST_SQLITE_DIRECTORY";
const PREFIX: &str = "FREEHOLD_TEST_SQLITE_PREFIX";
const DATABASES: usize = 12;

/// Makes databases, closes and opens each. Alone it is a test of that; the other tests run it in
/// processes of its own.
#[tokio::test]
async fn a_worker() {
    let world = World::start();
    let directory = std::env::var_os(DIRECTORY).map_or(world.directory.clone(), PathBuf::from);
    let prefix = std::env::var(PREFIX).unwrap_or_else(|_| "alone".into());
    work(&directory, &prefix, 1).await;
}

async fn work(directory: &Path, prefix: &str, epoch: u64) {
    let engine = patient_engine(directory);
    for at in 0..DATABASES {
        let desired = database(&format!("{prefix}{at}"));
        let (fence, gate) = (fence(epoch), Gate::open());
        let reserved = engine.reserve(&desired.name, &desired.stamp, &fence, &gate);
        reserved.await.expect("free");
        for state in [DesiredState::Open, DesiredState::Closed, DesiredState::Open] {
            let mut wanted = desired.clone();
            wanted.state = state;
            let made = converge(&engine, &wanted, ConvergeMode::Apply, epoch);
            made.await.expect("made");
        }
        let left = converge(&engine, &desired, ConvergeMode::Observe, epoch).await;
        assert_eq!(left.expect("looked"), []);
    }
}

fn spawn(directory: &Path, prefix: &str) -> Child {
    Command::new(std::env::current_exe().expect("our own program"))
        .args(["--exact", "processes::a_worker"])
        .env(DIRECTORY, directory)
        .env(PREFIX, prefix)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started")
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_share_a_directory() {
    let world = World::start();
    let mut workers: Vec<Child> = (0..3)
        .map(|at| spawn(&world.directory, &format!("w{at}_")))
        .collect();
    work(&world.directory, "here_", 1).await;
    for worker in &mut workers {
        assert!(worker.wait().expect("ended").success());
    }
    let facts = world.engine.inspect().await.expect("inspected");
    assert_eq!(facts.databases as usize, 4 * DATABASES);
}

/// Killed as soon as so many databases are there, wherever it is by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_anywhere_is_completed_by_another() {
    for made in [0, 1, 3, 6, 9] {
        let world = World::start();
        let mut worker = spawn(&world.directory, "db");
        let began = Instant::now();
        let databases = world.directory.join("databases");
        loop {
            let count = std::fs::read_dir(&databases).map_or(0, Iterator::count);
            if count > made || worker.try_wait().expect("asked").is_some() {
                break;
            }
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "the worker stands still"
            );
            tokio::task::yield_now().await;
        }
        worker.kill().expect("killed");
        worker.wait().expect("gone");
        work(&world.directory, "db", 2).await;
        let facts = world.engine.inspect().await.expect("inspected");
        assert_eq!(facts.databases as usize, DATABASES);
        let making = std::fs::read_dir(world.directory.join("making")).expect("a place");
        assert_eq!(making.count(), 0);
    }
}
