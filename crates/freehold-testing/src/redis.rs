//! Throwaway Redis servers: each with a folder, a loopback port and a supervisor of its own, started in
//! some hundredths of a second.
//!
//! As with PostgreSQL's, a [`Server`] is gone, files and all, when it is dropped, when the test
//! panics, and when the test process is killed. Data is kept in an append-only file, so that a server
//! that is killed has it again when it is restarted.
//!
//! Everything here blocks and panics: it is for tests.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::certificates::Certificate;
use crate::process;
use crate::throwaway::{Account, Area, Files, Home, Port, Supervisor};

const START_PATIENCE: Duration = Duration::from_secs(60);

/// The name of the account with all rights.
const ADMIN: &str = "admin";

/// How a server keeps its accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Accounts {
    /// In a file of their own, written by `ACL SAVE`.
    #[default]
    InAclFile,
    /// In the configuration file, written by `CONFIG REWRITE`.
    InConfiguration,
    /// It was started with neither. The admin is then the account `default`.
    Nowhere,
}

/// A login of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub name: String,
    pub password: String,
}

/// A running Redis server that belongs to this test alone.
#[derive(Debug)]
pub struct Server {
    account: Account,
    password: String,
    builder: Builder,
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
    accounts: Accounts,
}

impl Builder {
    /// A setting, as in the configuration file: `("maxmemory", "4mb")`.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn accounts(mut self, accounts: Accounts) -> Self {
        self.accounts = accounts;
        self
    }

    /// Speaks TLS with this certificate on its port, and nothing else.
    pub fn tls(mut self, certificate: &Certificate) -> Self {
        self.tls = Some(certificate.clone());
        self
    }

    /// Starts the server and waits until it accepts connections.
    pub fn start(self) -> Server {
        let account = Account::choose();
        let area = Area::open();
        let home = area.home("redis", account);
        let data = home.path.join("data");
        fs::create_dir(&data).expect("the directory is ours");
        account.own(&data);
        Server::launch(account, &area, home, random_hex(), self)
    }
}

impl Server {
    /// A server with an ACL file and default settings.
    pub fn start() -> Self {
        Builder::default().start()
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

    pub fn admin_login(&self) -> Login {
        let name = match self.builder.accounts {
            Accounts::InAclFile | Accounts::InConfiguration => ADMIN,
            Accounts::Nowhere => "default",
        };
        Login {
            name: name.to_owned(),
            password: self.password.clone(),
        }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.home.path.join("data")
    }

    /// Everything that the server has written to its log so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.home.path.join("log")).expect("a server always has a log");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What the server has kept of its accounts, in its own words.
    pub fn kept_accounts(&self) -> String {
        let file = match self.builder.accounts {
            Accounts::InAclFile => "users.acl",
            Accounts::InConfiguration | Accounts::Nowhere => "redis.conf",
        };
        fs::read_to_string(self.data_dir().join(file)).unwrap_or_default()
    }

    pub fn pid(&self) -> Option<u32> {
        self.supervised()
            .as_ref()
            .filter(|running| running.is_running())
            .map(|running| running.server)
    }

    /// Runs one command as the admin and returns what `redis-cli` prints.
    ///
    /// # Panics
    /// When the server refuses it, with its message.
    pub fn run<W: AsRef<OsStr>>(&self, words: &[W]) -> String {
        self.run_as(&self.admin_login(), words)
            .unwrap_or_else(|error| panic!("redis-cli failed: {error}"))
    }

    /// Runs one command as any login. The error is what `redis-cli` wrote.
    pub fn run_as<W: AsRef<OsStr>>(&self, login: &Login, words: &[W]) -> Result<String, String> {
        run_as(self.port(), login, words)
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
        *self.supervised() = Some(self.attempt().unwrap_or_else(|error| panic!("{error}")));
    }

    /// Restarts the server with the accounts that it began with: all others are forgotten.
    pub fn restart_without_accounts(&self) {
        self.stop();
        self.write_configuration();
        self.restart();
    }

    /// Restarts the server without any of its keys; accounts stay.
    pub fn restart_without_data(&self) {
        self.stop();
        let _ = fs::remove_dir_all(self.data_dir().join("appendonlydir"));
        let _ = fs::remove_file(self.data_dir().join("dump.rdb"));
        self.restart();
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
        let home = area.home("redis", self.account);
        let running = self.pid().is_some();
        if running {
            self.pause();
        }
        let output = Command::new("cp")
            .arg("-a")
            .arg(self.data_dir())
            .arg(home.path.join("data"))
            .output()
            .expect("cannot run cp");
        if running {
            self.resume();
        }
        assert!(output.status.success(), "cannot copy: {output:?}");
        let (password, builder) = (self.password.clone(), self.builder.clone());
        let accounts = home.path.join("data/users.acl");
        let kept = fs::read(&accounts).ok();
        let clone = Self::launch(self.account, &area, home, password, builder);
        if let Some(kept) = kept {
            clone.stop();
            fs::write(&accounts, kept).expect("the file is ours");
            clone.restart();
        }
        clone
    }

    fn launch(
        account: Account,
        area: &Area,
        home: Home,
        password: String,
        builder: Builder,
    ) -> Self {
        let mut server = Self {
            account,
            password,
            builder,
            running: Mutex::new(None),
            home,
            port: area.port(),
        };
        for _ in 0..20 {
            server.write_configuration();
            match server.attempt() {
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

    /// The settings in their order; the last of a name counts.
    fn settings(&self) -> Vec<(String, String)> {
        let data = self.data_dir();
        let port = self.port().to_string();
        let (plain, secured) = match &self.builder.tls {
            Some(_) => ("0", port.as_str()),
            None => (port.as_str(), "0"),
        };
        let mut settings: Vec<(String, String)> = [
            ("bind", "127.0.0.1"),
            ("port", plain),
            ("tls-port", secured),
            ("dir", data.to_str().expect("the path is ours and plain")),
            ("appendonly", "yes"),
            ("appendfsync", "everysec"),
            ("databases", "4"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        settings.push(("save".to_owned(), String::new()));
        if let Some(certificate) = &self.builder.tls {
            let (chain, key) = (data.join("server.crt"), data.join("server.key"));
            self.write(&chain, &certificate.chain_pem);
            self.write(&key, &certificate.key_pem);
            for (name, path) in [("tls-cert-file", &chain), ("tls-key-file", &key)] {
                settings.push((name.to_owned(), path.display().to_string()));
            }
            settings.push(("tls-auth-clients".to_owned(), "no".to_owned()));
        }
        settings.extend(self.builder.settings.iter().cloned());
        settings
    }

    /// Configuration and accounts as at the beginning. The account `default` is off and has all rights:
    /// the server runs its append-only file as that account.
    fn write_configuration(&self) {
        let data = self.data_dir();
        let mut text = String::new();
        for (name, value) in self.settings() {
            let value = if value.is_empty() { "\"\"" } else { &value };
            writeln!(text, "{name} {value}").expect("a string takes any text");
        }
        let accounts = format!(
            "user default off ~* &* +@all\nuser {ADMIN} on >{} ~* &* +@all\n",
            self.password
        );
        match self.builder.accounts {
            Accounts::InAclFile => {
                let file = data.join("users.acl");
                self.write(&file, &accounts);
                writeln!(text, "aclfile {}", file.display()).expect("a string takes any text");
            }
            Accounts::InConfiguration => text.push_str(&accounts),
            Accounts::Nowhere => return,
        }
        self.write(&data.join("redis.conf"), &text);
    }

    fn write(&self, path: &Path, text: &str) {
        fs::write(path, text)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        fs::set_permissions(path, Permissions::from_mode(0o600)).expect("the file is ours");
        self.account.own(path);
    }

    fn attempt(&self) -> Result<Supervisor, String> {
        let log = self.home.path.join("log");
        let seen = fs::metadata(&log).map_or(0, |log| log.len());
        let mut words = Vec::new();
        if self.builder.accounts == Accounts::Nowhere {
            for (name, value) in self.settings() {
                words.extend([format!("--{name}"), value]);
            }
            words.extend(["--requirepass".to_owned(), self.password.clone()]);
        } else {
            words.push(self.data_dir().join("redis.conf").display().to_string());
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let running = Supervisor::start(&self.home.path, self.account, &program(), &words);
        let said = || {
            let bytes = fs::read(&log).unwrap_or_default();
            let new = bytes.get(usize::try_from(seen).unwrap_or(0)..);
            String::from_utf8_lossy(new.unwrap_or_default()).into_owned()
        };
        let mut ready = false;
        process::wait_until(START_PATIENCE, || {
            ready = said().contains("Ready to accept connections");
            ready || !running.is_running()
        });
        if ready {
            return Ok(running);
        }
        running.end("KILL", Files::Keep);
        Err(format!("Redis did not start; its log:\n{}", said()))
    }

    fn supervised(&self) -> MutexGuard<'_, Option<Supervisor>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match self.supervised().take() {
            Some(running) => running.end("KILL", Files::Remove),
            None => {
                let _ = fs::remove_dir_all(&self.home.path);
            }
        }
    }
}

/// Runs one command on whatever listens on a loopback port, through the `redis-cli` program, which
/// shares no code with what is tested. The error is what it wrote.
pub fn run_as<W: AsRef<OsStr>>(port: u16, login: &Login, words: &[W]) -> Result<String, String> {
    let output = Command::new("redis-cli")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-e", "--raw"])
        .args(["--user", &login.name, "--no-auth-warning"])
        .args(words)
        .env("REDISCLI_AUTH", &login.password)
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!("cannot run redis-cli ({error}); `cargo xtask install` installs it")
        });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    // A password that is refused is a warning to it, and it goes on as nobody.
    if output.status.success() && !complained.contains("AUTH failed") {
        Ok(said)
    } else {
        Err(format!("{complained}{said}"))
    }
}

fn program() -> PathBuf {
    ["/usr/bin", "/usr/sbin", "/usr/local/bin"]
        .iter()
        .map(|folder| Path::new(folder).join("redis-server"))
        .find(|path| path.exists())
        .expect(
            "redis-server is not installed; `cargo xtask test` (or `cargo xtask install`) installs it",
        )
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
