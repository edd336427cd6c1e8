//! What only MariaDB has.

use freehold_engine::ScriptSession as _;
use freehold_migrate::{HISTORY_TABLE, RefusalCode, RunFailure, RunOptions, lock_name};

use super::{Mariadb, Site as _};
use crate::running::{refusals, statement};

#[tokio::test]
async fn mariadbs_history_is_flyways_to_the_column() {
    let site = Mariadb::new();
    site.run(&[("V1__a.sql", "")]).await.expect("runs");
    assert_eq!(
        site.rows(
            "SELECT column_name, column_type, is_nullable, column_default, extra FROM information_schema.columns \
             WHERE table_schema = 'shop_1' AND table_name = 'flyway_schema_history' ORDER BY ordinal_position"
        )
        .await,
        "installed_rank|int(11)|NO||\nversion|varchar(50)|YES|NULL|\ndescription|varchar(200)|NO||\n\
         type|varchar(20)|NO||\nscript|varchar(1000)|NO||\nchecksum|int(11)|YES|NULL|\n\
         installed_by|varchar(100)|NO||\ninstalled_on|timestamp|NO|current_timestamp()|\n\
         execution_time|int(11)|NO||\nsuccess|tinyint(1)|NO||"
    );
    assert_eq!(
        site.rows(
            "SELECT index_name, column_name FROM information_schema.statistics WHERE table_schema = 'shop_1' ORDER BY 1"
        )
        .await,
        "flyway_schema_history_s_idx|success\nPRIMARY|installed_rank"
    );
}

#[tokio::test]
async fn flyways_named_lock_keeps_us_out_and_is_given_back() {
    let site = Mariadb::new();
    let name = lock_name("shop_1", HISTORY_TABLE);
    let mut other = site.session().await;
    let got = other
        .query(
            &format!("SELECT GET_LOCK('{name}', 0), CONNECTION_ID()"),
            &[],
        )
        .await
        .expect("answers");
    let pid: i32 = got[0][1]
        .as_deref()
        .and_then(|id| id.parse().ok())
        .expect("an id");
    let options = RunOptions {
        lock_attempts: 1,
        ..RunOptions::default()
    };
    let files = [
        ("V1__a.sql", "SET @x = 1; CREATE TABLE a (n INT);"),
        ("V2__b.sql", "INSERT INTO a VALUES (1)"),
    ];
    let mut events = Vec::new();
    match site.run_with(&files, options.clone(), &mut events).await {
        Err(RunFailure::Locked { holders }) => {
            assert_eq!((holders[0].pid, holders[0].user.as_str()), (pid, "root"));
        }
        other => panic!("it should be locked: {other:?}"),
    }
    assert_eq!(site.tables().await, "");
    drop(other);
    site.run(&files)
        .await
        .expect("the lock died with its session");
    assert_eq!(
        site.rows(&format!("SELECT IS_FREE_LOCK('{name}')")).await,
        "1"
    );
}

#[tokio::test]
async fn tables_without_transactions_are_not_taken_for_undone() {
    let site = Mariadb::new();
    let first = (
        "V1__a.sql",
        "CREATE TABLE a (n INT PRIMARY KEY) ENGINE=MyISAM;",
    );
    let files = [
        first,
        (
            "V2__b.sql",
            "INSERT INTO a VALUES (1);\nINSERT INTO a VALUES (1);",
        ),
    ];
    let failure = statement(site.run(&files).await);
    assert!(!failure.rolled_back, "{failure:?}");
    assert!(site.history().await.ends_with("|no"));
    // And a history without transactions is no history.
    site.execute("DELETE FROM flyway_schema_history WHERE success = 0")
        .await;
    site.execute("ALTER TABLE flyway_schema_history ENGINE=MyISAM")
        .await;
    assert_eq!(
        refusals(site.run(&[first]).await),
        [(RefusalCode::InvalidHistory, String::new())]
    );
}

#[tokio::test]
async fn a_servers_own_sql_mode_does_not_change_what_a_script_means() {
    for modes in [
        "ANSI_QUOTES,STRICT_TRANS_TABLES",
        "NO_BACKSLASH_ESCAPES",
        "ORACLE",
        "ANSI",
        "",
    ] {
        let site = Mariadb::with_settings(&[("sql_mode", modes)]);
        let files = [
            (
                "V1__a.sql",
                "CREATE TABLE a (t VARCHAR(20)); INSERT INTO a VALUES (\"it's;\"), ('a\\'b;'); SET @x = 1;",
            ),
            ("V2__b.sql", "INSERT INTO a VALUES (\"again\\\";\")"),
        ];
        site.run(&files)
            .await
            .unwrap_or_else(|failure| panic!("{modes}: {failure}"));
        assert_eq!(
            site.rows("SELECT t FROM a").await,
            "it's;\na'b;\nagain\";",
            "{modes}"
        );
    }
}

/// Constructs on which a splitter can go wrong, run by `mariadb` and by us.
#[tokio::test]
async fn the_result_is_that_of_the_mariadb_client() {
    let script = r#"
CREATE TABLE t (n INT AUTO_INCREMENT PRIMARY KEY, v TEXT);
INSERT INTO t (v) VALUES ('a;b'), ('it''s'), ('q\';\\'), ("d;\"'"), (/* c; ' */ 'x;'), ('5--3'), (5--3), (NULL); # z;
INSERT INTO t (v) SELECT /*! 'executed;' */; /*!99999 nothing at all */;
/*!40101 SET @old=@@sql_mode */;
/*!50003 INSERT INTO t (v) VALUES ('five;') */;
/*M!100100 INSERT INTO t (v) VALUES ('maria;') */;
CREATE TABLE `a;``b` (`c;` INT);
DELIMITER //
CREATE TRIGGER g AFTER INSERT ON `a;``b` FOR EACH ROW
BEGIN
  IF NEW.`c;` > 0 THEN INSERT INTO t (v) VALUES ('trigger;'); END IF;
  CASE NEW.`c;` WHEN 1 THEN INSERT INTO t (v) VALUES (CASE WHEN 1 THEN 'one;' END); ELSE BEGIN END; END CASE;
END//
CREATE FUNCTION f(i INT) RETURNS TEXT DETERMINISTIC RETURN CONCAT('f;', i) //
CREATE PROCEDURE p() BEGIN DECLARE i INT DEFAULT 0; WHILE i < 2 DO INSERT INTO t (v) VALUES (f(i)); SET i = i + 1; END WHILE; END //
DELIMITER ;
INSERT INTO `a;``b` VALUES (1);
CALL p();
DELIMITER $$
CREATE PROCEDURE q() BEGIN INSERT INTO t (v) VALUES ('dollar;'); END$$
DELIMITER ;
CALL q(); INSERT INTO t (v) VALUES ('last') ;
"#;
    let site = Mariadb::new();
    for script in [script.to_owned(), script.replace('\n', "\r\n")] {
        site.server
            .sql("DROP DATABASE shop_1; CREATE DATABASE shop_1; CREATE OR REPLACE DATABASE theirs");
        site.run(&[("V1__x.sql", &script)])
            .await
            .unwrap_or_else(|failure| panic!("{failure}"));
        let mut client = std::process::Command::new("mariadb")
            .args([
                "--no-defaults",
                "--protocol=tcp",
                "-h127.0.0.1",
                "-uroot",
                "theirs",
            ])
            .arg(format!("-P{}", site.target.port))
            .env("MYSQL_PWD", site.server.superuser_login().password)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("the client starts");
        std::io::Write::write_all(&mut client.stdin.take().expect("piped"), script.as_bytes())
            .expect("it reads");
        assert!(client.wait().expect("it ends").success());
        let ours = site.rows("SELECT n, HEX(v) FROM shop_1.t ORDER BY n").await;
        assert_eq!(
            ours,
            site.rows("SELECT n, HEX(v) FROM theirs.t ORDER BY n").await
        );
        assert!(ours.lines().count() >= 17, "{ours}");
    }
    // Without DELIMITER, which the client needs and Flyway does not.
    let bare = "CREATE PROCEDURE r() BEGIN INSERT INTO t (v) VALUES ('r;'); IF 1 THEN SELECT 1; END IF; END;\nCALL r();";
    site.run(&[
        ("V1__x.sql", &script.replace('\n', "\r\n")),
        ("V2__r.sql", bare),
    ])
    .await
    .expect("runs");
    assert_eq!(
        site.rows("SELECT COUNT(*) FROM t WHERE v = 'r;'").await,
        "1"
    );
}

#[tokio::test]
async fn a_script_that_gives_up_the_lock_ends_the_run() {
    let site = Mariadb::new();
    let files = [
        ("V1__a.sql", "CREATE TABLE a (n INT);"),
        ("V2__b.sql", "INSERT INTO a SELECT RELEASE_ALL_LOCKS();"),
        ("V3__c.sql", "CREATE TABLE c (n INT);"),
    ];
    match site.run(&files).await {
        Err(RunFailure::Server { message, .. }) => {
            assert!(message.contains("gave up the migration lock"), "{message}");
        }
        other => panic!("it should have stopped: {other:?}"),
    }
    assert_eq!(site.tables().await, "a");
    assert_eq!(site.history().await.lines().count(), 2);
    // The next run takes the lock again.
    site.run(&files).await.expect("runs");
}

#[tokio::test]
async fn a_login_with_rights_on_its_database_alone_can_migrate_it() {
    let mut site = Mariadb::new();
    site.server.sql(
        "CREATE USER migrator@'%' IDENTIFIED BY 'm'; GRANT ALL ON `shop\\_1`.* TO migrator@'%'",
    );
    site.target.username = "migrator".to_owned();
    site.target.password = Some(freehold_model::Secret::new("m"));
    let files = [
        (
            "V1__a.sql",
            "CREATE TABLE a (n INT); SET @x = 1; CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW BEGIN SET NEW.n = 7; END; CREATE PROCEDURE p() BEGIN INSERT INTO a VALUES (1); END;",
        ),
        ("V2__b.sql", "CALL p();"),
    ];
    let report = site.run(&files).await.expect("runs");
    assert!(
        report
            .history
            .iter()
            .all(|row| row.installed_by == "migrator")
    );
    assert_eq!(site.rows("SELECT n FROM a").await, "7");
    site.server
        .sql("CREATE DATABASE shopx1; CREATE TABLE shopx1.theirs (n INT)");
    for hostile in [
        "INSERT INTO shopx1.theirs VALUES (1)",
        "PREPARE s FROM 'CREATE USER x'; EXECUTE s",
        "EXECUTE IMMEDIATE 'SET GLOBAL max_connections = 10'",
        "CREATE DEFINER=root@localhost PROCEDURE q() BEGIN DROP DATABASE shopx1; END",
    ] {
        let mut with_hostile = files.to_vec();
        with_hostile.push(("V3__c.sql", hostile));
        let failure = statement(site.run(&with_hostile).await);
        assert!(
            matches!(failure.sqlstate.as_deref(), Some("42000")),
            "{hostile}: {failure:?}"
        );
        site.execute("DELETE FROM flyway_schema_history WHERE success = 0")
            .await;
    }
}
