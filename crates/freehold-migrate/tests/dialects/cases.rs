//! Tables of cases.

use freehold_migrate::{
    Dialect::{Mysql, Sqlite},
    Mode, RefusalCode, ScriptConfig, StatementClass, split,
};

use crate::{load, mode, refusals, texts, transaction};

#[expect(clippy::too_many_lines, reason = "a table of cases")]
#[test]
fn mysql_statements_end_where_server_and_client_see_it() {
    for (script, expected) in [
        ("select 1; select 2", vec!["select 1", "select 2"]),
        (";;select 1;;", vec!["select 1"]),
        (
            "select 'a\\';b'; select 2",
            vec!["select 'a\\';b'", "select 2"],
        ),
        (
            "select \"a\\\";b\"; select 2",
            vec!["select \"a\\\";b\"", "select 2"],
        ),
        (
            "select 'a''b;'; select 2",
            vec!["select 'a''b;'", "select 2"],
        ),
        (
            "select `a;``b\\`; select 2",
            vec!["select `a;``b\\`", "select 2"],
        ),
        (
            "# a;\nselect 1 # b;\n; select 2",
            vec!["select 1", "select 2"],
        ),
        (
            "-- a;\nselect 5--3; select 2 --\n;",
            vec!["select 5--3", "select 2"],
        ),
        ("select 1 -- it's\n; select 2", vec!["select 1", "select 2"]),
        (
            "/* a; /* b */ select 1; select 2",
            vec!["select 1", "select 2"],
        ),
        (
            "/*!40101 SET NAMES utf8 */; /*!40000 ALTER TABLE t DISABLE KEYS */;",
            vec![
                "/*!40101 SET NAMES utf8 */",
                "/*!40000 ALTER TABLE t DISABLE KEYS */",
            ],
        ),
        (
            "/*!50003 CREATE TRIGGER t AFTER INSERT ON a FOR EACH ROW BEGIN SET @x = ';*/'; END */; select 2",
            vec![
                "/*!50003 CREATE TRIGGER t AFTER INSERT ON a FOR EACH ROW BEGIN SET @x = ';*/'; END */",
                "select 2",
            ],
        ),
        (
            "/*M!999999\\- enable the sandbox mode */ select 1;",
            vec!["select 1"],
        ),
        ("/*! */; select 1", vec!["select 1"]),
        (
            "select /*+ NO_INDEX(t) */ 1; select \\N",
            vec!["select /*+ NO_INDEX(t) */ 1", "select \\N"],
        ),
        (
            "DELIMITER //\ncreate procedure p() begin select 1; end//\ncreate table c (a int) //\ndelimiter ;\nselect 1;",
            vec![
                "create procedure p() begin select 1; end",
                "create table c (a int)",
                "select 1",
            ],
        ),
        (
            "delimiter $$\ncreate procedure p() begin if a then select 1; end if; end$$ select 2; select 3$$\nDELIMITER ;\n",
            vec![
                "create procedure p() begin if a then select 1; end if; end",
                "select 2",
                "select 3",
            ],
        ),
        (
            "DELIMITER ;;\n/*!50003 CREATE*/ /*!50017 DEFINER=`r`@`%`*/ /*!50003 TRIGGER t BEFORE INSERT ON a FOR EACH ROW SET NEW.b = 1 */;;\nDELIMITER ;\nselect 1;",
            vec![
                "/*!50003 CREATE*/ /*!50017 DEFINER=`r`@`%`*/ /*!50003 TRIGGER t BEFORE INSERT ON a FOR EACH ROW SET NEW.b = 1 */",
                "select 1",
            ],
        ),
        (
            "DELIMITER #\nselect 1 # select '#' #\nDELIMITER ;\n",
            vec!["select 1", "select '#'"],
        ),
        (
            "DELIMITER go\nselect category go\nselect 1\ngo",
            vec!["select category", "select 1"],
        ),
        (
            "DELIMITER |\r\nselect 1|\r\nselect 2|\r\n",
            vec!["select 1", "select 2"],
        ),
        (
            "create event delimiter_x on schedule every 1 day do delete from t; select 1",
            vec![
                "create event delimiter_x on schedule every 1 day do delete from t",
                "select 1",
            ],
        ),
    ] {
        assert_eq!(texts(Mysql, script), expected, "{script:?}");
    }
}

#[test]
fn bodies_of_stored_programs_stay_whole_without_delimiter() {
    for program in [
        "CREATE PROCEDURE p(IN a INT)\nBEGIN\n  DECLARE b INT;\n  IF a > 1 THEN SELECT 1; ELSEIF a THEN SELECT 2; END IF;\n  WHILE a DO SET a = a - 1; END WHILE;\n  REPEAT SET a = 1; UNTIL a END REPEAT;\n  l: LOOP LEAVE l; END LOOP l;\n  CASE a WHEN 1 THEN SELECT 1; ELSE BEGIN END; END CASE;\n  SELECT CASE a WHEN 1 THEN 2 END, (CASE WHEN a THEN 1 END);\n  SET b = IF(a, 1, 2), b = REPEAT('x', 3);\nEND",
        "CREATE OR REPLACE DEFINER=`admin`@`%` TRIGGER t BEFORE INSERT ON a FOR EACH ROW BEGIN SET NEW.begin = NEW.end; SET NEW.b = 1; END",
        "CREATE DEFINER = CURRENT_USER FUNCTION f() RETURNS INT DETERMINISTIC outer_one: BEGIN RETURN 1; END outer_one",
        "CREATE DEFINER=root@localhost EVENT e ON SCHEDULE EVERY 1 DAY STARTS NOW() ENDS NOW() DO BEGIN DELETE FROM t; END",
        "BEGIN NOT ATOMIC DECLARE a INT; SET a = 1; END",
        "CREATE FUNCTION f() RETURNS INT RETURN CASE WHEN 1 THEN 2 END",
    ] {
        let script = format!("{program};\nSELECT 2;");
        assert_eq!(texts(Mysql, &script), [program, "SELECT 2"]);
        assert_eq!(mode(Mysql, &script), Mode::Bare, "{program}");
    }
    // What is no stored program knows no blocks.
    let script = "BEGIN; INSERT INTO t VALUES (1); COMMIT";
    assert_eq!(texts(Mysql, script).len(), 3);
    assert_eq!(
        texts(Mysql, "CREATE TABLE begin (a INT); SELECT 1").len(),
        2
    );
    assert_eq!(
        texts(
            Mysql,
            "CREATE VIEW v AS SELECT CASE WHEN 1 THEN 2 END; SELECT 1"
        )
        .len(),
        2
    );
}

#[test]
fn sqlite_statements_end_where_its_shell_sees_it() {
    let trigger = "CREATE TEMP TRIGGER \"t;\" AFTER UPDATE ON a WHEN CASE new.x WHEN 1 THEN 2 END BEGIN UPDATE a SET x = CASE WHEN 1 THEN 2 END; SELECT CASE 1 WHEN 1 THEN 2 END ; END";
    for (script, expected) in [
        ("select 1; select 2", vec!["select 1", "select 2"]),
        (
            "select 'a\\'; select ';''b'",
            vec!["select 'a\\'", "select ';''b'"],
        ),
        (
            "select [a;\"b], \"c;\"\"d\", `e;``f`; select 2",
            vec!["select [a;\"b], \"c;\"\"d\", `e;``f`", "select 2"],
        ),
        (
            "-- a;\nselect 1 --b;\n; /* c; /* */ select 2",
            vec!["select 1", "select 2"],
        ),
        (
            "\u{feff}begin; insert into t values (1); end;",
            vec!["begin", "insert into t values (1)", "end"],
        ),
        (
            "select 1 as begin; select 2",
            vec!["select 1 as begin", "select 2"],
        ),
        (
            "select @a, $b, :c, ?1; select 2",
            vec!["select @a, $b, :c, ?1", "select 2"],
        ),
    ] {
        assert_eq!(texts(Sqlite, script), expected, "{script:?}");
    }
    assert_eq!(
        texts(Sqlite, &format!("{trigger};\nselect 1;")),
        [trigger, "select 1"]
    );
}

#[test]
fn what_is_left_open_and_what_only_a_client_understands_is_refused_with_its_place() {
    for (dialect, script, line, column) in [
        (Mysql, "select 1;\n select 'a\\';\n", 2, 9),
        (Mysql, "select 1;\n select \"a", 2, 9),
        (Mysql, "select `a", 1, 8),
        (Mysql, "select 1; /* a", 1, 11),
        (Mysql, "select 1;\n/*!50000 select 2", 2, 1),
        (Mysql, "create table t (\n a int;\n", 1, 16),
        (Mysql, "create procedure p()\n begin select 1;", 2, 2),
        (Mysql, "select 1;\n\\. other.sql\n", 2, 1),
        (Mysql, "select 1\\G\n", 1, 9),
        (Mysql, "select 1;\nsource other.sql\nselect 2;", 2, 1),
        (Mysql, "SYSTEM ls", 1, 1),
        (Mysql, "DELIMITER\nselect 1", 1, 1),
        (Mysql, "DELIMITER // -- why\n", 1, 1),
        (Mysql, "DELIMITER \\\n", 1, 1),
        (Sqlite, "select 1;\n.read other.sql\n", 2, 1),
        (Sqlite, ".mode csv", 1, 1),
        (Sqlite, "select 'a", 1, 8),
        (Sqlite, "select [a", 1, 8),
        (Sqlite, "select 1; /* a", 1, 11),
        (Sqlite, "create table t (a;", 1, 16),
        (
            Sqlite,
            "create trigger t after insert on a\nbegin select 1;",
            2,
            1,
        ),
    ] {
        let expected = [(RefusalCode::InvalidScript, line, column)];
        assert_eq!(refusals(dialect, script), expected, "{script:?}");
    }
}

#[test]
fn a_mysql_script_is_transactional_unless_something_in_it_commits() {
    let plain = transaction("START TRANSACTION");
    for script in [
        "INSERT INTO t VALUES (1); UPDATE t SET a = 2; DELETE FROM t; REPLACE INTO t VALUES (1)",
        "WITH x AS (SELECT 1) SELECT * FROM x; SET @a = 1; SELECT @a; DO SLEEP(0)",
        "SAVEPOINT a; INSERT INTO t VALUES (1); ROLLBACK TO a; RELEASE SAVEPOINT a",
        "CREATE TEMPORARY TABLE x (a INT); DROP TEMPORARY TABLE x; INSERT INTO t VALUES (1)",
        "SET STATEMENT max_statement_time = 1 FOR INSERT INTO t VALUES (1)",
        "PREPARE p FROM 'SELECT 1'; ANALYZE SELECT 1; ANALYZE FORMAT=JSON SELECT 1; SHOW TABLES",
        "",
        "-- nothing",
    ] {
        assert_eq!(mode(Mysql, script), plain, "{script}");
    }
    for script in [
        "CREATE TABLE t (a INT)",
        "INSERT INTO t VALUES (1); ALTER TABLE t ADD b INT; INSERT INTO t VALUES (1, 2)",
        "DROP VIEW v",
        "RENAME TABLE a TO b",
        "TRUNCATE t",
        "OPTIMIZE TABLE t",
        "ANALYZE TABLE t",
        "LOCK TABLES t WRITE; INSERT INTO t VALUES (1); UNLOCK TABLES",
        "CALL p()",
        "EXECUTE p",
        "EXECUTE IMMEDIATE 'SELECT 1'",
        "/*!40000 ALTER TABLE t DISABLE KEYS */",
        "SET STATEMENT max_statement_time = 1 FOR ALTER TABLE t FORCE",
        "CREATE OR REPLACE VIEW v AS SELECT 1; START TRANSACTION; INSERT INTO t VALUES (1); COMMIT; SET autocommit = 0",
    ] {
        assert_eq!(mode(Mysql, script), Mode::Bare, "{script}");
    }
    assert_eq!(
        mode(
            Mysql,
            "START TRANSACTION;\nINSERT INTO t VALUES (1);\nCOMMIT;"
        ),
        transaction("START TRANSACTION")
    );
    let conf = |value| ScriptConfig {
        execute_in_transaction: Some(value),
        ..ScriptConfig::default()
    };
    assert_eq!(
        load(Mysql, "DELETE FROM t; COMMIT; DELETE FROM u", conf(false)),
        Ok(Mode::Bare)
    );
    assert_eq!(load(Mysql, "DROP TABLE t", conf(true)), Ok(Mode::Bare));
}

#[test]
fn transaction_control_that_tears_a_script_from_its_row_is_refused() {
    use RefusalCode::TransactionControl as Control;
    for (dialect, script, places) in [
        (Mysql, "INSERT INTO t VALUES (1);\nCOMMIT;", vec![(2, 1)]),
        (
            Mysql,
            "SET autocommit=0; INSERT INTO t VALUES (1); COMMIT;",
            vec![(1, 1), (1, 45)],
        ),
        (Mysql, "SET @a = 1, @@session.autocommit = 1", vec![(1, 1)]),
        (
            Mysql,
            "START TRANSACTION READ ONLY; COMMIT",
            vec![(1, 1), (1, 30)],
        ),
        (
            Mysql,
            "BEGIN; DELETE FROM t; COMMIT AND CHAIN",
            vec![(1, 1), (1, 23)],
        ),
        (Sqlite, "INSERT INTO t VALUES (1);\nEND;", vec![(2, 1)]),
        (
            Sqlite,
            "BEGIN; INSERT INTO t VALUES (1); ROLLBACK",
            vec![(1, 1), (1, 34)],
        ),
    ] {
        let expected: Vec<_> = places
            .iter()
            .map(|&(line, column)| (Control, line, column))
            .collect();
        assert_eq!(refusals(dialect, script), expected, "{script:?}");
    }
}

#[test]
fn a_sqlite_script_is_transactional_unless_all_of_it_cannot_be() {
    for (script, opening) in [
        (
            "CREATE TABLE t (a INT); INSERT INTO t VALUES (1)",
            "BEGIN IMMEDIATE",
        ),
        ("BEGIN TRANSACTION; DROP TABLE t; COMMIT", "BEGIN IMMEDIATE"),
        (
            "BEGIN EXCLUSIVE; DROP TABLE t; END TRANSACTION",
            "BEGIN EXCLUSIVE",
        ),
        (
            "SAVEPOINT a; ROLLBACK TRANSACTION TO a; RELEASE a",
            "BEGIN IMMEDIATE",
        ),
        (
            "PRAGMA table_info(t); PRAGMA main.cache_size = 1",
            "BEGIN IMMEDIATE",
        ),
        ("PRAGMA user_version = 3", "BEGIN IMMEDIATE"),
        (
            "SELECT 'load_extension(1)', load_extension FROM t",
            "BEGIN IMMEDIATE",
        ),
    ] {
        assert_eq!(mode(Sqlite, script), transaction(opening), "{script}");
    }
    for script in [
        "VACUUM",
        "PRAGMA foreign_keys = OFF; VACUUM main; PRAGMA foreign_keys(1)",
    ] {
        assert_eq!(mode(Sqlite, script), Mode::Bare, "{script}");
    }
    assert_eq!(
        refusals(
            Sqlite,
            "CREATE TABLE t (a INT);\nPRAGMA foreign_keys = OFF;"
        ),
        [(RefusalCode::MixedTransactions, 2, 1)]
    );
}

#[test]
fn what_reaches_outside_the_database_never_runs() {
    for (dialect, statement) in [
        (Mysql, "USE other"),
        (Mysql, "CREATE DATABASE x"),
        (Mysql, "CREATE OR REPLACE DATABASE x"),
        (Mysql, "DROP SCHEMA x"),
        (Mysql, "GRANT ALL ON *.* TO a"),
        (Mysql, "REVOKE ALL ON *.* FROM a"),
        (Mysql, "CREATE USER a"),
        (Mysql, "create or replace user a"),
        (Mysql, "ALTER USER a IDENTIFIED BY 'x'"),
        (Mysql, "DROP ROLE a"),
        (Mysql, "RENAME USER a TO b"),
        (Mysql, "SET PASSWORD = PASSWORD('x')"),
        (Mysql, "SET PASSWORD FOR a = 'x'"),
        (Mysql, "SET DEFAULT ROLE a"),
        (Mysql, "SET GLOBAL max_connections = 1"),
        (Mysql, "SET @x = 1, @@GLOBAL.max_connections = 1"),
        (Mysql, "SET PERSIST max_connections = 1"),
        (Mysql, "SET sql_log_bin = 0"),
        (Mysql, "SET sql_mode = 'STRICT_TRANS_TABLES,ANSI_QUOTES'"),
        (
            Mysql,
            "SET SESSION sql_mode = CONCAT(@@sql_mode, ',NO_BACKSLASH_ESCAPES')",
        ),
        (Mysql, "/*!40101 SET SQL_MODE=ansi */"),
        (Mysql, "SET NAMES latin1"),
        (Mysql, "SET CHARACTER SET 'latin1'"),
        (Mysql, "SET character_set_client = cp850"),
        (Mysql, "LOAD DATA LOCAL INFILE 'x' INTO TABLE t"),
        (Mysql, "LOAD DATA INFILE 'x' INTO TABLE t"),
        (Mysql, "SELECT 1 INTO OUTFILE '/tmp/x'"),
        (
            Mysql,
            "WITH a AS (SELECT 1) SELECT * FROM a INTO DUMPFILE '/tmp/x'",
        ),
        (Mysql, "FLUSH TABLES WITH READ LOCK"),
        (Mysql, "RESET MASTER"),
        (Mysql, "KILL 3"),
        (Mysql, "INSTALL PLUGIN x SONAME 'y'"),
        (Mysql, "CREATE FUNCTION f RETURNS STRING SONAME 'x.so'"),
        (Mysql, "SHUTDOWN"),
        (Mysql, "XA START 'x'"),
        (Mysql, "ROLLBACK RELEASE"),
        (Mysql, "SET STATEMENT max_statement_time=1 FOR DROP USER a"),
        (Sqlite, "ATTACH DATABASE 'x' AS y"),
        (Sqlite, "detach y"),
        (Sqlite, "VACUUM INTO 'x'"),
        (Sqlite, "VACUUM main INTO 'x'"),
        (Sqlite, "PRAGMA journal_mode = DELETE"),
        (Sqlite, "PRAGMA main.writable_schema(1)"),
        (Sqlite, "PRAGMA \"temp_store_directory\" = '/x'"),
        (Sqlite, "SELECT load_extension('x')"),
        (
            Sqlite,
            "INSERT INTO t SELECT \"Load_Extension\" /* */ ('x')",
        ),
    ] {
        let script = format!("SELECT 1;\n{statement};");
        let expected = [(RefusalCode::StatementRefused, 2, 1)];
        assert_eq!(refusals(dialect, &script), expected, "{statement}");
    }
    for statement in [
        "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
        "SET @old = @@sql_mode, sql_mode = 'NO_AUTO_VALUE_ON_ZERO'",
        "/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */",
        "/*!40101 SET CHARACTER_SET_CLIENT=@OLD_CHARACTER_SET_CLIENT */",
        "SET foreign_key_checks = 0, SESSION lock_wait_timeout = 5",
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SELECT 1 INTO @x",
        "INSERT INTO t VALUES ('GRANT')",
        "SET ROLE x",
    ] {
        mode(Mysql, statement);
    }
}

#[test]
fn classes_say_what_stays_in_the_session() {
    let class = |dialect, text: &str| split(dialect, text).expect("valid").remove(0).class;
    assert_eq!(
        class(Mysql, "CREATE TEMPORARY TABLE t (a INT)"),
        StatementClass::Temporary
    );
    assert_eq!(
        class(Sqlite, "CREATE TEMP VIEW v AS SELECT 1"),
        StatementClass::Temporary
    );
    assert_eq!(class(Mysql, "PREPARE p FROM 'x'"), StatementClass::Prepare);
    assert_eq!(
        class(Sqlite, "PRAGMA case_sensitive_like = 1"),
        StatementClass::Setting
    );
}
