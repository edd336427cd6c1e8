//! What hands do to a server, found and repaired or reported.

use freehold_engine::{ScriptSession as _, mariadb::MariadbSession};
use freehold_model::kinds::AccessLevel;

use crate::world::{As, World, access, credentials, database, keys, target, uid};

async fn shop(world: &World) -> freehold_engine::DesiredDatabase {
    let mut desired = database("team_a");
    desired.limits.connections = Some(5);
    desired.limits.statement_timeout_ms = Some(2_500);
    desired.accesses = vec![
        access(1, "app", AccessLevel::ReadOnly, &[]),
        access(2, "part", AccessLevel::ReadOnly, &["t"]),
    ];
    world.provision(&desired).await;
    let setup = "CREATE TABLE t (i int, j int); CREATE TABLE u (i int); \
        CREATE PROCEDURE p() SELECT 1; CREATE FUNCTION f() RETURNS int RETURN 1";
    world.migrate(&desired, 1, setup).await;
    world.apply(&desired, 1).await.expect("granted");
    assert_eq!(world.apply(&desired, 1).await.expect("as it should be"), []);
    desired
}

/// Each change by hand, and the key under which it is found. All are repaired.
const CASES: [(&str, &str); 33] = [
    (
        "GRANT INSERT ON `team\\_a`.* TO app_a@'%'",
        "grant.extra:team_a:app_a",
    ),
    (
        "GRANT INSERT ON team_a.* TO app_a@'%'",
        "grant.extra:team_a:app_a",
    ),
    (
        "GRANT SELECT ON `team%`.* TO app_a@'%'",
        "grant.extra:team%:app_a",
    ),
    (
        "GRANT SELECT ON other.* TO part_a@'%'",
        "grant.extra:other:part_a",
    ),
    (
        "GRANT SELECT ON other.t TO part_a@'%'",
        "grant.extra:other.t:part_a",
    ),
    ("GRANT SELECT ON *.* TO app_b@'%'", "grant.extra:*:app_b"),
    (
        "GRANT CREATE USER ON *.* TO app_a@'%' WITH GRANT OPTION",
        "grant.extra:*:app_a",
    ),
    (
        "GRANT SELECT ON `team\\_a`.* TO app_a@'%' WITH GRANT OPTION",
        "grant.extra:team_a:app_a",
    ),
    (
        "GRANT SELECT ON `team\\_a`.* TO snoop@'%'",
        "grant.extra:team_a:snoop",
    ),
    (
        "GRANT SELECT ON `team_a`.* TO snoop@'10.0.0.%'",
        "grant.extra:team_a:snoop@10.0.0.%",
    ),
    (
        "GRANT SELECT ON `team\\_a`.* TO PUBLIC",
        "grant.extra:team_a:PUBLIC",
    ),
    (
        "GRANT SELECT ON `team\\_a`.* TO hidden",
        "grant.extra:team_a:hidden",
    ),
    (
        "GRANT SELECT ON team_a.t TO snoop@'%'",
        "grant.extra:team_a.t:snoop",
    ),
    (
        "GRANT DROP ON team_a.t TO part_a@'%'",
        "grant.extra:team_a.t:part_a",
    ),
    (
        "GRANT SELECT ON team_a.u TO part_a@'%'",
        "grant.extra:team_a.u:part_a",
    ),
    (
        "GRANT UPDATE (j) ON team_a.t TO part_a@'%'",
        "grant.extra:team_a.t.j:part_a",
    ),
    (
        "GRANT EXECUTE ON PROCEDURE team_a.p TO app_a@'%'",
        "grant.extra:team_a.p():app_a",
    ),
    (
        "GRANT EXECUTE ON FUNCTION team_a.f TO snoop@'%'",
        "grant.extra:team_a.f():snoop",
    ),
    ("GRANT hidden TO app_a@'%'", "member.extra:hidden:app_a"),
    (
        "GRANT PROXY ON root@'%' TO app_a@'%'",
        "proxy.extra:root:app_a",
    ),
    (
        "REVOKE SELECT ON `team\\_a`.* FROM app_a@'%'",
        "grant.missing:team_a:app_a",
    ),
    (
        "REVOKE SELECT ON team_a.t FROM part_b@'%'",
        "grant.missing:team_a.t:part_b",
    ),
    (
        "REVOKE EVENT ON `team\\_a`.* FROM team_a_migrator@'%'",
        "grant.missing:team_a:team_a_migrator",
    ),
    (
        "SET PASSWORD FOR app_a@'%' = PASSWORD('mine')",
        "account.password:app_a",
    ),
    (
        "ALTER USER app_a@'%' IDENTIFIED VIA unix_socket",
        "account.password:app_a",
    ),
    (
        "ALTER USER app_a@'%' PASSWORD EXPIRE",
        "account.password:app_a",
    ),
    (
        "ALTER USER app_b@'%' ACCOUNT UNLOCK",
        "account.attributes:app_b",
    ),
    (
        "ALTER USER app_a@'%' ACCOUNT LOCK",
        "account.attributes:app_a",
    ),
    (
        "ALTER USER app_a@'%' WITH MAX_USER_CONNECTIONS 500",
        "account.attributes:app_a",
    ),
    (
        "ALTER USER app_a@'%' WITH MAX_STATEMENT_TIME 0",
        "account.attributes:app_a",
    ),
    (
        "ALTER USER app_a@'%' PASSWORD EXPIRE INTERVAL 1 DAY",
        "account.attributes:app_a",
    ),
    ("DROP USER app_b@'%'", "account.missing:app_b"),
    (
        "ALTER DATABASE team_a COMMENT 'mine'",
        "database.mark:team_a",
    ),
];

#[tokio::test]
async fn changes_by_hand_are_found_by_their_names_and_repaired() {
    let world = World::start(As::Superuser);
    world.server.sql(
        "CREATE ROLE hidden; CREATE USER snoop@'%'; CREATE USER snoop@'10.0.0.%'; \
         CREATE DATABASE other; CREATE TABLE other.t (i int)",
    );
    let desired = shop(&world).await;
    for (sql, key) in CASES {
        world.server.sql(sql);
        let seen = world.observe(&desired, 1).await.expect(sql);
        assert!(keys(&seen).contains(&key), "{sql}: {seen:?}");
        let repaired = world.apply(&desired, 1).await.expect(sql);
        assert!(keys(&repaired).contains(&key), "{sql}: {repaired:?}");
        assert!(
            repaired.iter().all(|found| found.repaired),
            "{sql}: {repaired:?}"
        );
        assert_eq!(world.apply(&desired, 1).await.expect(sql), [], "{sql}");
    }
    // A second way in beside the right one.
    let hash = world.server.sql(
        "SELECT JSON_VALUE(Priv, '$.authentication_string') FROM mysql.global_priv WHERE User = 'app_a'",
    );
    world.server.sql(&format!(
        "ALTER USER app_a@'%' IDENTIFIED VIA mysql_native_password USING '{hash}' OR unix_socket"
    ));
    let repaired = world.apply(&desired, 1).await.expect("repaired");
    assert_eq!(keys(&repaired), ["account.password:app_a"]);
    let left = world.server.sql("SHOW CREATE USER app_a@'%'");
    assert!(!left.contains("unix_socket"), "{left}");
    assert!(world.sql_as(&desired, "app_a", "SELECT * FROM t").is_ok());
}

/// What may be meant for others too is told, not taken.
#[tokio::test]
async fn what_is_not_ours_to_repair_is_reported() {
    let world = World::start(As::Superuser);
    let desired = shop(&world).await;
    world.server.sql(
        "CREATE USER snoop@'%'; GRANT SELECT ON `team%`.* TO snoop@'%'; \
         CREATE USER app_a@localhost IDENTIFIED BY 'x'; \
         CREATE DATABASE unrelated; GRANT SELECT ON `un%`.* TO snoop@'%'",
    );
    for _ in 0..2 {
        let told = world.apply(&desired, 1).await.expect("looked at");
        assert_eq!(
            keys(&told),
            ["account.shadow:app_a@localhost", "grant.wider:team%:snoop"]
        );
        assert!(told.iter().all(|found| !found.repaired), "{told:?}");
    }
    let kept = world.server.sql("SHOW GRANTS FOR snoop@'%'");
    assert!(kept.contains("`team%`"), "{kept}");
}

/// The neighbour's rights are none of ours.
#[tokio::test]
async fn repairing_one_database_leaves_its_neighbour_alone() {
    let world = World::start(As::Managed);
    let desired = shop(&world).await;
    let mut neighbour = database("teamxa");
    neighbour.stamp.uid = uid(2);
    neighbour.accesses = vec![access(9, "next", AccessLevel::ReadWrite, &[])];
    world.provision(&neighbour).await;
    world.server.sql("GRANT SELECT ON team_a.* TO app_a@'%'");
    let leaked = world
        .server
        .sql_as(&credentials("app_a"), "teamxa", "SELECT 1");
    assert!(leaked.is_ok(), "the trap is real: {leaked:?}");
    world.apply(&desired, 1).await.expect("repaired");
    let closed = world
        .server
        .sql_as(&credentials("app_a"), "teamxa", "SELECT 1");
    assert!(closed.is_err());
    assert_eq!(world.apply(&neighbour, 1).await.expect("untouched"), []);
    assert_eq!(world.apply(&desired, 1).await.expect("as it should be"), []);
}

/// A login that was opened by hand loses its sessions when it is closed again.
#[tokio::test]
async fn sessions_of_an_unlocked_account_are_ended() {
    let world = World::start(As::Managed);
    let desired = shop(&world).await;
    world
        .server
        .sql("ALTER USER app_b@'%' ACCOUNT UNLOCK; SET PASSWORD FOR app_b@'%' = PASSWORD('mine')");
    let mut login = credentials("app_b");
    login.password = "mine".into();
    let mut session = MariadbSession::connect(&target(world.server.port(), &login))
        .await
        .expect("it was opened by hand");
    let repaired = world.apply(&desired, 1).await.expect("repaired");
    let found = keys(&repaired);
    assert!(found.contains(&"sessions:team_a:app_b"), "{found:?}");
    assert!(session.execute("SELECT 1").await.is_err(), "it was ended");
    assert!(
        MariadbSession::connect(&target(world.server.port(), &login))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn observing_repairs_nothing() {
    let world = World::start(As::Managed);
    let desired = shop(&world).await;
    world
        .server
        .sql("ALTER USER app_b@'%' ACCOUNT UNLOCK; GRANT INSERT ON `team\\_a`.* TO app_a@'%'");
    for _ in 0..2 {
        let seen = world.observe(&desired, 1).await.expect("looked at");
        assert_eq!(
            keys(&seen),
            ["account.attributes:app_b", "grant.extra:team_a:app_a"]
        );
    }
}
