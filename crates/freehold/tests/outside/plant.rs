//! A home directory, a PostgreSQL server to put databases on, and servers of Freehold as processes.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use freehold_testing::{binary, postgres::Server};
use serde_json::Value;
use tempfile::TempDir;

/// How long a test waits for what should happen at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A lock that scripts of these tests wait for and that the test holds.
const GATE: u32 = 4711;

pub(crate) struct Plant {
    pub(crate) pg: Server,
    home: TempDir,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Its output, when it succeeded.
    pub(crate) fn ok(self) -> String {
        assert!(
            self.status.success(),
            "{:?} {:?}\n{}\n{}",
            self.status,
            self.status.signal(),
            self.out,
            self.err
        );
        self.out
    }

    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
}

/// What a process writes, line by line, kept and waited for.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<(Mutex<String>, Condvar)>);

impl Lines {
    pub(crate) fn of(source: impl std::io::Read + Send + 'static) -> Self {
        let lines = Self::default();
        let kept = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(source).lines() {
                let Ok(line) = line else { break };
                kept.push(&line);
            }
            kept.push("(end)");
        });
        lines
    }

    fn push(&self, line: &str) {
        let (text, news) = &*self.0;
        let mut text = text.lock().unwrap();
        text.push_str(line);
        text.push('\n');
        news.notify_all();
    }

    pub(crate) fn text(&self) -> String {
        self.0.0.lock().unwrap().clone()
    }

    /// The first line that contains this.
    pub(crate) fn wait_for(&self, part: &str) -> String {
        let (text, news) = &*self.0;
        let deadline = Instant::now() + PATIENCE;
        let mut text = text.lock().unwrap();
        loop {
            if let Some(line) = text.lines().find(|line| line.contains(part)) {
                return line.to_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && !text.ends_with("(end)\n"),
                "{part:?} never came:\n{text}"
            );
            text = news.wait_timeout(text, left).unwrap().0;
        }
    }
}

/// A `freehold serve` process. It is killed when dropped.
pub(crate) struct Serving {
    child: Child,
    pub(crate) url: String,
    pub(crate) log: Lines,
}

impl Serving {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn address(&self) -> String {
        self.url.split("://").nth(1).unwrap().to_owned()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    pub(crate) fn kill9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it in order; it must end well.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status:?}\n{}", self.log.text());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success(), "signal {name} to {pid}");
}

/// Waits until `done` gives something. Looking is itself a command or a query, so it takes its time.
pub(crate) fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
    }
}

impl Plant {
    pub(crate) fn new() -> Self {
        Self::on(Server::start())
    }

    /// A plant around a server of the test's own making.
    pub(crate) fn on(pg: Server) -> Self {
        let plant = Self {
            pg,
            home: tempfile::tempdir().unwrap(),
        };
        fs::write(plant.path("pg-password"), plant.pg.superuser_password()).unwrap();
        plant
    }

    /// A plant with a running server, and the platform's and the team's manifests applied.
    pub(crate) fn furnished() -> (Self, Serving) {
        let plant = Self::new();
        let serving = plant.serve("data", &[]);
        plant.apply(&serving, &plant.platform());
        plant.apply(&serving, &database("orders"));
        (plant, serving)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// The program with nothing of this process's surroundings.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary::freehold());
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", self.home.path())
            .env("XDG_DATA_HOME", self.path("data-home"))
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        command
    }

    /// Starts a server on a free port and waits until it answers.
    pub(crate) fn serve(&self, data_dir: &str, more: &[&str]) -> Serving {
        self.serve_at("127.0.0.1:0", data_dir, more)
    }

    pub(crate) fn serve_at(&self, listen: &str, data_dir: &str, more: &[&str]) -> Serving {
        self.serve_with(listen, data_dir, more, &[])
    }

    /// Starts a server that finds these variables set.
    pub(crate) fn serve_with(
        &self,
        listen: &str,
        data_dir: &str,
        more: &[&str],
        variables: &[(&str, &str)],
    ) -> Serving {
        let data = self.path(data_dir);
        let arguments = [
            &[
                "serve",
                "--listen",
                listen,
                "--data-dir",
                data.to_str().unwrap(),
            ],
            more,
        ]
        .concat();
        let mut child = self
            .command(&arguments)
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Lines::of(child.stderr.take().unwrap());
        let mut serving = Serving {
            child,
            url: String::new(),
            log,
        };
        let line = serving.log.wait_for("Freehold answers at ");
        serving.url = line.split(' ').nth(3).unwrap().to_owned();
        serving
    }

    /// A command against a server, as its first admin.
    pub(crate) fn client(&self, serving: &Serving, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command
            .env("FREEHOLD_SERVER", &serving.url)
            .env("FREEHOLD_TEAM", "shop")
            .env("FREEHOLD_TOKEN_FILE", self.path("data/bootstrap-token"));
        command
    }

    pub(crate) fn ask(&self, serving: &Serving, arguments: &[&str]) -> Said {
        said(&mut self.client(serving, arguments))
    }

    pub(crate) fn apply(&self, serving: &Serving, manifests: &str) {
        let said = self.try_apply(serving, manifests, &["--wait"]);
        assert!(said.status.success(), "{said:?}\n{}", serving.log.text());
    }

    pub(crate) fn try_apply(&self, serving: &Serving, manifests: &str, more: &[&str]) -> Said {
        let mut arguments = vec!["apply", "-f", "-"];
        arguments.extend(more);
        let mut child = self
            .client(serving, &arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(manifests.as_bytes()).unwrap();
        drop(input);
        output(&child.wait_with_output().unwrap())
    }

    /// What the workload of a database gets.
    pub(crate) fn variable(&self, serving: &Serving, database: &str, name: &str) -> String {
        let print = format!("printf %s \"${name}\"");
        self.ask(serving, &["run", database, "--", "sh", "-c", &print])
            .ok()
    }

    pub(crate) fn platform(&self) -> String {
        let password = self.path("pg-password");
        format!(
            "apiVersion: freehold.dev/v1alpha1
kind: Team
metadata: {{name: shop}}
spec: {{members: [{{subject: ana, role: owner}}, {{subject: vic, role: viewer}}]}}
---
apiVersion: freehold.dev/v1alpha1
kind: Workload
metadata: {{name: api, namespace: shop}}
spec: {{}}
---
apiVersion: freehold.dev/v1alpha1
kind: Class
metadata: {{name: standard}}
spec:
  engine: postgres
  limits: {{connections: 20}}
  load: {{storageMib: 10, connections: 1, throughput: 1}}
  deletionPolicy: Quarantine
---
apiVersion: freehold.dev/v1alpha1
kind: Instance
metadata: {{name: pg-1}}
spec:
  engine: postgres
  external:
    host: {host}
    port: {port}
    username: {user}
    password: 'file:{password}'
    tls: disable
",
            host = self.pg.host(),
            port = self.pg.port(),
            user = self.pg.superuser(),
            password = password.display(),
        )
    }

    /// Three scripts that each leave a mark; the second waits for the gate.
    pub(crate) fn scripts(&self) -> PathBuf {
        self.write(
            "migrations/V1__marks.sql",
            "CREATE TABLE marks (script text NOT NULL);\nINSERT INTO marks VALUES ('V1');\n",
        );
        self.write(
            "migrations/V2__slow.sql",
            &format!(
                "INSERT INTO marks VALUES ('V2');\nSELECT pg_advisory_xact_lock({GATE});\n\
                 CREATE TABLE slow (id bigint PRIMARY KEY);\n"
            ),
        );
        self.write(
            "migrations/V3__last.sql",
            "INSERT INTO marks VALUES ('V3');\n",
        );
        self.path("migrations")
    }

    /// Waits until a script stands before the gate.
    pub(crate) fn wait_for_script(&self) {
        let query = format!(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {GATE} AND NOT granted"
        );
        until("a script stands before the gate", || {
            (self.pg.psql("postgres", &query).trim() != "0").then_some(())
        });
    }

    /// Every script ran once, in order, and the history says so.
    pub(crate) fn assert_migrated_once(&self, database: &str) {
        let history = self.pg.psql(
            database,
            "SELECT script, success FROM flyway_schema_history WHERE type = 'SQL' ORDER BY installed_rank",
        );
        assert_eq!(
            history.trim(),
            "V1__marks.sql|t\nV2__slow.sql|t\nV3__last.sql|t"
        );
        let marks = self
            .pg
            .psql(database, "SELECT script FROM marks ORDER BY script");
        assert_eq!(marks.trim(), "V1\nV2\nV3");
    }
}

/// A database of the team `shop` with one workload.
pub(crate) fn database(name: &str) -> String {
    format!(
        "---
apiVersion: freehold.dev/v1alpha1
kind: Database
metadata: {{name: {name}, namespace: shop}}
spec:
  class: standard
  access: [{{workload: api, level: readWrite}}]
"
    )
}

pub(crate) fn said(command: &mut Command) -> Said {
    output(&command.output().unwrap())
}

fn output(output: &std::process::Output) -> Said {
    Said {
        status: output.status,
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Holds the gate until dropped, in a session of the test's own.
pub(crate) struct Gate(Child);

impl Gate {
    pub(crate) fn close(plant: &Plant, database: &str) -> Self {
        let mut child = Command::new("psql")
            .args([
                "-XAtq",
                "-h",
                plant.pg.host(),
                "-U",
                plant.pg.superuser(),
                "-d",
                database,
            ])
            .args(["-p", &plant.pg.port().to_string()])
            .env("PGPASSWORD", plant.pg.superuser_password())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Lines::of(child.stdout.take().unwrap());
        let input = child.stdin.as_mut().unwrap();
        writeln!(input, "SELECT pg_advisory_lock({GATE});\n\\echo closed").unwrap();
        input.flush().unwrap();
        lines.wait_for("closed");
        Self(child)
    }

    pub(crate) fn open(self) {}
}

impl Drop for Gate {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Copies a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.unwrap().success());
}
