//! One door to a throwaway server, its databases and sessions.
#![allow(
    dead_code,
    reason = "each test program uses its own part of the fixture"
)]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use freehold_engine::{ConnectTarget, Tls, postgres::PostgresSession};
use freehold_migrate::{
    Bundle, Dialect, Migrator, RunEvent, RunFailure, RunOptions, RunReport,
    runner_process::{BundleSource, RunnerInput, RunnerTarget},
};
use freehold_model::{BundleDigest, Secret};
use freehold_testing::postgres::Server;

/// One database of a server.
pub(crate) struct Database<'a> {
    pub(crate) server: &'a Server,
    pub(crate) name: String,
}

impl<'a> Database<'a> {
    pub(crate) fn create(server: &'a Server) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("shop_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        server.psql("postgres", &format!("CREATE DATABASE {name}"));
        Self { server, name }
    }

    pub(crate) fn psql(&self, sql: &str) -> String {
        self.server.psql(&self.name, sql)
    }

    pub(crate) fn target(&self) -> ConnectTarget {
        self.target_as(self.server.superuser(), self.server.superuser_password())
    }

    pub(crate) fn target_as(&self, user: &str, password: &str) -> ConnectTarget {
        ConnectTarget {
            host: self.server.host().to_owned(),
            port: self.server.port(),
            username: user.to_owned(),
            password: Some(Secret::new(password)),
            database: self.name.clone(),
            tls: Tls::Disable,
            application_name: "freehold/test".to_owned(),
            connect_timeout: Duration::from_secs(30),
        }
    }

    pub(crate) async fn session(&self) -> PostgresSession {
        PostgresSession::connect(&self.target())
            .await
            .expect("the server runs")
    }

    pub(crate) async fn run(&self, bundle: &Bundle) -> Result<RunReport, RunFailure> {
        self.run_with(bundle, RunOptions::default()).await
    }

    pub(crate) async fn run_with(
        &self,
        bundle: &Bundle,
        options: RunOptions,
    ) -> Result<RunReport, RunFailure> {
        let mut session = self.session().await;
        Migrator::new(Dialect::Postgresql, &mut session, options)
            .run(bundle, &mut |_| {})
            .await
    }

    /// The events of a run that must succeed.
    pub(crate) async fn events(&self, bundle: &Bundle) -> Vec<RunEvent> {
        let mut session = self.session().await;
        let mut events = Vec::new();
        Migrator::new(Dialect::Postgresql, &mut session, RunOptions::default())
            .run(bundle, &mut |event| events.push(event))
            .await
            .expect("the run succeeds");
        events
    }

    /// `rank|version|description|type|script|success`, one row a line.
    pub(crate) fn history(&self) -> String {
        self.psql(
            "SELECT installed_rank, version, description, type, script, success \
             FROM flyway_schema_history ORDER BY installed_rank",
        )
    }

    /// Names of the tables in `public`, the history's left out.
    pub(crate) fn tables(&self) -> String {
        self.psql(
            "SELECT string_agg(tablename, ',' ORDER BY tablename) FROM pg_tables \
             WHERE schemaname = 'public' AND tablename <> 'flyway_schema_history'",
        )
    }
}

pub(crate) fn bundle(files: &[(&str, &str)]) -> Bundle {
    Bundle::from_files(files.iter().copied()).expect("a bundle")
}

pub(crate) fn sample() -> Bundle {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../samples/migrations");
    Bundle::pack(&folder).expect("the sample packs").bundle
}

/// A runner in a process of its own.
pub(crate) struct Runner {
    pub(crate) child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Runner {
    pub(crate) fn start(database: &Database<'_>, bundle: &Bundle) -> Self {
        Self::start_expecting(database, bundle, bundle.digest())
    }

    pub(crate) fn start_expecting(
        database: &Database<'_>,
        bundle: &Bundle,
        digest: &BundleDigest,
    ) -> Self {
        let target = RunnerTarget::from_target(&database.target());
        Self::start_with(target, bundle, digest)
    }

    pub(crate) fn start_at(target: RunnerTarget, bundle: &Bundle) -> Self {
        Self::start_with(target, bundle, bundle.digest())
    }

    fn start_with(target: RunnerTarget, bundle: &Bundle, digest: &BundleDigest) -> Self {
        let archive = bundle.to_archive();
        let input = RunnerInput {
            operation: "0190".to_owned(),
            bundle: BundleSource::Inline {
                length: archive.len() as u64,
            },
            digest: digest.clone(),
            target,
            options: RunOptions::default(),
        };
        let mut runner = Self::start_bare();
        let mut line = serde_json::to_vec(&input).expect("JSON");
        line.push(b'\n');
        runner.write(&line);
        runner.write(&archive);
        runner
    }

    pub(crate) fn start_bare() -> Self {
        let test = std::env::current_exe().expect("a test has a path");
        let program = test
            .ancestors()
            .nth(2)
            .expect("tests lie in target/<profile>/deps")
            .join("examples/runner");
        let mut child = Command::new(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        Self {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().expect("it is piped")),
            child,
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("it is open");
        stdin.write_all(bytes).expect("the runner reads");
        stdin.flush().expect("the runner reads");
    }

    /// The next event, None at the end.
    pub(crate) fn next(&mut self) -> Option<RunEvent> {
        let mut line = String::new();
        let read = self
            .stdout
            .read_line(&mut line)
            .expect("the runner's output is text");
        (read > 0).then(|| serde_json::from_str(&line).expect("an event a line"))
    }

    /// The last event and the exit code.
    pub(crate) fn finish(mut self) -> (RunEvent, i32) {
        let mut last = None;
        while let Some(event) = self.next() {
            last = Some(event);
        }
        let status = self.child.wait().expect("it is our child");
        (
            last.expect("a runner says how it ended"),
            status.code().expect("it exits by itself"),
        )
    }
}
