//! The same path on other engines: SQLite without any server, and MariaDB on a server that is there.
//!
//! Both take Zabbix's schema in their own words where its packages are at hand.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use super::super::{
    Chapter, Result, Step,
    checks::Checks,
    programs, schema,
    stage::{Ended, Stage},
};
use super::people::{admin, mona, port_of};
use super::platform::free_port;

pub(super) const CHAPTER: Chapter = Chapter {
    name: "engines",
    needs: &[
        programs::GZIP,
        programs::SQLITE,
        programs::MARIADB,
        programs::MARIADB_INSTALLER,
        programs::MARIADB_SERVER,
    ],
    steps: &[SQLITE, MARIADB, WILDCARD],
};

const SQLITE: Step = Step {
    title: "The same in a file: SQLite",
    meaning: "No server: the instance is a folder, a database is a file in it. What a file cannot hold is refused when it is asked for, not found out later.",
    run: sqlite,
};

const MARIADB: Step = Step {
    title: "The same on a server of the company's: MariaDB",
    meaning: "Freehold gets an account on a server that runs already. Here too a program changes rows and drops no table.",
    run: mariadb,
};

const WILDCARD: Step = Step {
    title: "Grant more than one meant, on MariaDB",
    meaning: "In a grant on a database, `_` stands for any character, so that a grant for one team can reach another's data. It is found, said and taken back.",
    run: wildcard,
};

/// Starts the server and stays its process.
const SERVER: &str = include_str!("../mariadb.sh");

/// The database on MariaDB, and another one that `_` matches as well.
const OURS: &str = "monitoring_frontend";
const NEIGHBOUR: &str = "monitoringxfrontend";
const GRANT: &str = "GRANT SELECT ON monitoring_frontend.* TO intern@'%'";

fn sqlite(stage: &mut Stage, checks: &mut Checks) -> Result {
    admin(stage);
    applied(stage, "files.yaml")?;
    mona(stage);
    let refused = stage
        .freehold(&["apply", "-f", "one-table.yaml"])?
        .show_only(&["error", "access to whole databases"]);
    checks.that(
        "one table of a file for a program is refused, and the reason is given",
        !refused.success && refused.said().contains("access to whole databases only"),
    );
    applied(stage, "proxy.yaml")?;
    migrated(
        stage,
        checks,
        ("proxy", "zabbix-proxy-sqlite3"),
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'flyway%' AND name NOT LIKE 'sqlite%'",
    )?;
    let kept = asked(stage, "proxy", "SELECT file FROM pragma_database_list")?
        .show()
        .well()?;
    let file = Path::new(kept.stdout.trim());
    checks.that(
        "it is a file below the demo's directory",
        file.is_file() && file.starts_with(stage.path()),
    );
    Ok(())
}

fn mariadb(stage: &mut Stage, checks: &mut Checks) -> Result {
    start_server(stage)?;
    admin(stage);
    applied(stage, "maria.yaml")?;
    let instances = stage
        .freehold(&["get", "instances", "-o", "wide"])?
        .show()
        .well()?;
    let answers = |name: &str| {
        let mut lines = instances.stdout.lines();
        lines.any(|line| line.starts_with(name) && line.contains("Answering"))
    };
    checks.that("the server answers", answers("maria-1"));
    checks.that(
        "so does the folder of files, with a database in it",
        answers("files"),
    );
    mona(stage);
    applied(stage, "frontend.yaml")?;
    migrated(
        stage,
        checks,
        ("frontend", "zabbix-server-mysql"),
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE' AND table_name NOT LIKE 'flyway%'",
    )?;
    let drop = asked(stage, "frontend", "DROP TABLE site")?.show();
    checks.contains(
        "it cannot drop a table",
        &drop.stderr,
        "DROP command denied",
    );
    Ok(())
}

fn wildcard(stage: &mut Stage, checks: &mut Checks) -> Result {
    let password = secret()?;
    let there =
        format!("CREATE DATABASE {NEIGHBOUR}; CREATE USER intern@'%' IDENTIFIED BY '{password}'");
    as_administrator(stage, &there)?.well()?;
    stage.say(&format!("   root$ mariadb -e \"{GRANT}\""));
    as_administrator(stage, GRANT)?.show().well()?;
    let port = port_of(stage, "frontend-collector")?;
    let seen = |stage: &Stage| -> Result<Vec<String>> {
        let words = [
            "--no-defaults",
            "--protocol=tcp",
            "--host=127.0.0.1",
            &format!("--port={port}"),
            "--user=intern",
            "--batch",
            "--skip-column-names",
            "--execute=SHOW DATABASES LIKE 'monitoring%'",
        ];
        let ended = stage.run_with(("MYSQL_PWD", &password), "mariadb", &words)?;
        Ok(ended.well()?.stdout.lines().map(str::to_owned).collect())
    };
    let reached = seen(stage)?;
    checks.that(
        &format!("it reaches {NEIGHBOUR} as well, unless it was taken back already"),
        reached.is_empty() || reached == [OURS, NEIGHBOUR],
    );

    mona(stage);
    let mut described = String::new();
    stage.until(
        "the grant is taken back",
        Duration::from_secs(60),
        |stage| {
            let found = stage.look(&["describe", "database", "frontend"]);
            described = found.map(|ended| ended.said()).unwrap_or_default();
            described.contains("Found and repaired")
        },
    )?;
    stage.say("   mona$ freehold describe database frontend");
    stage
        .voice()
        .indented(described.lines().filter(|line| line.contains("Drifted")));
    checks.contains("the grant is named", &described, "intern");
    checks.equal(
        "the intern sees neither of the two any more",
        &seen(stage)?,
        &Vec::new(),
    );
    let wrote = asked(
        stage,
        "frontend",
        "INSERT INTO site VALUES (3, 'Porto'); SELECT count(*) FROM site",
    )?
    .show()
    .well()?;
    checks.equal(
        "the team's program goes on as before",
        &wrote.stdout.trim(),
        &"3",
    );
    Ok(())
}

/// Applies a manifest of the demo and shows both.
fn applied(stage: &Stage, manifest: &str) -> Result {
    stage
        .freehold(&["apply", "-f", manifest, "--wait", "--timeout", "120"])?
        .show()
        .well()
        .map(|_| ())
}

/// Runs Zabbix's schema and a script of ours, and checks what the database holds afterwards.
fn migrated(
    stage: &Stage,
    checks: &mut Checks,
    (database, package): (&str, &str),
    tables: &str,
) -> Result {
    let name = format!("{database}-migrations");
    let folder = stage.path().join(&name);
    schema::prepare_other(stage, package, &folder)?;
    stage
        .freehold(&["migrate", "apply", database, "--dir", &name])?
        .show()
        .well()?;
    let created = schema::lines_with(&folder, "CREATE TABLE ")?;
    let there = asked(stage, database, tables)?.show().well()?;
    checks.equal(
        &format!("{created} tables, as many as the scripts create"),
        &there.stdout.trim(),
        &created.to_string().as_str(),
    );
    let read = asked(stage, database, "SELECT name FROM site ORDER BY id")?
        .show()
        .well()?;
    checks.equal(
        "a program reads the rows, semicolon and umlaut included",
        &read.stdout.lines().collect::<Vec<_>>(),
        &vec!["Rotterdam; north quay", "Zürich"],
    );
    Ok(())
}

/// Runs one statement as the collector would.
fn asked(stage: &Stage, database: &str, statement: &str) -> Result<Ended> {
    let access = format!("{database}-collector");
    let words = [
        "run", database, "--access", &access, "--", "./ask.sh", statement,
    ];
    stage.freehold(&words)
}

/// Starts the company's server, gives Freehold an account there, and writes both into its manifest.
fn start_server(stage: &mut Stage) -> Result {
    let directory = stage.path().join("mariadb").display().to_string();
    let port = free_port()?.to_string();
    let words = ["-c", SERVER, "mariadb", &directory, &port];
    stage.start("maria-1", Path::new("/bin/sh"), &words)?;
    stage.until(
        "the company's MariaDB server is ready",
        Duration::from_secs(120),
        |stage| as_administrator(stage, "DO 0").is_ok_and(|ended| ended.success),
    )?;
    let password = secret()?;
    let account = format!(
        "CREATE USER freehold@'127.0.0.1' IDENTIFIED BY '{password}'; GRANT ALL PRIVILEGES ON *.* TO freehold@'127.0.0.1' WITH GRANT OPTION"
    );
    as_administrator(stage, &account)?.well()?;
    let file = stage.path().join("maria-1.password");
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&file)
        .and_then(|mut open| open.write_all(password.as_bytes()))
        .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    let sample = fs::read_to_string(stage.path().join("maria.yaml"))
        .map_err(|error| format!("cannot read maria.yaml: {error}"))?;
    let ours = sample
        .replace("port: 3306", &format!("port: {port}"))
        .replace("/etc/freehold/maria-1.password", &file.to_string_lossy());
    stage.write("maria.yaml", &ours)?;
    stage.say(&format!(
        "     a MariaDB server runs on port {port}, and gave Freehold an account; admin$ cat maria.yaml"
    ));
    stage.voice().indented(ours.lines());
    Ok(())
}

/// Runs SQL as whoever runs the server, through its socket.
fn as_administrator(stage: &Stage, statements: &str) -> Result<Ended> {
    let me = stage.run_with(("LC_ALL", "C"), "id", &["-un"])?.well()?;
    let socket = format!("--socket={}/mariadb/socket", stage.path().display());
    let user = format!("--user={}", me.stdout.trim());
    let execute = format!("--execute={statements}");
    let words = [
        "--no-defaults",
        "--protocol=socket",
        &socket,
        &user,
        &execute,
    ];
    stage.run_with(("LC_ALL", "C.UTF-8"), "mariadb", &words)
}

/// A password that nobody can guess.
fn secret() -> Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|error| format!("there is no randomness: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
