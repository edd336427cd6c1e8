//! Names that want to be something else.

use freehold_engine::Fault;

use crate::world::{World, database, keys};

#[tokio::test]
async fn odd_names_get_files_of_their_own() {
    let world = World::start();
    let long = "x".repeat(63);
    let names = [
        "shop",
        "Shop",
        "SHOP",
        "sh~op",
        "données",
        "a b",
        "-rf",
        "%2e%2e",
        "file:x?mode=ro",
        "'; --",
        "nul",
        ".hidden",
        "~",
        &long,
    ];
    for name in names {
        world.provision(&database(name)).await;
        world.fill(name);
    }
    for name in names {
        assert_eq!(world.observe(&database(name), 1).await.expect("looked"), []);
        assert_eq!(world.kept(&world.file(name)), Some(42));
        assert!(
            world
                .file(name)
                .starts_with(world.directory.join("databases"))
        );
    }
    let survey = world.engine.survey().await.expect("a survey");
    let mut listed: Vec<_> = survey.databases.iter().map(|found| &*found.name).collect();
    let mut expected = names.to_vec();
    listed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    assert!(survey.databases.iter().all(|found| found.stamp.is_some()));
    assert_eq!(
        world.engine.inspect().await.expect("inspected").databases,
        14
    );
}

#[tokio::test]
async fn names_that_could_leave_the_directory_are_refused() {
    let world = World::start();
    world.provision(&database("shop")).await;
    let long = "x".repeat(64);
    for name in [
        "", ".", "..", "../shop", "/tmp/x", "a\\b", "a\0b", "a\nb", &long,
    ] {
        for result in [
            world.reserve(&database(name), 1).await,
            world.apply(&database(name), 1).await.map(|_| ()),
        ] {
            let error = result.expect_err(name);
            assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");
        }
    }
    assert_eq!(
        world.engine.inspect().await.expect("inspected").databases,
        1
    );
}

#[tokio::test]
async fn limits_that_no_file_can_hold_are_refused_by_name() {
    let world = World::start();
    let mut desired = database("shop");
    world.provision(&desired).await;
    desired.limits.connections = Some(5);
    let error = world.apply(&desired, 1).await.expect_err("not claimed");
    assert!(
        matches!(&error.fault, Fault::Unsupported { what } if what.contains("connections")),
        "{error}"
    );
    assert!(world.engine.capabilities().firm_limits.is_empty());
    desired.limits.connections = None;
    assert_eq!(
        keys(&world.apply(&desired, 1).await.expect("as it is")),
        Vec::<&str>::new()
    );
}
