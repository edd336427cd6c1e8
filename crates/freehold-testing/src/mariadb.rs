//! Throwaway MariaDB servers: each with a data directory, a loopback port, a Unix socket and a
//! supervisor of its own, started in about a third of a second from a copied template.
//!
//! As with PostgreSQL's, a [`Server`] is gone, files and all, when it is dropped, when the test
//! panics, and when the test process is killed. A clone listens on another port, which is enough for
//! the server to call itself another one (`@@server_uid`).
//!
//! Everything here blocks and panics: it is for tests.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::certificates::Certificate;
use crate::process;
use crate::throwaway::{Account, Area, Files, Home, Port, Supervisor, open_lock};

const START_PATIENCE: Duration = Duration::from_secs(60);

/// The name of the account with all rights. It may connect from anywhere.
const SUPERUSER: &str = "root";

/// Changes whenever what [`Template::make`] does changes, so that no old template is used.
const RECIPE: u32 = 1;

/// Small and fast; what is committed survives the death of the process, not that of the machine.
const SETTINGS: &[&str] = &[
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--innodb-log-file-size=8M",
    "--innodb-buffer-pool-size=24M",
    "--innodb-flush-log-at-trx-commit=2",
    "--sync-binlog=0",
    "--performance-schema=OFF",
    "--skip-log-bin",
];

/// A login of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub name: String,
    pub password: String,
}

/// A running MariaDB server that belongs to this test alone.
#[derive(Debug)]
pub struct Server {
    account: Account,
    password: String,
    arguments: Vec<String>,
    running: Mutex<Option<Supervisor>>,
    home: Home,
    port: Port,
}

/// What a server shall be like before it is started.
#[derive(Debug, Clone, Default)]
#[must_use = "nothing is started before `start` is called"]
pub struct Builder {
    settings: Vec<(String, String)>,
    tls: Option<Certificate>,
}

impl Builder {
    /// A setting, as on the command line: `("sql_mode", "ANSI_QUOTES")`.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Offers TLS with this certificate, and takes plain connections as well.
    pub fn tls(mut self, certificate: &Certificate) -> Self {
        self.tls = Some(certificate.clone());
        self
    }

    /// Starts the server and waits until it accepts connections.
    pub fn start(self) -> Server {
        let account = Account::choose();
        let area = Area::open();
        let template = Template::prepare(&area, account);
        let home = area.home("mariadb", account);
        copy(&template.data, &home.path.join("data"));
        let mut arguments: Vec<String> = self
            .settings
            .iter()
            .map(|(name, value)| format!("--{name}={value}"))
            .collect();
        if let Some(certificate) = &self.tls {
            arguments.extend(show(&home.path, account, certificate));
        }
        Server::launch(account, &area, home, template.password, arguments)
    }
}

impl Server {
    /// A server with default settings.
    pub fn start() -> Self {
        Builder::default().start()
    }

    /// A server with extra settings, for example `&[("max_connections", "20")]`.
    pub fn with_settings(settings: &[(&str, &str)]) -> Self {
        let builder = Builder::default();
        settings
            .iter()
            .fold(builder, |builder, (name, value)| {
                builder.setting(name, value)
            })
            .start()
    }

    pub fn builder() -> Builder {
        Builder::default()
    }

    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    pub fn port(&self) -> u16 {
        self.port.number
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

    /// The directory of the Unix socket and the log.
    pub fn socket_dir(&self) -> &Path {
        &self.home.path
    }

    /// Everything that the server has written to its log so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.home.path.join("log")).expect("a server always has a log");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn pid(&self) -> Option<u32> {
        self.supervised()
            .as_ref()
            .filter(|running| running.is_running())
            .map(|running| running.server)
    }

    /// A connection URL for the superuser.
    pub fn url(&self) -> String {
        let Login { name, password } = self.superuser_login();
        format!("mysql://{name}:{password}@127.0.0.1:{}/", self.port())
    }

    /// Runs SQL as the superuser and returns what `mariadb` prints: rows alone, columns apart by tabs.
    ///
    /// # Panics
    /// When a statement fails, with the server's message.
    pub fn sql(&self, sql: &str) -> String {
        sql_as(self.port(), &self.superuser_login(), "", sql)
            .unwrap_or_else(|error| panic!("mariadb failed:\n{error}\nSQL: {sql}"))
    }

    /// Runs SQL as any login, in a database (`""` for none). The error is what `mariadb` wrote.
    pub fn sql_as(&self, login: &Login, database: &str, sql: &str) -> Result<String, String> {
        sql_as(self.port(), login, database, sql)
    }

    /// A login as managed services give it to their customers: the rights on data that can be
    /// granted, CREATE USER, PROCESS, RELOAD, and what else is named; no SUPER.
    pub fn create_managed_admin(&self, more: &str) -> Login {
        let login = Login {
            name: "managed_admin".to_owned(),
            password: random_hex(),
        };
        let name = &login.name;
        let mut sql = format!(
            "CREATE USER {name}@'%' IDENTIFIED BY '{}'; \
             GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, RELOAD, PROCESS, REFERENCES, INDEX, \
             ALTER, SHOW DATABASES, CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, CREATE VIEW, \
             SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, CREATE USER, EVENT, TRIGGER ON *.* TO {name}@'%' \
             WITH GRANT OPTION; ",
            login.password
        );
        if !more.is_empty() {
            write!(sql, "GRANT {more} ON *.* TO {name}@'%';").expect("a string takes any text");
        }
        self.sql(&sql);
        login
    }

    /// Stops the server in an orderly way and waits until it has ended. Its files and its port stay.
    pub fn stop(&self) {
        if let Some(running) = self.supervised().take() {
            running.end("TERM", Files::Keep);
        }
    }

    /// Kills the server at once, as when the machine loses power.
    pub fn kill9(&self) {
        if let Some(running) = self.supervised().take() {
            running.end("KILL", Files::Keep);
        }
    }

    /// Stops the server if it runs, and starts it with the same files and port.
    pub fn restart(&self) {
        self.stop();
        *self.supervised() = Some(self.run().unwrap_or_else(|error| panic!("{error}")));
    }

    /// Stops the server where it is (SIGSTOP): it holds its connections and answers nothing.
    pub fn pause(&self) {
        let pid = self.pid().expect("only a running server can be paused");
        process::signal(pid, Signal::STOP);
        let stopped = process::wait_until(START_PATIENCE, || process::state(pid) == Some('T'));
        assert!(stopped, "the server does not stop");
    }

    pub fn resume(&self) {
        if let Some(pid) = self.pid() {
            process::signal(pid, Signal::CONT);
        }
    }

    /// A second server from a copy of this one's files, as after a restore or of a cloned machine.
    pub fn clone_files(&self) -> Server {
        let area = Area::open();
        let home = area.home("mariadb", self.account);
        let running = self.pid().is_some();
        if running {
            self.pause();
        }
        copy(&self.data_dir(), &home.path.join("data"));
        if running {
            self.resume();
        }
        let (password, arguments) = (self.password.clone(), self.arguments.clone());
        Self::launch(self.account, &area, home, password, arguments)
    }

    fn launch(
        account: Account,
        area: &Area,
        home: Home,
        password: String,
        arguments: Vec<String>,
    ) -> Self {
        let mut server = Self {
            account,
            password,
            arguments,
            running: Mutex::new(None),
            home,
            port: area.port(),
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

    fn run(&self) -> Result<Supervisor, String> {
        let home = self.home.path.to_str().expect("the path is ours and plain");
        let temporary = self.home.path.join("tmp");
        let _ = fs::remove_dir_all(&temporary);
        fs::create_dir(&temporary).expect("the directory is ours");
        self.account.own(&temporary);
        let log = self.home.path.join("log");
        let seen = fs::metadata(&log).map_or(0, |log| log.len());
        let mut arguments = vec![
            "--no-defaults".to_owned(),
            format!("--datadir={home}/data"),
            format!("--socket={home}/socket"),
            format!("--pid-file={home}/data/server.pid"),
            // A server that starts removes all temporary tables that it finds, its neighbours' too.
            format!("--tmpdir={home}/tmp"),
            format!("--port={}", self.port()),
        ];
        arguments.extend(SETTINGS.iter().map(|&setting| setting.to_owned()));
        arguments.extend(self.arguments.iter().cloned());
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let running = Supervisor::start(&self.home.path, self.account, &program(), &words);
        let said = || {
            let bytes = fs::read(&log).unwrap_or_default();
            let new = bytes.get(usize::try_from(seen).unwrap_or(0)..);
            String::from_utf8_lossy(new.unwrap_or_default()).into_owned()
        };
        let mut ready = false;
        process::wait_until(START_PATIENCE, || {
            ready = said().contains("ready for connections");
            ready || !running.is_running()
        });
        if ready {
            return Ok(running);
        }
        running.end("KILL", Files::Keep);
        Err(format!("MariaDB did not start; its log:\n{}", said()))
    }

    fn supervised(&self) -> MutexGuard<'_, Option<Supervisor>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match self.supervised().take() {
            // An orderly end takes a second and keeps nothing that anybody wants.
            Some(running) => running.end("KILL", Files::Remove),
            None => {
                let _ = fs::remove_dir_all(&self.home.path);
            }
        }
    }
}

/// Runs SQL on whatever listens on a loopback port, through the `mariadb` program, which shares no
/// code with what is tested. It stops at the first error, which is returned as it wrote it.
pub fn sql_as(port: u16, login: &Login, database: &str, sql: &str) -> Result<String, String> {
    let mut client = Command::new("mariadb")
        .args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1"])
        .args(["--batch", "--skip-column-names", "--unbuffered"])
        .arg("--default-character-set=utf8mb4")
        .arg(format!("--port={port}"))
        .arg(format!("--user={}", login.name))
        .args((!database.is_empty()).then(|| format!("--database={database}")))
        .env("MYSQL_PWD", &login.password)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("cannot run mariadb ({error}); `cargo xtask install` installs it")
        });
    let mut stdin = client.stdin.take().expect("standard input is piped");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = stdin.write_all(sql.as_bytes());
        });
        client.wait_with_output().expect("mariadb is our child")
    });
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end_matches('\n')
            .to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// An initialised data directory. Making one takes half a second or more, copying it a few
/// hundredths; it appears under its final name by one rename, with everything in it.
struct Template {
    data: PathBuf,
    password: String,
}

impl Template {
    fn prepare(area: &Area, account: Account) -> Self {
        let metadata = fs::metadata(program()).expect("the server was just found");
        let mut hasher = DefaultHasher::new();
        (RECIPE, SETTINGS, metadata.len(), metadata.mtime()).hash(&mut hasher);
        let key = format!("mariadb-{:016x}", hasher.finish());
        let directory = area.templates().join(&key);
        if !directory.exists() {
            let lock = open_lock(&area.templates().join(format!("{key}.lock")));
            lock.lock().expect("cannot lock the template");
            if !directory.exists() {
                Self::make(&directory, account);
            }
        }
        let password = fs::read_to_string(directory.join("password"))
            .expect("a template always has its password");
        Self {
            data: directory.join("data"),
            password,
        }
    }

    fn make(directory: &Path, account: Account) {
        let partial = directory.with_extension("partial");
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir(&partial).expect("cannot make the template's directory");
        account.own(&partial);
        let password = random_hex();
        let own = |name: &str, text: &str| {
            let path = partial.join(name);
            write_private(&path, text, account);
            path
        };
        own("password", &password);
        // Grant tables are written directly: while the directory is initialised there are no rights.
        let accounts = own(
            "accounts.sql",
            &format!(
                "DELETE FROM mysql.global_priv WHERE User IN ('{SUPERUSER}', '');\n\
                 INSERT INTO mysql.global_priv (Host, User, Priv) VALUES ('%', '{SUPERUSER}', \
                 CONCAT('{{\"access\":18446744073709551615,\"plugin\":\"mysql_native_password\",\
                 \"authentication_string\":\"', PASSWORD('{password}'), '\"}}'));\n"
            ),
        );
        let output = account
            .command(&find("mariadb-install-db"))
            .env("LC_ALL", "C.UTF-8")
            .args(["--no-defaults", "--auth-root-authentication-method=normal"])
            .args(["--skip-test-db", "--skip-name-resolve"])
            .arg("--innodb-log-file-size=8M")
            .arg(format!("--extra-file={}", accounts.display()))
            .arg(format!("--datadir={}", partial.join("data").display()))
            .output()
            .expect("cannot run mariadb-install-db");
        assert!(
            output.status.success(),
            "mariadb-install-db failed:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        fs::rename(&partial, directory).expect("cannot name the template");
    }
}

/// Puts a certificate where the server finds it, and returns the settings that say so.
fn show(home: &Path, account: Account, certificate: &Certificate) -> Vec<String> {
    let (chain, key) = (home.join("server.crt"), home.join("server.key"));
    write_private(&chain, &certificate.chain_pem, account);
    write_private(&key, &certificate.key_pem, account);
    vec![
        format!("--ssl-cert={}", chain.display()),
        format!("--ssl-key={}", key.display()),
    ]
}

fn write_private(path: &Path, text: &str, account: Account) {
    fs::write(path, text)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("the file is ours");
    account.own(path);
}

fn copy(from: &Path, to: &Path) {
    let output = Command::new("cp")
        .args(["-a", "--sparse=always"])
        .arg(from)
        .arg(to)
        .output()
        .expect("cannot run cp");
    assert!(
        output.status.success(),
        "cannot copy {}: {}",
        from.display(),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn program() -> PathBuf {
    find("mariadbd")
}

fn find(program: &str) -> PathBuf {
    ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.exists())
        .unwrap_or_else(|| {
            panic!(
                "{program} is not installed; \
                 `cargo xtask test` (or `cargo xtask install`) installs it"
            )
        })
}

fn random_hex() -> String {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .expect("the operating system always supplies random bytes");
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes any text");
        text
    })
}
