//! What is refused, and that nothing has run then.

use crate::{
    fixture::{Database, bundle},
    running::refusals,
};
use freehold_migrate::{Dialect, RefusalCode, RunOptions, status};
use freehold_testing::postgres::Server;

#[tokio::test]
async fn what_can_be_refused_is_refused_before_anything_runs() {
    let server = Server::start();
    let database = Database::create(&server);
    for (second, code) in [
        ("SELECT 1;\n\\i other.sql", RefusalCode::InvalidScript),
        (
            "SELECT 1; COMMIT; SELECT 2;",
            RefusalCode::TransactionControl,
        ),
        ("CREATE TABLE u (); VACUUM;", RefusalCode::MixedTransactions),
        ("DISCARD ALL", RefusalCode::StatementRefused),
    ] {
        let files = [
            ("V1__a.sql", "CREATE TABLE first ();"),
            ("V2__b.sql", second),
        ];
        assert_eq!(
            refusals(database.run(&bundle(&files)).await),
            [(code, "V2__b.sql".to_owned())]
        );
        assert_eq!(
            database.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"),
            "0"
        );
    }
}

#[tokio::test]
async fn a_schema_with_objects_and_no_history_is_refused() {
    let server = Server::start();
    for object in [
        "CREATE TABLE x ()",
        "CREATE VIEW x AS SELECT 1",
        "CREATE SEQUENCE x",
        "CREATE TYPE x AS ENUM ('a')",
        "CREATE FUNCTION x() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE DOMAIN x AS int",
    ] {
        let database = Database::create(&server);
        database.psql(object);
        let files = [("V1__a.sql", "CREATE TABLE y ();")];
        assert_eq!(
            refusals(database.run(&bundle(&files)).await),
            [(
                RefusalCode::NonEmptySchemaWithoutSchemaHistoryTable,
                String::new()
            )],
            "{object}"
        );
        let mut session = database.session().await;
        let status = status(
            Dialect::Postgresql,
            &mut session,
            &bundle(&files),
            &RunOptions::default(),
        )
        .await
        .expect("answers");
        assert_eq!(status.refusals.len(), 1);
        assert_eq!(
            database.psql("SELECT to_regclass('flyway_schema_history') IS NULL"),
            "t"
        );
    }
    let database = Database::create(&server);
    database.psql("CREATE EXTENSION pg_trgm; CREATE SCHEMA other; CREATE TABLE other.x ();");
    database
        .run(&bundle(&[("V1__a.sql", "")]))
        .await
        .expect("extensions and other schemas do not count");
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
#[tokio::test]
async fn a_history_that_does_not_fit_the_files_is_refused_with_flyways_codes() {
    let server = Server::start();
    let applied = [
        ("V1__a.sql", "CREATE TABLE a ();"),
        ("V2__b.sql", ""),
        ("V4__d.sql", ""),
        ("R__r.sql", "SELECT 1"),
    ];
    for (change, files, expected) in [
        (
            "",
            vec![
                ("V1__a.sql", "CREATE TABLE a ( );"),
                applied[1],
                applied[2],
                applied[3],
            ],
            vec![(RefusalCode::ChecksumMismatch, "V1__a.sql")],
        ),
        (
            "",
            vec![
                ("V1__z.sql", applied[0].1),
                applied[1],
                applied[2],
                applied[3],
            ],
            vec![(RefusalCode::DescriptionMismatch, "V1__z.sql")],
        ),
        (
            "UPDATE flyway_schema_history SET type = 'JDBC' WHERE version = '1'",
            applied.to_vec(),
            vec![(RefusalCode::TypeMismatch, "V1__a.sql")],
        ),
        (
            "",
            vec![applied[0], applied[2], applied[3]],
            vec![(
                RefusalCode::AppliedVersionedMigrationNotResolved,
                "V2__b.sql",
            )],
        ),
        (
            "",
            vec![applied[0], applied[1], applied[2]],
            vec![(
                RefusalCode::AppliedRepeatableMigrationNotResolved,
                "R__r.sql",
            )],
        ),
        (
            "",
            vec![
                applied[0],
                applied[1],
                applied[2],
                applied[3],
                ("V3__c.sql", ""),
            ],
            vec![(
                RefusalCode::ResolvedVersionedMigrationNotApplied,
                "V3__c.sql",
            )],
        ),
        (
            "UPDATE flyway_schema_history SET success = false WHERE version = '4'",
            applied.to_vec(),
            vec![(RefusalCode::FailedVersionedMigration, "V4__d.sql")],
        ),
        (
            "UPDATE flyway_schema_history SET success = false WHERE version IS NULL",
            applied.to_vec(),
            vec![(RefusalCode::FailedRepeatableMigration, "R__r.sql")],
        ),
        (
            "UPDATE flyway_schema_history SET type = 'X' WHERE version = '1'",
            applied.to_vec(),
            vec![
                (RefusalCode::InvalidHistory, ""),
                (RefusalCode::TypeMismatch, "V1__a.sql"),
            ],
        ),
    ] {
        let database = Database::create(&server);
        database.run(&bundle(&applied)).await.expect("runs");
        if !change.is_empty() {
            database.psql(change);
        }
        let before = database.history();
        let mut files = files;
        files.push(("V9__new.sql", "CREATE TABLE new ();"));
        let found = refusals(database.run(&bundle(&files)).await);
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(code, file)| (code, file.to_owned()))
            .collect();
        assert_eq!(found, expected, "{change} {files:?}");
        assert_eq!(database.history(), before);
        assert_eq!(database.tables(), "a");
    }
}

#[tokio::test]
async fn a_version_below_the_highest_runs_where_it_is_allowed() {
    let server = Server::start();
    let database = Database::create(&server);
    database
        .run(&bundle(&[("V1__a.sql", ""), ("V3__c.sql", "")]))
        .await
        .expect("runs");
    let mut options = RunOptions::default();
    options.plan.out_of_order = true;
    let files = [("V1__a.sql", ""), ("V2__b.sql", ""), ("V3__c.sql", "")];
    let report = database
        .run_with(&bundle(&files), options.clone())
        .await
        .expect("runs");
    assert_eq!(report.applied.len(), 1);
    let mut session = database.session().await;
    let status = status(Dialect::Postgresql, &mut session, &bundle(&files), &options)
        .await
        .expect("answers");
    let states: Vec<_> = status
        .entries
        .iter()
        .map(|entry| entry.state.as_str())
        .collect();
    assert_eq!(states, ["Success", "Success", "Out of Order"]);
}
