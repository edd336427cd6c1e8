//! One empty database of each engine, behind one door.

/// Makes a test for each engine of each property.
macro_rules! on_every_engine {
    ($($property:ident),* $(,)?) => {
        mod postgres { $(#[tokio::test] async fn $property() { super::$property::<crate::engines::Postgres>().await; })* }
        mod mariadb { $(#[tokio::test] async fn $property() { super::$property::<crate::engines::Mariadb>().await; })* }
        mod sqlite { $(#[tokio::test] async fn $property() { super::$property::<crate::engines::Sqlite>().await; })* }
    };
}

mod mariadb;
mod project;
mod promises;
mod sqlite;

use std::{path::PathBuf, time::Duration};

use freehold_engine::{
    ConnectTarget, ScriptSession, Tls, mariadb::MariadbSession, postgres::PostgresSession,
    sqlite::SqliteSession,
};
use freehold_migrate::{
    Bundle, Dialect, HISTORY_TABLE, Migrator, RunEvent, RunFailure, RunOptions, RunReport,
    runner_process::RunnerTarget,
};
use freehold_model::Secret;

use crate::fixture::Database;

/// One empty database of an engine, gone with the value.
trait Site: Sized {
    const DIALECT: Dialect;
    type Session: ScriptSession;

    fn new() -> Self;
    fn target(&self) -> RunnerTarget;
    async fn session(&self) -> Self::Session;

    /// Rows as lines, fields joined by `|`.
    async fn rows(&self, sql: &str) -> String {
        let mut session = self.session().await;
        let rows = session.query(sql, &[]).await.expect("a query");
        let lines: Vec<String> = rows
            .into_iter()
            .map(|row| {
                let fields: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
                fields.join("|")
            })
            .collect();
        lines.join("\n")
    }

    async fn execute(&self, sql: &str) {
        let mut session = self.session().await;
        session.execute(sql).await.expect("a statement");
    }

    async fn history(&self) -> String {
        self.rows(&format!(
            "SELECT installed_rank, version, description, type, script, checksum, \
             CASE WHEN success THEN 'yes' ELSE 'no' END FROM {HISTORY_TABLE} ORDER BY installed_rank"
        ))
        .await
    }

    /// Names of all tables but the history's.
    async fn tables(&self) -> String {
        let tables = if Self::DIALECT == Dialect::Sqlite {
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'flyway_schema_history' ORDER BY 1"
        } else if Self::DIALECT == Dialect::Mysql {
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name <> 'flyway_schema_history' ORDER BY 1"
        } else {
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'flyway_schema_history' ORDER BY 1"
        };
        self.rows(tables).await.replace('\n', ",")
    }

    fn bundle(files: &[(&str, &str)]) -> Bundle {
        Bundle::from_files_for(Self::DIALECT, files.iter().copied()).expect("a bundle")
    }

    async fn run(&self, files: &[(&str, &str)]) -> Result<RunReport, RunFailure> {
        self.run_with(files, RunOptions::default(), &mut Vec::new())
            .await
    }

    async fn run_with(
        &self,
        files: &[(&str, &str)],
        options: RunOptions,
        events: &mut Vec<RunEvent>,
    ) -> Result<RunReport, RunFailure> {
        let mut session = self.session().await;
        Migrator::new(Self::DIALECT, &mut session, options)
            .run(&Self::bundle(files), &mut |event| events.push(event))
            .await
    }
}

fn target(port: u16, user: &str, password: &str, database: &str) -> ConnectTarget {
    ConnectTarget {
        host: "127.0.0.1".to_owned(),
        port,
        username: user.to_owned(),
        password: Some(Secret::new(password)),
        database: database.to_owned(),
        tls: Tls::Disable,
        application_name: "freehold/test".to_owned(),
        connect_timeout: Duration::from_secs(30),
    }
}

struct Postgres {
    target: ConnectTarget,
    _server: freehold_testing::postgres::Server,
}

impl Site for Postgres {
    const DIALECT: Dialect = Dialect::Postgresql;
    type Session = PostgresSession;

    fn new() -> Self {
        let server = freehold_testing::postgres::Server::start();
        let target = Database::create(&server).target();
        Self {
            target,
            _server: server,
        }
    }

    fn target(&self) -> RunnerTarget {
        RunnerTarget::from_target(&self.target)
    }

    async fn session(&self) -> PostgresSession {
        PostgresSession::connect(&self.target).await.expect("runs")
    }
}

struct Mariadb {
    target: ConnectTarget,
    server: freehold_testing::mariadb::Server,
}

impl Site for Mariadb {
    const DIALECT: Dialect = Dialect::Mysql;
    type Session = MariadbSession;

    fn new() -> Self {
        Self::with_settings(&[])
    }

    fn target(&self) -> RunnerTarget {
        RunnerTarget::mariadb(&self.target)
    }

    async fn session(&self) -> MariadbSession {
        MariadbSession::connect(&self.target).await.expect("runs")
    }
}

impl Mariadb {
    fn with_settings(settings: &[(&str, &str)]) -> Self {
        let server = freehold_testing::mariadb::Server::with_settings(settings);
        server.sql("CREATE DATABASE `shop_1`");
        let login = server.superuser_login();
        Self {
            target: target(server.port(), &login.name, &login.password, "shop_1"),
            server,
        }
    }
}

struct Sqlite {
    folder: tempfile::TempDir,
}

impl Sqlite {
    fn file(&self) -> PathBuf {
        self.folder.path().join("shop.db")
    }
}

impl Site for Sqlite {
    const DIALECT: Dialect = Dialect::Sqlite;
    type Session = SqliteSession;

    fn new() -> Self {
        let site = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        std::fs::write(site.file(), "").expect("a file");
        site
    }

    fn target(&self) -> RunnerTarget {
        RunnerTarget::sqlite(self.file())
    }

    async fn session(&self) -> SqliteSession {
        SqliteSession::open(&self.file()).await.expect("opens")
    }
}
