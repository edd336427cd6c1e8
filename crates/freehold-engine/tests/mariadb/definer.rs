//! Views, triggers, routines and events outlive the logins that use them.

use freehold_model::{Gate, kinds::AccessLevel};

use crate::world::{As, World, access, credentials, database, fence, keys, rotate};

const PROGRAMS: &str = "
CREATE TABLE t (i int);
CREATE TABLE log (i int);
CREATE VIEW v AS SELECT i FROM t;
CREATE TRIGGER tr AFTER INSERT ON t FOR EACH ROW INSERT INTO log VALUES (NEW.i);
CREATE PROCEDURE p(x int) INSERT INTO t VALUES (x);
CREATE FUNCTION f() RETURNS int READS SQL DATA RETURN (SELECT COUNT(*) FROM t);
CREATE EVENT e ON SCHEDULE EVERY 1 SECOND DO INSERT INTO log VALUES (-1);
";

#[tokio::test]
async fn a_slot_is_disabled_and_every_program_goes_on() {
    for admin in [As::Superuser, As::Managed] {
        let world = World::start(admin);
        world.server.sql("SET GLOBAL event_scheduler = ON");
        let mut desired = database("shop");
        desired.accesses = vec![access(1, "app", AccessLevel::ReadWrite, &[])];
        world.provision(&desired).await;
        world.migrate(&desired, 1, PROGRAMS).await;
        assert_eq!(world.apply(&desired, 1).await.expect("as it should be"), []);
        let definers = world.server.sql(
            "SELECT DEFINER FROM information_schema.VIEWS WHERE TABLE_SCHEMA = 'shop' \
             UNION SELECT DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'shop' \
             UNION SELECT DEFINER FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'shop' \
             UNION SELECT DEFINER FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'shop'",
        );
        assert_eq!(definers, "shop_migrator@%", "one account for all of them");
        let use_all = "CALL p(1); SELECT COUNT(*) FROM v; SELECT f(); \
            SELECT COUNT(*) FROM log WHERE i = 1";
        assert_eq!(
            world.sql_as(&desired, "app_a", use_all),
            Ok("1\n1\n1".into())
        );

        // Slot A is rotated out, then retired for good.
        rotate(&mut desired);
        world.apply(&desired, 1).await.expect("rotated");
        assert_eq!(
            world.sql_as(&desired, "app_b", use_all),
            Ok("2\n2\n2".into())
        );
        world
            .engine
            .disable_logins(
                "shop",
                &desired.stamp,
                &["app_a".into()],
                &fence(1),
                &Gate::open(),
            )
            .await
            .expect("retired");
        assert_eq!(
            world.sql_as(&desired, "app_b", use_all),
            Ok("3\n3\n3".into())
        );
        // Even when its account is gone altogether.
        world.server.sql("DROP USER app_a@'%'");
        assert_eq!(
            world.sql_as(&desired, "app_b", use_all),
            Ok("4\n4\n4".into())
        );
        let event = "SELECT COUNT(*) INTO @before FROM shop.log WHERE i = -1; \
            SELECT SLEEP(2.2) INTO @s; SELECT COUNT(*) > @before FROM shop.log WHERE i = -1";
        assert_eq!(world.server.sql(event), "1", "events run");
    }
}

/// A script cannot act as somebody else: the migrator has no SET USER.
#[tokio::test]
async fn a_migration_cannot_define_in_another_name() {
    let world = World::start(As::Managed);
    let mut desired = database("shop");
    desired.accesses = vec![access(1, "app", AccessLevel::Owner, &[])];
    world.provision(&desired).await;
    crate::world::open_migrator(&mut desired);
    world.apply(&desired, 1).await.expect("open");
    for sql in [
        "CREATE DEFINER = root@'%' VIEW v AS SELECT * FROM mysql.global_priv",
        "CREATE DEFINER = root@'%' PROCEDURE p() SELECT 1",
        "CREATE DEFINER = app_a@'%' PROCEDURE p() SELECT 1",
        "CREATE USER thief@'%'",
        "GRANT SELECT ON shop.* TO app_b@'%'",
        "SET GLOBAL general_log = ON",
        "SELECT 1 INTO OUTFILE '/tmp/never'",
    ] {
        world.sql_as(&desired, "shop_migrator", sql).expect_err(sql);
    }
}

/// What an administrator defined in the name of a login slot is found before the slot is retired.
#[tokio::test]
async fn a_program_in_a_foreign_name_is_reported() {
    let world = World::start(As::Superuser);
    let mut desired = database("shop");
    desired.accesses = vec![access(1, "app", AccessLevel::ReadOnly, &[])];
    world.provision(&desired).await;
    world.migrate(&desired, 1, "CREATE TABLE t (i int)").await;
    let by_hand = "
        CREATE DEFINER = app_a@'%' VIEW v AS SELECT i FROM t;
        CREATE DEFINER = app_a@'%' SQL SECURITY INVOKER VIEW w AS SELECT i FROM t;
        CREATE DEFINER = app_a@'%' PROCEDURE p() SELECT * FROM t;
        CREATE DEFINER = root@'%' TRIGGER tr AFTER INSERT ON t FOR EACH ROW SET @x = 1;
        CREATE DEFINER = app_b@'%' EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1";
    world
        .server
        .sql_as(&world.server.superuser_login(), "shop", by_hand)
        .expect("made");
    let mut told = world.apply(&desired, 1).await.expect("looked at");
    told.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(
        keys(&told),
        [
            "definer.foreign:event:e",
            "definer.foreign:routine:p",
            "definer.foreign:trigger:tr",
            "definer.foreign:view:v",
        ]
    );
    assert!(told.iter().all(|found| !found.repaired));
    // This is what it warns of.
    let read = |login| {
        world
            .server
            .sql_as(&credentials(login), "shop", "SELECT * FROM v")
    };
    assert!(read("app_a").is_ok());
    world
        .engine
        .disable_logins(
            "shop",
            &desired.stamp,
            &["app_a".into()],
            &fence(1),
            &Gate::open(),
        )
        .await
        .expect("retired");
    let mut rotated = desired.clone();
    rotate(&mut rotated);
    rotated.accesses.remove(0);
    let broken = world
        .server
        .sql_as(&world.server.superuser_login(), "shop", "SELECT * FROM v");
    let error = broken.expect_err("its definer lost its rights");
    assert!(
        error.contains("1356") || error.contains("1142") || error.contains("denied"),
        "{error}"
    );
}
