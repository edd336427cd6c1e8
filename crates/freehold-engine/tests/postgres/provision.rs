//! Making a database, and what each level may then do.

use freehold_model::kinds::AccessLevel;
use freehold_testing::postgres::Server;

use crate::world::{BOTH, World, access, database, open_migrator};

#[tokio::test]
async fn every_level_can_do_its_work_and_no_more() {
    for version in Server::versions() {
        for admin in BOTH {
            let world = World::start(version, admin);
            let mut desired = database("shop");
            desired.schemas = vec!["stock".into()];
            desired.accesses = vec![
                access(1, "reader", AccessLevel::ReadOnly, &[]),
                access(2, "writer", AccessLevel::ReadWrite, &[]),
                access(3, "boss", AccessLevel::Owner, &[]),
            ];
            open_migrator(&mut desired);
            world.reserve(&desired, 1).await.expect("the name is free");
            let made = world
                .apply(&desired, 1)
                .await
                .expect("the database is made");
            let not: Vec<_> = made
                .iter()
                .filter(|difference| !difference.repaired)
                .collect();
            println!("{version} {admin:?}: {not:#?}");
            let again = world.apply(&desired, 1).await.expect("nothing to do");
            println!("again {again:#?}");
        }
    }
}
