//! Throwaway PostgreSQL servers: each with a data directory, a loopback port and a supervisor of
//! its own, started in about a tenth of a second from a copied template.
//!
//! A [`Server`] is gone, files and all, when it is dropped, when the test panics, and also when the
//! test process is killed with a signal that it cannot catch (see `throwaway::supervisor`). What even that
//! leaves behind, for instance after the machine lost power, the next start sweeps.
//!
//! Everything here blocks and panics: it is for tests, where a server that cannot be had is a
//! failure of the test. Calls take a fraction of a second and may be made from async tests.

mod client;
mod installed;
mod template;
mod tls;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::certificates::Certificate;
use crate::process;
use crate::throwaway::{Account, Area, Files, Home, Port, Supervisor};
pub use client::psql;
use installed::Installation;
use template::{SUPERUSER, Template};

/// A slow machine that runs many tests at once is not a broken one.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How a server is asked to stop, in PostgreSQL's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Waits until every session has ended.
    Smart,
    /// Ends the sessions, writes everything down.
    Fast,
    /// Ends at once; the next start recovers from the log.
    Immediate,
}

/// A login of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub name: String,
    pub password: String,
}

/// A running PostgreSQL server that belongs to this test alone.
#[derive(Debug)]
pub struct Server {
    installed: Installation,
    account: Account,
    password: String,
    running: Mutex<Option<Supervisor>>,
    home: Home,
    port: Port,
}

/// What a server shall be like before it is started.
#[derive(Debug, Clone, Default)]
#[must_use = "nothing is started before `start` is called"]
pub struct Builder {
    major: Option<u32>,
    settings: Vec<(String, String)>,
    tls: Option<(Certificate, tls::Plain)>,
}

impl Builder {
    /// A major version; without it the newest that Debian installed.
    pub fn version(mut self, major: u32) -> Self {
        self.major = Some(major);
        self
    }

    /// A line of `postgresql.conf`. The value is quoted here.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn settings(mut self, settings: &[(&str, &str)]) -> Self {
        for (name, value) in settings {
            self = self.setting(name, value);
        }
        self
    }

    /// Offers TLS with this certificate, and takes plain connections as well.
    pub fn tls(mut self, certificate: &Certificate) -> Self {
        self.tls = Some((certificate.clone(), tls::Plain::Allowed));
        self
    }

    /// Takes TLS connections with this certificate and refuses plain ones over the network
    /// (`hostssl`), as managed services do.
    pub fn tls_only(mut self, certificate: &Certificate) -> Self {
        self.tls = Some((certificate.clone(), tls::Plain::Refused));
        self
    }

    /// Starts the server and waits until it accepts connections.
    pub fn start(self) -> Server {
        let installed = self
            .major
            .map_or_else(installed::newest_debian, installed::of_major);
        let account = Account::choose();
        let area = Area::open();
        let template = Template::prepare(&area, &installed, account);
        let home = area.home("pg", account);
        let data = home.path.join("data");
        template.copy_to(&data);
        template::append(&data.join("postgresql.conf"), &lines(&self.settings));
        if let Some((certificate, plain)) = &self.tls {
            tls::set_up(&data, account, certificate, *plain);
        }
        Server::launch(installed, account, &area, home, template.password)
    }
}

impl Server {
    /// A server of the newest major version that Debian installed, with default settings.
    pub fn start() -> Self {
        Builder::default().start()
    }

    /// A server of a given major version.
    pub fn start_version(major: u32) -> Self {
        Builder::default().version(major).start()
    }

    /// A server with extra settings, for example `&[("max_connections", "20")]`.
    pub fn with_settings(settings: &[(&str, &str)]) -> Self {
        Builder::default().settings(settings).start()
    }

    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Every major version that is installed, oldest first: Debian's, and the test-only ones that
    /// `cargo xtask test` installs.
    pub fn versions() -> Vec<u32> {
        installed::all()
            .iter()
            .map(|installed| installed.major)
            .collect()
    }

    /// The folder of a version's programs (`postgres`, `initdb`, `pg_ctl`; Debian's versions have
    /// the client programs there too).
    pub fn programs(major: u32) -> PathBuf {
        installed::of_major(major).bin
    }

    /// The folder of this server's programs.
    pub fn bin_dir(&self) -> &Path {
        &self.installed.bin
    }

    pub fn version(&self) -> u32 {
        self.installed.major
    }

    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    pub fn port(&self) -> u16 {
        self.port.number
    }

    pub fn superuser(&self) -> &'static str {
        SUPERUSER
    }

    pub fn superuser_password(&self) -> &str {
        &self.password
    }

    pub fn superuser_login(&self) -> Login {
        Login {
            name: SUPERUSER.to_owned(),
            password: self.password.clone(),
        }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.home.path.join("data")
    }

    /// The directory of the Unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.home.path
    }

    /// Everything that the server has written to its log so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.home.path.join("log")).expect("a server always has a log");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The process id of the postmaster, when it runs.
    pub fn pid(&self) -> Option<u32> {
        self.supervised()
            .as_ref()
            .filter(|running| running.is_running())
            .map(|running| running.server)
    }

    pub fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    /// A connection URL for the superuser.
    pub fn url(&self, database: &str) -> String {
        self.url_as(&self.superuser_login(), database)
    }

    pub fn url_as(&self, login: &Login, database: &str) -> String {
        format!(
            "postgres://{}:{}@{}:{}/{}",
            percent_encode(&login.name),
            percent_encode(&login.password),
            self.host(),
            self.port(),
            percent_encode(database)
        )
    }

    /// Runs SQL as the superuser and returns what `psql` prints: rows alone, columns apart by `|`.
    ///
    /// # Panics
    /// When a statement fails, with the server's message.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        self.psql_as(&self.superuser_login(), database, sql)
            .unwrap_or_else(|error| {
                panic!("psql failed in database {database:?}:\n{error}\nSQL: {sql}")
            })
    }

    /// Runs SQL as any login. The error is what `psql` wrote to its standard error.
    pub fn psql_as(&self, login: &Login, database: &str, sql: &str) -> Result<String, String> {
        client::psql(self.port(), login, database, sql)
    }

    /// A login as managed services give it to their customers: CREATEROLE and CREATEDB, no superuser.
    pub fn create_managed_admin(&self) -> Login {
        let login = Login {
            name: "managed_admin".to_owned(),
            password: template::random_hex(),
        };
        self.psql(
            "postgres",
            &format!(
                "CREATE ROLE {} LOGIN CREATEROLE CREATEDB NOSUPERUSER NOREPLICATION NOBYPASSRLS PASSWORD '{}'",
                login.name, login.password
            ),
        );
        login
    }

    /// Adds lines to `postgresql.conf`; they take effect with the next start or reload.
    pub fn configure(&self, settings: &[(&str, &str)]) {
        let settings: Vec<(String, String)> = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        template::append(&self.data_dir().join("postgresql.conf"), &lines(&settings));
    }

    /// Stops the server and waits until it has ended. Its files and its port stay.
    pub fn stop(&self, mode: StopMode) {
        let signal = match mode {
            StopMode::Smart => "TERM",
            StopMode::Fast => "INT",
            StopMode::Immediate => "QUIT",
        };
        if let Some(running) = self.supervised().take() {
            running.end(signal, Files::Keep);
        }
    }

    /// Kills every process of the server at once, as when the machine loses power.
    pub fn kill9(&self) {
        let mut supervised = self.supervised();
        let Some(running) = supervised.take() else {
            return;
        };
        // Stopped first, so that it makes no child that we do not see.
        process::signal(running.server, Signal::STOP);
        let children = process::children(running.server);
        for child in &children {
            process::signal(*child, Signal::KILL);
        }
        process::signal(running.server, Signal::KILL);
        let gone = process::wait_until(START_PATIENCE, || {
            !running.is_running() && !children.iter().any(|child| process::is_running(*child))
        });
        assert!(
            gone,
            "the server's processes do not end although they were killed"
        );
        running.end("KILL", Files::Keep);
    }

    /// Stops the server if it runs, and starts it with the same files and port.
    pub fn restart(&self) {
        self.stop(StopMode::Fast);
        *self.supervised() = Some(self.run().unwrap_or_else(|error| panic!("{error}")));
    }

    /// Shows another certificate from now on. The server is restarted, so that no connection stays
    /// that was made with the former.
    pub fn present(&self, certificate: &Certificate) {
        tls::show(&self.data_dir(), self.account, certificate);
        self.restart();
    }

    /// Stops every process of the server where it is (SIGSTOP): it holds its connections and
    /// answers nothing.
    pub fn pause(&self) {
        let pid = self.pid().expect("only a running server can be paused");
        process::signal(pid, Signal::STOP);
        // A child that was made before the postmaster stopped appears in a later round.
        let stopped = process::wait_until(START_PATIENCE, || {
            let mut all_stopped = process::state(pid) == Some('T');
            for child in process::children(pid) {
                if process::is_running(child) && process::state(child) != Some('T') {
                    process::signal(child, Signal::STOP);
                    all_stopped = false;
                }
            }
            all_stopped
        });
        assert!(stopped, "the server's processes do not stop");
    }

    /// Continues what [`Server::pause`] stopped.
    pub fn resume(&self) {
        let Some(pid) = self.pid() else {
            return;
        };
        for child in process::children(pid) {
            process::signal(child, Signal::CONT);
        }
        process::signal(pid, Signal::CONT);
    }

    /// A second server from a copy of this one's files: same system identifier, same roles, same
    /// passwords, another port. A running original is paused while its files are copied, so the
    /// copy is what it would have found on its disk after a crash.
    pub fn clone_files(&self) -> Server {
        let area = Area::open();
        let home = area.home("pg", self.account);
        let data = home.path.join("data");
        let running = self.is_running();
        if running {
            self.pause();
        }
        template::copy(&self.data_dir(), &data);
        if running {
            self.resume();
        }
        for left in ["postmaster.pid", "postmaster.opts"] {
            let _ = fs::remove_file(data.join(left));
        }
        Self::launch(
            self.installed.clone(),
            self.account,
            &area,
            home,
            self.password.clone(),
        )
    }

    fn launch(
        installed: Installation,
        account: Account,
        area: &Area,
        home: Home,
        password: String,
    ) -> Self {
        let port = area.port();
        let mut server = Self {
            installed,
            account,
            password,
            running: Mutex::new(None),
            home,
            port,
        };
        for _ in 0..20 {
            match server.run() {
                Ok(running) => {
                    *server.supervised() = Some(running);
                    return server;
                }
                // Somebody who does not know our locks took it between our look and the start.
                Err(error) if error.contains("Address already in use") => {
                    server.port = area.port();
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("every port that was free at first was taken before the server started");
    }

    /// Starts the processes and waits until the server says that it is ready.
    fn run(&self) -> Result<Supervisor, String> {
        let data = self.data_dir();
        let pid_file = data.join("postmaster.pid");
        let _ = fs::remove_file(&pid_file);
        let seen = fs::metadata(self.home.path.join("log")).map_or(0, |log| log.len());
        let running = Supervisor::start(
            &self.home.path,
            self.account,
            &self.installed.bin.join("postgres"),
            &[
                "-D",
                data.to_str().expect("the path is ours and plain"),
                "-p",
                &self.port().to_string(),
                "-k",
                self.home.path.to_str().expect("the path is ours and plain"),
            ],
        );
        let mut ready = false;
        process::wait_until(START_PATIENCE, || {
            // The last line of this file is the server's own word, which pg_ctl waits for as well.
            ready = fs::read_to_string(&pid_file).is_ok_and(|file| {
                file.lines()
                    .nth(7)
                    .is_some_and(|word| word.trim() == "ready")
            });
            ready || !running.is_running()
        });
        if ready {
            return Ok(running);
        }
        running.end("QUIT", Files::Keep);
        let log = self.log();
        let log = log
            .get(usize::try_from(seen).unwrap_or(0)..)
            .unwrap_or(&log);
        Err(format!(
            "PostgreSQL {} did not start; its log:\n{log}",
            self.version()
        ))
    }

    fn supervised(&self) -> MutexGuard<'_, Option<Supervisor>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match self.supervised().take() {
            Some(running) => running.end("QUIT", Files::Remove),
            None => {
                let _ = fs::remove_dir_all(&self.home.path);
            }
        }
    }
}

/// Lines for `postgresql.conf`, in which the last line of a name counts.
fn lines(settings: &[(String, String)]) -> String {
    settings
        .iter()
        .fold(String::from("\n"), |mut text, (name, value)| {
            writeln!(text, "{name} = '{}'", value.replace('\'', "''"))
                .expect("a string takes any text");
            text
        })
}

fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes any text");
        }
        encoded
    })
}
