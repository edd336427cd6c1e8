//! What a rule says depends on what came before, on sizes, and on the transaction.

use freehold_lint::{Severity, Snapshot, SnapshotTable};

use crate::folder::{lint, lint_after, rules, script};

fn files(scripts: &[(&str, &str)]) -> Vec<(String, String)> {
    let scripts = scripts.iter();
    scripts
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect()
}

fn sized(rows: Option<u64>, bytes: Option<u64>) -> Snapshot {
    Snapshot {
        applied: None,
        tables: vec![SnapshotTable {
            name: "orders".to_owned(),
            rows,
            bytes,
            ..SnapshotTable::default()
        }],
    }
}

#[test]
fn the_size_of_a_table_decides() {
    let index = files(&[("V2__i.sql", "CREATE INDEX i ON public.orders (a)")]);
    let severity = |snapshot: Option<&Snapshot>| {
        let report = lint("postgres:15", &index, snapshot);
        report.findings.first().map(|finding| finding.severity)
    };
    assert_eq!(severity(None), Some(Severity::Warning));
    assert_eq!(severity(Some(&sized(None, None))), Some(Severity::Warning));
    assert_eq!(severity(Some(&sized(Some(9_999), None))), None);
    assert_eq!(
        severity(Some(&sized(Some(10_000), None))),
        Some(Severity::Error)
    );
    // Few rows of great size.
    assert_eq!(
        severity(Some(&sized(Some(10), Some(1 << 30)))),
        Some(Severity::Error)
    );
    assert_eq!(severity(Some(&sized(Some(10), Some(1 << 20)))), None);
}

#[test]
fn a_table_is_new_until_its_script_has_run() {
    let both = files(&[
        ("V1__a.sql", "CREATE TABLE \"Order\" (a int, b int)"),
        (
            "V2__b.sql",
            "CREATE INDEX ON \"Order\" (a); ALTER TABLE \"Order\" ADD UNIQUE (a), ADD CHECK (b > 0), ALTER b SET NOT NULL, ALTER a TYPE bigint; UPDATE \"Order\" SET a = 1; ALTER TABLE \"Order\" RENAME TO other; DROP TABLE other",
        ),
    ]);
    assert_eq!(rules(&lint("postgres:15", &both, None)), [""; 0]);
    let later = lint_after("postgres:15", &both, None, Some("1"));
    assert_eq!(
        rules(&later),
        [
            "index-blocks-writes",
            "unique-blocks",
            "constraint-scans-table",
            "not-null-scans-table",
            "type-change-rewrites-table",
            "change-without-where",
            "backfill-under-lock",
            "rename-breaks-readers",
            "drop-loses-data"
        ]
    );
    // What the script says is where the finding points.
    let place = later.findings[3].place.as_ref().unwrap();
    assert_eq!(
        &place.excerpt[place.column as usize - 1..place.end_column as usize - 1],
        "ALTER b SET NOT NULL"
    );
}

#[test]
fn a_table_that_was_there_before_if_not_exists_is_not_new() {
    let text = files(&[(
        "V2__a.sql",
        "CREATE TABLE IF NOT EXISTS orders (a int); CREATE INDEX ON orders (a)",
    )]);
    assert_eq!(
        rules(&lint(
            "postgres:15",
            &text,
            Some(&sized(Some(1 << 30), None))
        )),
        ["index-blocks-writes"]
    );
    // A schema of another name holds another table.
    let text = files(&[(
        "V2__a.sql",
        "CREATE TABLE archive.orders (a int); CREATE INDEX ON archive.orders (a)",
    )]);
    assert_eq!(
        rules(&lint(
            "postgres:15",
            &text,
            Some(&sized(Some(1 << 30), None))
        )),
        [""; 0]
    );
}

#[test]
fn defaults_that_touch_no_row_are_fine() {
    for default in [
        "-1",
        "now()",
        "'{}'::jsonb",
        "CURRENT_DATE",
        "(1 + 1)",
        "ARRAY[]::text[]",
        "lower('X')",
        "NULL",
        "'open'::order_state",
    ] {
        let report = script(
            "postgres:15",
            &format!("ALTER TABLE orders ADD COLUMN a text DEFAULT {default}"),
        );
        assert_eq!(rules(&report), [""; 0], "{default}");
    }
    let old = script(
        "postgres:10",
        "ALTER TABLE orders ADD COLUMN a text DEFAULT 'x'",
    );
    assert_eq!(rules(&old), ["column-rewrites-table"]);
}

#[test]
fn mysql_counts_what_its_versions_can_do() {
    let inline = "CREATE TABLE a (id int PRIMARY KEY, b int REFERENCES c (id))";
    assert_eq!(
        rules(&script("mysql:8.0", inline)),
        ["inline-foreign-key-ignored"]
    );
    assert_eq!(rules(&script("mysql:9.0", inline)), [""; 0]);
    assert_eq!(rules(&script("mariadb:10.6", inline)), [""; 0]);
    let applied = files(&[
        (
            "V1__a.sql",
            "CREATE TABLE a (id int PRIMARY KEY, b varchar(20), c enum('x','y'))",
        ),
        (
            "V2__b.sql",
            "ALTER TABLE a MODIFY b varchar(63) NOT NULL, MODIFY COLUMN c enum('x','y','z')",
        ),
        ("V3__c.sql", "ALTER TABLE a CHANGE b b varchar(64)"),
    ]);
    let report = lint_after("mysql:8.0", &applied, None, Some("1"));
    assert_eq!(rules(&report), ["type-change-rewrites-table"]);
    assert_eq!(report.findings[0].file, "V3__c.sql");
    // InnoDB builds these while others write.
    let index = script(
        "mariadb:10.11",
        "CREATE INDEX i ON orders (a); ALTER TABLE orders ADD INDEX j (b), ADD UNIQUE KEY k (c)",
    );
    assert_eq!(rules(&index), [""; 0]);
    let special = script("mariadb:10.11", "CREATE FULLTEXT INDEX i ON orders (a)");
    assert_eq!(rules(&special), ["index-blocks-writes"]);
}

#[test]
fn a_name_that_is_there_again_breaks_nobody() {
    let again = script(
        "postgres:15",
        "ALTER TABLE a RENAME TO a_old; CREATE TABLE a (b int)",
    );
    assert_eq!(rules(&again), [""; 0]);
    let lost = script("postgres:15", "DROP TABLE a; CREATE TABLE a (b int)");
    assert_eq!(rules(&lost), ["drop-loses-data"]);
}

#[test]
fn what_cannot_be_parsed_is_said_and_its_table_is_new() {
    let text = "CREATE TABLE a (b int) WITHOUT ANY SENSE;\nALTER TABLE a DROP COLUMN b;\nALTER TABLE c FROBNICATE";
    for engine in ["postgres:15", "mariadb:10.11", "sqlite"] {
        let report = script(engine, text);
        assert_eq!(rules(&report), ["unchecked-statement"; 2], "{engine}");
        let severities = [report.findings[0].severity, report.findings[1].severity];
        assert_eq!(severities, [Severity::Note, Severity::Warning]);
    }
}

#[test]
fn a_comment_allows_until_its_day() {
    let allowed = |comment: &str| {
        script(
            "postgres:15",
            &format!("SELECT 1;\n{comment}\nDROP TABLE a;\nDROP TABLE b;"),
        )
    };
    let report = allowed("-- freehold:allow drop-loses-data until 2026-12-01: moved to b");
    assert_eq!(rules(&report), ["drop-loses-data"]);
    assert_eq!(
        (
            report.suppressed.len(),
            report.suppressed[0].reason.as_str()
        ),
        (1, "moved to b")
    );
    let report = allowed("-- freehold:allow drop-loses-data until 2026-11-30: moved to b");
    assert_eq!(
        rules(&report),
        ["allow-expired", "drop-loses-data", "drop-loses-data"]
    );
    let report = allowed("-- freehold:allow drop-loses-data until 2026-12-31");
    assert_eq!(
        rules(&report),
        ["allow-invalid", "drop-loses-data", "drop-loses-data"]
    );
    // Behind the statement; and a string is no comment.
    let report = script(
        "postgres:15",
        "DROP TABLE a; -- freehold:allow drop-loses-data until 2027-01-01: moved\n",
    );
    assert_eq!(rules(&report), [""; 0]);
    let report = script(
        "postgres:15",
        "INSERT INTO x VALUES ('\n-- freehold:allow drop-loses-data until 2027-01-01: moved\n'); DROP TABLE a",
    );
    assert_eq!(rules(&report), ["drop-loses-data"]);
}

#[test]
fn the_runners_transaction_decides_about_concurrently() {
    let index = "CREATE INDEX CONCURRENTLY i ON orders (a);";
    assert_eq!(rules(&script("postgres:15", index)), [""; 0]);
    let forced = files(&[
        ("V2__i.sql", index),
        ("V2__i.sql.conf", "executeInTransaction=true\n"),
    ]);
    assert_eq!(
        rules(&lint("postgres:15", &forced, None)),
        ["concurrently-in-transaction"]
    );
}
