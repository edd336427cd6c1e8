//! Files replaced, removed, locked, damaged, opened to others; directories copied, lost, given away.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use freehold_engine::{ConvergeMode, DesiredState, Fault, ScriptSession as _};
use freehold_model::Gate;
use rusqlite::Connection;

use crate::world::{World, converge, database, engine, fence, keys, program, session, stamp};

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().expect("there").mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("changed");
}

/// Copies a folder with everything in it, as `cp -r` does.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("made");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[tokio::test]
async fn what_is_made_is_the_owners_alone_and_has_a_log() {
    let world = World::start();
    world.provision(&database("shop")).await;
    let open = program(&world.file("shop")).expect("opened");
    open.execute_batch("CREATE TABLE item (id)")
        .expect("written");
    let folder = world.home("shop");
    for (path, expected) in [
        (&world.directory, 0o700),
        (&world.directory.join("freehold-registry.db"), 0o600),
        (&folder, 0o700),
        (&folder.join("shop.db"), 0o600),
        (&folder.join("shop.db-wal"), 0o600),
        (&folder.join("shop.db-shm"), 0o600),
    ] {
        assert_eq!(mode(path), expected, "{}", path.display());
    }
    let facts = world.engine.inspect().await.expect("inspected");
    assert_eq!((facts.version_major, facts.databases), (3, 1));
    assert!(facts.size_bytes > 0 && facts.version.starts_with("3."));
}

#[tokio::test]
async fn permissions_that_were_changed_are_put_back() {
    let world = World::start();
    let desired = database("shop");
    world.provision(&desired).await;
    // A log with something in it: the permissions of an empty one SQLite itself puts right.
    let open = program(&world.file("shop")).expect("opened");
    open.execute_batch("CREATE TABLE item (id)")
        .expect("written");
    let registry = world.directory.join("freehold-registry.db");
    for (path, wrong, right) in [
        (world.home("shop"), 0o755, 0o700),
        (world.file("shop"), 0o644, 0o600),
        (world.file("shop"), 0o400, 0o600),
        (world.home("shop").join("shop.db-wal"), 0o666, 0o600),
        (world.directory.clone(), 0o777, 0o700),
        (registry, 0o644, 0o600),
    ] {
        set_mode(&path, wrong);
        let seen = world.observe(&desired, 1).await.expect("looked");
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert!(
            seen[0].key.contains("permissions") && !seen[0].repaired,
            "{seen:?}"
        );
        assert_eq!(mode(&path), wrong, "looking changes nothing");
        let found = world.apply(&desired, 1).await.expect("repaired");
        assert!(found.len() == 1 && found[0].repaired, "{found:?}");
        assert_eq!(mode(&path), right);
        assert_eq!(world.observe(&desired, 1).await.expect("looked"), []);
    }
}

#[tokio::test]
async fn a_file_of_another_account_is_reported_and_left() {
    let world = World::start();
    let desired = database("shop");
    world.provision(&desired).await;
    // Only root can give a file away; `cargo xtask test` runs as root in a namespace of its own.
    std::os::unix::fs::chown(world.file("shop"), Some(1), None).expect("given away");
    let found = world.apply(&desired, 1).await.expect("reported");
    assert_eq!(keys(&found), ["file.owner:shop"]);
    assert!(!found[0].repaired);
    std::os::unix::fs::chown(&world.directory, Some(1), None).expect("given away");
    for error in [
        world.apply(&desired, 1).await.err(),
        world.reserve(&desired, 1).await.err(),
        world.engine.inspect().await.err(),
    ] {
        let error = error.expect("somebody else could change it under our hands");
        assert!(matches!(error.fault, Fault::Denied { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_removed_file_is_never_made_again() {
    let world = World::start();
    let desired = database("shop");
    world.provision(&desired).await;
    for whole in [false, true] {
        let target = if whole {
            fs::remove_dir_all(world.home("shop")).expect("removed");
            world.home("shop")
        } else {
            fs::remove_file(world.file("shop")).expect("removed");
            world.file("shop")
        };
        for result in [
            world.apply(&desired, 2).await,
            world.observe(&desired, 2).await,
        ] {
            let error = result.expect_err("a person decides");
            assert!(matches!(error.fault, Fault::Missing { .. }), "{error}");
        }
        assert!(!target.exists());
    }
}

#[tokio::test]
async fn a_replaced_file_is_noticed_until_a_person_says_it_is_the_one() {
    let world = World::start();
    let desired = database("shop");
    world.provision(&desired).await;
    world.fill("shop");
    let backup = world.directory.parent().expect("a parent").join("backup");
    fs::copy(world.file("shop"), &backup).expect("copied");
    // Even a copy of the same database: it may be of yesterday.
    fs::rename(&backup, world.file("shop")).expect("replaced");
    set_mode(&world.file("shop"), 0o600);
    for result in [
        world.apply(&desired, 1).await,
        world.observe(&desired, 1).await,
    ] {
        let error = result.expect_err("a person decides");
        assert!(
            matches!(&error.fault, Fault::Missing { what } if what.contains("SET place = NULL WHERE name = 'shop'")),
            "{error}"
        );
    }
    world.registry_sql("UPDATE database SET place = NULL WHERE name = 'shop'");
    let found = world.apply(&desired, 1).await.expect("recorded");
    assert_eq!(keys(&found), ["file.unrecorded:shop"]);
    assert!(found[0].repaired);
    assert_eq!(world.apply(&desired, 1).await.expect("settled"), []);
    assert_eq!(world.kept(&world.file("shop")), Some(42));
}

#[tokio::test]
async fn content_written_over_in_place_is_reported() {
    let world = World::start();
    let desired = database("shop");
    world.provision(&desired).await;
    world.fill("shop");
    program(&world.file("shop"))
        .expect("opened")
        .execute_batch("VACUUM")
        .expect("vacuumed");
    assert_eq!(
        world.observe(&desired, 1).await.expect("the mark stays"),
        []
    );
    let mut other = database("other");
    other.stamp = stamp(2);
    world.provision(&other).await;
    fs::write(
        world.file("shop"),
        fs::read(world.file("other")).expect("read"),
    )
    .expect("written");
    let found = world.apply(&desired, 1).await.expect("reported");
    assert_eq!(keys(&found), ["file.content:shop"]);
    assert!(!found[0].repaired);
    fs::write(world.file("shop"), "not a database at all ".repeat(50)).expect("written");
    let found = world.apply(&desired, 1).await.expect("reported");
    assert_eq!(keys(&found), ["file.damaged:shop"]);
    assert!(found[0].message.contains(".recover"), "{found:?}");
}

#[tokio::test]
async fn a_journal_mode_that_was_changed_is_put_back_once_nobody_holds_the_file() {
    let world = World::start();
    let desired = database("shop");
    world.provision(&desired).await;
    let other = program(&world.file("shop")).expect("opened");
    let set: String = other
        .query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0))
        .expect("changed");
    assert_eq!(set, "delete");
    let seen = world.observe(&desired, 1).await.expect("looked");
    assert_eq!(keys(&seen), ["file.journal_mode:shop"]);

    other
        .execute_batch("BEGIN IMMEDIATE; CREATE TABLE item (id)")
        .expect("a writer");
    let error = world.apply(&desired, 1).await.expect_err("it is locked");
    assert!(matches!(error.fault, Fault::Busy { .. }), "{error}");
    assert!(error.is_retryable());
    other.execute_batch("COMMIT").expect("done");
    let found = world.apply(&desired, 1).await.expect("repaired");
    assert_eq!(keys(&found), ["file.journal_mode:shop"]);
    assert_eq!(world.observe(&desired, 1).await.expect("looked"), []);
}

#[tokio::test]
async fn a_file_that_is_locked_does_not_stop_what_needs_no_lock() {
    let world = World::start();
    let desired = database("shop");
    world.provision(&desired).await;
    let writer = program(&world.file("shop")).expect("opened");
    writer
        .execute_batch(
            "CREATE TABLE item (id INTEGER); BEGIN EXCLUSIVE; INSERT INTO item VALUES (42)",
        )
        .expect("a writer");
    assert_eq!(world.apply(&desired, 1).await.expect("looked"), []);
    let mut scripts = session(&world.file("shop")).await;
    let error = scripts.execute("CREATE TABLE more (id)").await;
    let error = error.expect_err("somebody writes");
    assert!(matches!(error.fault, Fault::Busy { .. }), "{error}");
    // Closing moves it under the writer, which goes on: nothing is lost.
    let mut closed = desired.clone();
    closed.state = DesiredState::Closed;
    world.apply(&closed, 1).await.expect("closed");
    writer.execute_batch("COMMIT").expect("it goes on");
    drop((writer, scripts));
    assert!(
        program(&world.file("shop")).is_err(),
        "nobody opens it anew"
    );
    world.apply(&desired, 1).await.expect("opened");
    assert_eq!(world.kept(&world.file("shop")), Some(42));
}

#[tokio::test]
async fn a_crashed_programs_log_moves_with_its_file() {
    let world = World::start();
    let desired = database("shop");
    world.provision(&desired).await;
    let writer = program(&world.file("shop")).expect("opened");
    writer
        .execute_batch("CREATE TABLE item (id INTEGER); INSERT INTO item VALUES (42)")
        .expect("written");
    assert!(
        fs::metadata(world.home("shop").join("shop.db-wal"))
            .expect("a log")
            .len()
            > 0
    );
    // It never closes the file, as after kill -9.
    std::mem::forget(writer);
    let mut closed = desired.clone();
    closed.state = DesiredState::Closed;
    world.apply(&closed, 1).await.expect("closed");
    assert!(!world.home("shop").exists());
    world.apply(&desired, 1).await.expect("opened");
    assert_eq!(world.kept(&world.file("shop")), Some(42));
}

#[tokio::test]
async fn what_stands_where_a_closed_database_was_is_reported_and_left() {
    let world = World::start();
    let mut desired = database("shop");
    world.provision(&desired).await;
    world.fill("shop");
    desired.state = DesiredState::Closed;
    world.apply(&desired, 1).await.expect("closed");
    fs::create_dir(world.home("shop")).expect("made by a program");
    drop(Connection::open(world.file("shop")).expect("made by a program"));
    fs::write(world.file("shop"), "new").expect("written");
    let found = world.apply(&desired, 1).await.expect("reported");
    assert_eq!(keys(&found), ["folder.foreign:shop"]);
    desired.state = DesiredState::Open;
    let error = world
        .apply(&desired, 1)
        .await
        .expect_err("it is in the way");
    assert!(matches!(error.fault, Fault::NameTaken { .. }), "{error}");
    assert_eq!(fs::read_to_string(world.file("shop")).expect("left"), "new");
    fs::remove_dir_all(world.home("shop")).expect("settled by a person");
    world.apply(&desired, 1).await.expect("opened");
    assert_eq!(world.kept(&world.file("shop")), Some(42));
}

#[tokio::test]
async fn a_copied_directory_is_not_the_original() {
    let world = World::start();
    let desired = database("shop");
    world.provision(&desired).await;
    let copied = world.directory.parent().expect("a parent").join("copy");
    copy(&world.directory, &copied);
    set_mode(&copied, 0o700);
    let original = world.engine.inspect().await.expect("inspected").identity;
    let copy = engine(&copied);
    assert_ne!(copy.inspect().await.expect("inspected").identity, original);
    let survey = copy.survey().await.expect("a survey");
    assert!(survey.databases.iter().all(|found| !found.same_server));
    let (gate, second) = (Gate::open(), fence(2));
    let mut new = database("new");
    new.stamp = stamp(2);
    for result in [
        copy.reserve("shop", &desired.stamp, &second, &gate).await,
        copy.reserve("new", &new.stamp, &second, &gate).await,
        converge(&copy, &desired, ConvergeMode::Apply, 2)
            .await
            .map(|_| ()),
        converge(&copy, &desired, ConvergeMode::Observe, 2)
            .await
            .map(|_| ()),
        copy.disable_logins("shop", &desired.stamp, &[], &second, &gate)
            .await,
        copy.release("shop", &desired.stamp, &second, &gate).await,
    ] {
        let error = result.expect_err("a copy changes nothing");
        assert!(
            matches!(&error.fault, Fault::ServerMismatch { expected, .. } if Some(expected) == original.as_ref()),
            "{error}"
        );
    }
    // Moving it is not copying it, and a person may say that the copy is the one now.
    assert_eq!(
        world
            .apply(&desired, 1)
            .await
            .expect("the original goes on"),
        []
    );
    let moved = world.directory.parent().expect("a parent").join("moved");
    fs::rename(&world.directory, &moved).expect("moved");
    let moved = converge(&engine(&moved), &desired, ConvergeMode::Observe, 1).await;
    assert_eq!(moved.expect("the same"), []);
    Connection::open(copied.join("freehold-registry.db"))
        .expect("opened")
        .execute_batch("UPDATE server SET place = NULL; UPDATE database SET place = NULL")
        .expect("said so");
    let found = converge(&copy, &desired, ConvergeMode::Apply, 2)
        .await
        .expect("taken");
    assert!(keys(&found).contains(&"file.unrecorded:shop"), "{found:?}");
    let again = converge(&copy, &desired, ConvergeMode::Apply, 2).await;
    assert_eq!(again.expect("settled"), []);
    assert_eq!(copy.inspect().await.expect("inspected").identity, original);
}

#[tokio::test]
async fn a_row_from_another_directory_is_refused() {
    let world = World::start();
    let desired = database("shop");
    world.provision(&desired).await;
    world.registry_sql("UPDATE database SET server = '4711'");
    for result in [
        world.reserve(&desired, 2).await,
        world.apply(&desired, 2).await.map(|_| ()),
    ] {
        let error = result.expect_err("refused");
        assert!(
            matches!(error.fault, Fault::ServerMismatch { .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_registry_that_is_lost_or_damaged_says_what_to_do() {
    let world = World::start();
    let desired = database("shop");
    world.provision(&desired).await;
    let registry = world.directory.join("freehold-registry.db");
    // Brings everything into the file: what is still in its log would outlast the damage.
    drop(world.registry());
    let whole = fs::read(&registry).expect("read");
    let mut torn = whole.clone();
    torn[..100].fill(7);
    let mut shuffled = whole.clone();
    shuffled[4096..].fill(0xAA);
    for damaged in [torn, shuffled, b"short".to_vec()] {
        fs::write(&registry, damaged).expect("written");
        for result in [
            world.reserve(&desired, 1).await,
            world.apply(&desired, 1).await.map(|_| ()),
            world.engine.survey().await.map(|_| ()),
        ] {
            let error = result.expect_err("damaged");
            assert!(
                matches!(&error.fault, Fault::Invalid { detail } if detail.contains("backup")),
                "{error}"
            );
        }
    }
    fs::remove_file(&registry).expect("lost");
    let error = world.apply(&desired, 1).await.expect_err("lost");
    assert!(matches!(error.fault, Fault::Missing { .. }), "{error}");
    let error = world.reserve(&desired, 1).await.expect_err("not made anew");
    assert!(
        matches!(&error.fault, Fault::Invalid { detail } if detail.contains("backup")),
        "{error}"
    );
    assert!(!registry.exists());
}

#[tokio::test]
async fn a_directory_with_other_content_is_not_taken() {
    let world = World::start();
    fs::create_dir(&world.directory).expect("made");
    set_mode(&world.directory, 0o755);
    fs::write(world.directory.join("letter.txt"), "mine").expect("written");
    let error = world.reserve(&database("shop"), 1).await;
    let error = error.expect_err("it is somebody's");
    assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");
    assert_eq!(mode(&world.directory), 0o755, "and stays as it was");
    fs::remove_file(world.directory.join("letter.txt")).expect("removed");
    world.provision(&database("shop")).await;
    assert_eq!(mode(&world.directory), 0o700);

    let lost = world.directory.join("not").join("mounted");
    let error = engine(&lost).inspect().await.expect_err("no parent");
    assert!(matches!(error.fault, Fault::Unreachable { .. }), "{error}");
    let reserved = engine(&lost)
        .reserve("shop", &stamp(1), &fence(1), &Gate::open())
        .await;
    assert!(
        matches!(&reserved.expect_err("no parent").fault, Fault::Missing { what } if what.contains("mounted")),
    );
}

#[tokio::test]
async fn a_held_registry_is_busy_and_then_free() {
    let world = World::start();
    world.provision(&database("shop")).await;
    let holder = world.registry();
    holder.execute_batch("BEGIN IMMEDIATE").expect("held");
    let error = world.reserve(&database("shop"), 2).await;
    let error = error.expect_err("held");
    assert!(matches!(error.fault, Fault::Busy { .. }), "{error}");
    assert_eq!(
        world
            .apply(&database("shop"), 1)
            .await
            .expect("looking is possible"),
        []
    );
    drop(holder);
    world.reserve(&database("shop"), 2).await.expect("free");
}

#[tokio::test]
async fn links_are_not_followed() {
    let world = World::start();
    let desired = database("shop");
    world.provision(&desired).await;
    let elsewhere = world
        .directory
        .parent()
        .expect("a parent")
        .join("elsewhere");
    fs::rename(world.home("shop"), &elsewhere).expect("moved");
    std::os::unix::fs::symlink(&elsewhere, world.home("shop")).expect("linked");
    set_mode(&elsewhere, 0o755);
    let error = world.apply(&desired, 1).await.expect_err("it is a link");
    assert!(matches!(error.fault, Fault::Missing { .. }), "{error}");
    assert_eq!(mode(&elsewhere), 0o755);
    let link = world.directory.join("link.db");
    std::os::unix::fs::symlink(elsewhere.join("shop.db"), &link).expect("linked");
    let error = freehold_engine::sqlite::SqliteSession::open(&link).await;
    assert!(matches!(
        error.err().expect("refused").fault,
        Fault::Invalid { .. }
    ));
}
