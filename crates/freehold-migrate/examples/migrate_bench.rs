//! 1,000 small migrations: the runner against `psql` and, where it is installed, dbmate.
//!
//! `cargo run --release -p freehold-migrate --example migrate_bench -- postgres://user[:password]@host:port/database`
//!
//! Without a password in the URL, all sides take it from `PGPASSWORD`. A program that is not installed
//! has a row that says so.
//!
//! psql is given one file with one transaction per script, without any history: it is the floor.
//! With a folder as a second argument, that folder's migrations run instead (without dbmate), `psql`
//! reading the files in the same order, again in one transaction each.
//!
//! They take turns, each time on an empty schema, and the medians are compared, because a machine's
//! mood changes more between minutes than they differ. The database's `public` schema is dropped.

use std::{
    error::Error,
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use freehold_engine::{ConnectTarget, ScriptSession as _, Tls, postgres::PostgresSession};
use freehold_migrate::{Bundle, Dialect, Migrations, Migrator, Mode, RunOptions};
use freehold_model::Secret;

const SCRIPTS: usize = 1000;
const ROUNDS: usize = 5;

type Outcome<T> = Result<T, Box<dyn Error>>;

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let url = std::env::args()
        .nth(1)
        .ok_or("usage: migrate_bench postgres://user[:password]@host:port/database")?;
    let target = target(&url)?;
    let work = tempfile::tempdir()?;
    let folder = std::env::args().nth(2);
    let bundle = match &folder {
        Some(folder) => Bundle::pack(Path::new(folder))?.bundle,
        None => Bundle::from_files(scripts().map(|(n, text)| (format!("V{n}__step.sql"), text)))?,
    };
    let scripts = write_for_psql(work.path(), &bundle)?;
    write_for_dbmate(work.path())?;
    let has_psql = installed("psql");
    let has_dbmate = folder.is_none() && installed("dbmate");
    let (mut ours, mut psql, mut dbmate) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let by_psql = if has_psql {
            Some(psql_run(&target, &url, work.path()).await?)
        } else {
            None
        };
        let by_us = our_run(&target, &bundle).await?;
        let by_dbmate = if has_dbmate {
            Some(dbmate_run(&target, &url, work.path()).await?)
        } else {
            None
        };
        // The first round warms the server's caches up.
        if round > 0 {
            ours.push(by_us);
            psql.extend(by_psql);
            dbmate.extend(by_dbmate);
        }
    }
    println!("{scripts} scripts, median of {ROUNDS} interleaved rounds");
    let floor = median(psql);
    let missing = "not installed";
    print_row("psql", floor, floor, missing);
    print_row("freehold", median(ours), floor, missing);
    let without_dbmate = match folder {
        Some(_) => "not run: the folder is not in its format",
        None => missing,
    };
    print_row("dbmate", median(dbmate), floor, without_dbmate);
    Ok(())
}

/// One contender: its time, and how often the floor's time that is; or why it has none.
#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn print_row(name: &str, time: Option<Duration>, floor: Option<Duration>, absent: &str) {
    let Some(time) = time else {
        println!("{name:<9} {absent}");
        return;
    };
    let ratio = floor.map_or_else(
        || "no ratio: psql is not installed".to_owned(),
        |floor| format!("{:.2}", time.as_secs_f64() / floor.as_secs_f64()),
    );
    println!("{name:<9} {:>8.1} ms  {ratio}", time.as_secs_f64() * 1e3);
}

fn installed(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// What migrations look like: a table now and then, columns, an index, some rows.
fn scripts() -> impl Iterator<Item = (usize, String)> {
    (1..=SCRIPTS).map(|n| {
        let table = format!("t{}", (n - 1) / 10);
        let text = match (n - 1) % 10 {
            0 => format!(
                "CREATE TABLE {table} (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);\n\
                 COMMENT ON TABLE {table} IS 'made by step {n}';\n"
            ),
            1 => format!("CREATE INDEX {table}_name_idx ON {table} (name);\n"),
            step => format!(
                "ALTER TABLE {table} ADD COLUMN c{step} integer NOT NULL DEFAULT 0;\n\
                 INSERT INTO {table} (name, c{step}) VALUES ('a', 1), ('b', 2);\n\
                 UPDATE {table} SET c{step} = c{step} + 1 WHERE name = 'a';\n"
            ),
        };
        (n, text)
    })
}

/// One file that includes every script, and how many there are.
fn write_for_psql(folder: &Path, bundle: &Bundle) -> Outcome<usize> {
    let migrations = Migrations::resolve(bundle).map_err(|refusals| format!("{refusals:?}"))?;
    let mut all = String::from("\\set ON_ERROR_STOP on\n");
    for (n, migration) in migrations.all().enumerate() {
        let text = bundle.file(migration.path).unwrap_or_default();
        fs::write(folder.join(format!("{n}.sql")), text)?;
        let script = migration
            .script()
            .map_err(|refusals| format!("{refusals:?}"))?;
        match script.mode {
            Mode::Transaction { opening } if opening == "BEGIN" => {
                writeln!(all, "BEGIN;\n\\ir {n}.sql\nCOMMIT;")?;
            }
            _ => writeln!(all, "\\ir {n}.sql")?,
        }
    }
    fs::write(folder.join("all.sql"), all)?;
    Ok(migrations.all().count())
}

fn write_for_dbmate(folder: &Path) -> Outcome<()> {
    let migrations = folder.join("db/migrations");
    fs::create_dir_all(&migrations)?;
    for (n, text) in scripts() {
        let text = format!("-- migrate:up\n{text}\n-- migrate:down\n");
        fs::write(migrations.join(format!("{n:014}_step.sql")), text)?;
    }
    Ok(())
}

async fn our_run(target: &ConnectTarget, bundle: &Bundle) -> Outcome<Duration> {
    empty(target).await?;
    let archive = bundle.to_archive();
    let started = Instant::now();
    let bundle = Bundle::open(&archive)?;
    let mut session = PostgresSession::connect(target).await?;
    let report = Migrator::new(Dialect::Postgresql, &mut session, RunOptions::default())
        .run(&bundle, &mut |_| {})
        .await?;
    let elapsed = started.elapsed();
    assert!(!report.applied.is_empty(), "the schema was empty");
    Ok(elapsed)
}

async fn psql_run(target: &ConnectTarget, url: &str, folder: &Path) -> Outcome<Duration> {
    empty(target).await?;
    timed(
        Command::new("psql")
            .args(["-X", "-q", "-f", "all.sql", url])
            .current_dir(folder),
    )
}

async fn dbmate_run(target: &ConnectTarget, url: &str, folder: &Path) -> Outcome<Duration> {
    empty(target).await?;
    timed(
        Command::new("dbmate")
            .args(["--no-dump-schema", "up"])
            .env("DATABASE_URL", format!("{url}?sslmode=disable"))
            .current_dir(folder),
    )
}

fn timed(command: &mut Command) -> Outcome<Duration> {
    let started = Instant::now();
    let status = command.stdout(Stdio::null()).status()?;
    let elapsed = started.elapsed();
    if status.success() {
        Ok(elapsed)
    } else {
        Err(format!("{command:?} failed").into())
    }
}

async fn empty(target: &ConnectTarget) -> Outcome<()> {
    let mut session = PostgresSession::connect(target).await?;
    session
        .execute_batch("DROP SCHEMA IF EXISTS public CASCADE")
        .await
        .map_err(|stopped| stopped.error)?;
    session.execute("CREATE SCHEMA public").await?;
    session.execute("CHECKPOINT").await?;
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort();
    times.get(times.len() / 2).copied()
}

/// Just enough of a URL for a benchmark.
fn target(url: &str) -> Outcome<ConnectTarget> {
    let rest = url
        .strip_prefix("postgres://")
        .ok_or("the URL starts with postgres://")?;
    let (login, place) = rest.rsplit_once('@').ok_or("the URL names a user")?;
    let (username, password) = match login.split_once(':') {
        Some((username, password)) => (username, password.to_owned()),
        None => (login, std::env::var("PGPASSWORD").unwrap_or_default()),
    };
    let (address, database) = place.split_once('/').ok_or("the URL names a database")?;
    let (host, port) = address.split_once(':').ok_or("the URL names a port")?;
    Ok(ConnectTarget {
        host: host.to_owned(),
        port: port.parse()?,
        username: username.to_owned(),
        password: Some(Secret::new(password)),
        database: database.to_owned(),
        tls: Tls::Disable,
        application_name: "freehold/bench".to_owned(),
        connect_timeout: Duration::from_secs(10),
    })
}
