//! A private PostgreSQL server on this machine, made and run from installed programs.
//!
//! For a laptop, a CI job, the demo. It listens on loopback alone, asks everybody for a password
//! (SCRAM), has data checksums, and keeps its port once it has one. Its directory holds
//!
//! * `data/`: the server's files, complete or absent: they are made beside and moved in,
//! * `superuser.password`: 64 random hexadecimal digits, readable by the server's account alone,
//! * `server.log`, and `lock`, which serialises processes that make or start the server.
//!
//! The server survives the process that started it; the next one adopts it. PostgreSQL refuses to
//! run as root, so root hands the directory to the account `postgres`.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File, OpenOptions, Permissions},
    io::Write as _,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use freehold_model::{Entropy, Secret};
use tokio::{process::Command, time::timeout};

use super::scram::hex;
use crate::{ConnectTarget, EngineError, Fault, Result, Tls};

/// Names folders with server programs beyond the usual places, separated as in `PATH`.
pub const BIN_DIRS_VARIABLE: &str = "FREEHOLD_PG_BIN_DIRS";

const SUPERUSER: &str = "postgres";
const ACCOUNT: &str = "postgres";
const DEBIAN: &str = "/usr/lib/postgresql";
const INITDB_TIMEOUT: Duration = Duration::from_secs(120);
const START_TIMEOUT: Duration = Duration::from_secs(75);
/// What answers within milliseconds, on a machine that is busy with something else.
const VERSION_TIMEOUT: Duration = Duration::from_secs(60);

/// The programs of one major version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    pub major: u32,
    pub bin_dir: PathBuf,
}

/// The installed versions, oldest first: Debian's, those on `PATH`, and those that
/// [`BIN_DIRS_VARIABLE`] names, which win.
pub async fn installed() -> Vec<Installation> {
    let mut folders: Vec<PathBuf> = Vec::new();
    if let Some(path) = std::env::var_os("PATH") {
        folders.extend(std::env::split_paths(&path));
    }
    if let Ok(entries) = fs::read_dir(DEBIAN) {
        folders.extend(entries.flatten().map(|entry| entry.path().join("bin")));
    }
    if let Some(more) = std::env::var_os(BIN_DIRS_VARIABLE) {
        folders.extend(std::env::split_paths(&more));
    }
    let mut found = BTreeMap::new();
    for bin_dir in folders {
        if let Some(major) = major_of(&bin_dir).await {
            found.insert(major, Installation { major, bin_dir });
        }
    }
    found.into_values().collect()
}

/// Asks the programs of a folder, when there are any.
async fn major_of(bin_dir: &Path) -> Option<u32> {
    // A folder on PATH may hold links to single programs; the server finds its files by its own.
    let postgres = fs::canonicalize(bin_dir.join("postgres")).ok()?;
    let initdb = fs::canonicalize(bin_dir.join("initdb")).ok()?;
    if postgres.parent() != initdb.parent() {
        return None;
    }
    let asking = Command::new(postgres).arg("--version").output();
    let answer = timeout(VERSION_TIMEOUT, asking).await.ok()?.ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    let version = text
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    version
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// A server in a directory of its own, running when this value was made.
#[derive(Debug)]
pub struct LocalServer {
    directory: PathBuf,
    installation: Installation,
    port: u16,
    password: Secret,
}

impl LocalServer {
    /// Makes the server when `directory` holds none, and starts it when it is not running.
    ///
    /// `major`: for a new server, the newest installed one when absent; an existing server keeps
    /// its version, and asking for another is an error. `port`: absent means a free one at first
    /// and the same from then on.
    pub async fn ensure(
        directory: &Path,
        major: Option<u32>,
        port: Option<u16>,
        entropy: &dyn Entropy,
    ) -> Result<Self> {
        let place = Place::prepare(directory)?;
        let _lock = place.lock().await?;
        let installation = place.installation(major).await?;
        let password = place.password(entropy)?;
        if !place.data().join("PG_VERSION").exists() {
            place.make(&installation).await?;
        }
        let port = place.run(&installation, port).await?;
        Ok(Self {
            directory: place.directory,
            installation,
            port,
            password,
        })
    }

    /// How to connect as the server's superuser.
    pub fn target(&self) -> ConnectTarget {
        ConnectTarget {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port: self.port,
            username: SUPERUSER.into(),
            password: Some(self.password.clone()),
            database: "postgres".into(),
            tls: Tls::Disable,
            application_name: "freehold/admin".into(),
            connect_timeout: Duration::from_secs(10),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn major(&self) -> u32 {
        self.installation.major
    }

    pub fn log_file(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    pub async fn is_running(&self) -> Result<bool> {
        let place = Place::prepare(&self.directory)?;
        place.is_running(&self.installation).await
    }

    /// Ends all sessions and stops the server. A server that does not run is stopped already.
    pub async fn stop(&self) -> Result<()> {
        Place::prepare(&self.directory)?.stop().await
    }

    /// Stops the server of a directory that nobody holds as a value any more. Its files stay. Cheap
    /// when there is none or it does not run.
    pub async fn stop_in(directory: &Path) -> Result<()> {
        if !directory.join("data/postmaster.pid").exists() {
            return Ok(());
        }
        Place::prepare(directory)?.stop().await
    }
}

/// The directory and the account that the server's programs run as.
struct Place {
    directory: PathBuf,
    /// User and group to become; absent when we are not root.
    account: Option<(u32, u32)>,
}

impl Place {
    fn prepare(directory: &Path) -> Result<Self> {
        let account = account()?;
        fs::create_dir_all(directory).map_err(|error| unusable(directory, &error))?;
        let directory = fs::canonicalize(directory).map_err(|error| unusable(directory, &error))?;
        if let Some((user, group)) = account {
            check_reachable(&directory, user)?;
            own(&directory, user, group)?;
        }
        fs::set_permissions(&directory, Permissions::from_mode(0o700))
            .map_err(|error| unusable(&directory, &error))?;
        Ok(Self { directory, account })
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Waits for other processes that make or start this server.
    async fn lock(&self) -> Result<File> {
        let path = self.directory.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| unusable(&path, &error))?;
        let locking = tokio::task::spawn_blocking(move || {
            rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).map(|()| file)
        });
        match timeout(INITDB_TIMEOUT, locking).await {
            Ok(Ok(Ok(file))) => Ok(file),
            Ok(Ok(Err(error))) => Err(unusable(&path, &error.into())),
            Ok(Err(_)) | Err(_) => Err(EngineError::new(
                Fault::Busy {
                    detail: format!("another process has held {} for long", path.display()),
                },
                "wait for the local server's lock",
            )),
        }
    }

    async fn stop(&self) -> Result<()> {
        let _lock = self.lock().await?;
        let installation = self.installation(None).await?;
        if !self.is_running(&installation).await? {
            return Ok(());
        }
        let data = self.data();
        let arguments = [
            OsStr::new("stop"),
            OsStr::new("-D"),
            data.as_os_str(),
            OsStr::new("-w"),
            OsStr::new("-m"),
            OsStr::new("fast"),
        ];
        self.must(&installation, "pg_ctl", &arguments, START_TIMEOUT)
            .await
    }

    async fn installation(&self, major: Option<u32>) -> Result<Installation> {
        let doing = "choose the local server's version";
        let made = fs::read_to_string(self.data().join("PG_VERSION"))
            .ok()
            .and_then(|text| text.trim().parse::<u32>().ok());
        if let (Some(made), Some(asked)) = (made, major)
            && made != asked
        {
            let detail = format!(
                "the server in {} is version {made}; it is not upgraded to {asked} by itself",
                self.directory.display()
            );
            return Err(EngineError::new(Fault::Invalid { detail }, doing));
        }
        let mut installed = installed().await;
        let majors: Vec<String> = installed.iter().map(|i| i.major.to_string()).collect();
        let chosen = match made.or(major) {
            Some(wanted) => installed.into_iter().find(|i| i.major == wanted),
            None => installed.pop(),
        };
        chosen.ok_or_else(|| {
            let wanted = made.or(major).map_or(String::new(), |major| format!(" {major}"));
            let detail = format!(
                "PostgreSQL{wanted} is not installed here (installed: {}); install the server's package, \
                 e.g. Debian's `postgresql`, or name its folder in {BIN_DIRS_VARIABLE}",
                if majors.is_empty() { "none".to_owned() } else { majors.join(", ") }
            );
            EngineError::new(Fault::Invalid { detail }, doing)
        })
    }

    /// The superuser's password; made once.
    fn password(&self, entropy: &dyn Entropy) -> Result<Secret> {
        let path = self.directory.join("superuser.password");
        if let Ok(text) = fs::read_to_string(&path) {
            return Ok(Secret::new(text.trim_end()));
        }
        let mut bytes = [0_u8; 32];
        entropy.fill(&mut bytes);
        let password = Secret::new(hex(&bytes));
        let beside = path.with_extension("new");
        let written = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&beside)
            .and_then(|mut file| {
                file.write_all(password.expose().as_bytes())?;
                file.sync_all()
            });
        written.map_err(|error| unusable(&beside, &error))?;
        if let Some((user, group)) = self.account {
            own(&beside, user, group)?;
        }
        fs::rename(&beside, &path).map_err(|error| unusable(&path, &error))?;
        Ok(password)
    }

    /// Makes the server's files beside and moves them in when they are complete.
    async fn make(&self, installation: &Installation) -> Result<()> {
        let beside = self.directory.join("data.new");
        if beside.exists() {
            fs::remove_dir_all(&beside).map_err(|error| unusable(&beside, &error))?;
        }
        let first = self.initdb(installation, &beside, "C.UTF-8").await;
        if first.is_err() {
            // Not every system has that locale; every one has this.
            let _ = fs::remove_dir_all(&beside);
            self.initdb(installation, &beside, "C").await?;
        }
        let settings = "\ninclude 'freehold.conf'\n";
        append(&beside.join("postgresql.conf"), settings)?;
        let written = fs::write(beside.join("freehold.conf"), conf(free_port()?));
        written.map_err(|error| unusable(&beside, &error))?;
        if let Some((user, group)) = self.account {
            own(&beside.join("freehold.conf"), user, group)?;
        }
        let data = self.data();
        fs::rename(&beside, &data).map_err(|error| unusable(&data, &error))
    }

    async fn initdb(&self, installation: &Installation, data: &Path, locale: &str) -> Result<()> {
        let password_file = self.directory.join("superuser.password");
        let arguments = [
            OsStr::new("-D"),
            data.as_os_str(),
            OsStr::new("-U"),
            OsStr::new(SUPERUSER),
            OsStr::new("--auth=scram-sha-256"),
            OsStr::new("--data-checksums"),
            OsStr::new("--encoding=UTF8"),
            OsStr::new("--locale"),
            OsStr::new(locale),
            OsStr::new("--pwfile"),
            password_file.as_os_str(),
        ];
        self.must(installation, "initdb", &arguments, INITDB_TIMEOUT)
            .await
    }

    /// Starts the server unless it runs, and returns its port.
    async fn run(&self, installation: &Installation, port: Option<u16>) -> Result<u16> {
        let conf_file = self.data().join("freehold.conf");
        let kept = fs::read_to_string(&conf_file).map_err(|error| unusable(&conf_file, &error))?;
        let kept = port_of(&kept);
        if self.is_running(installation).await? {
            return match (kept, port) {
                (Some(kept), Some(asked)) if kept != asked => Err(EngineError::new(
                    Fault::Invalid {
                        detail: format!(
                            "the server runs on port {kept}; stop it to move it to {asked}"
                        ),
                    },
                    "start the local server",
                )),
                (Some(kept), _) => Ok(kept),
                (None, _) => Err(unusable(
                    &conf_file,
                    &std::io::Error::other("it names no port"),
                )),
            };
        }
        let started_before = self.directory.join("started").exists();
        let mut chosen = match port.or(kept) {
            Some(port) => port,
            None => free_port()?,
        };
        for attempt in 1.. {
            fs::write(&conf_file, conf(chosen)).map_err(|error| unusable(&conf_file, &error))?;
            match self.start(installation).await {
                Ok(()) => break,
                // Somebody took the free port in between: as long as nobody knows it, take another.
                Err(_) if attempt < 4 && port.is_none() && !started_before => chosen = free_port()?,
                Err(error) => return Err(error),
            }
        }
        let mark = self.directory.join("started");
        fs::write(&mark, "").map_err(|error| unusable(&mark, &error))?;
        Ok(chosen)
    }

    async fn start(&self, installation: &Installation) -> Result<()> {
        let (data, log) = (self.data(), self.directory.join("server.log"));
        let arguments = [
            OsStr::new("start"),
            OsStr::new("-D"),
            data.as_os_str(),
            OsStr::new("-l"),
            log.as_os_str(),
            OsStr::new("-w"),
            OsStr::new("-t"),
            OsStr::new("60"),
        ];
        let started = self
            .must(installation, "pg_ctl", &arguments, START_TIMEOUT)
            .await;
        started.map_err(|mut error| {
            if let Fault::Unreachable { detail } = &mut error.fault {
                detail.push_str(&format!("; its log is {}", log.display()));
                detail.push_str(&last_lines(&log));
            }
            error
        })
    }

    async fn is_running(&self, installation: &Installation) -> Result<bool> {
        let data = self.data();
        let arguments = [OsStr::new("status"), OsStr::new("-D"), data.as_os_str()];
        let output = self
            .call(installation, "pg_ctl", &arguments, VERSION_TIMEOUT)
            .await?;
        Ok(output.status.success())
    }

    async fn must(
        &self,
        installation: &Installation,
        program: &str,
        arguments: &[&OsStr],
        limit: Duration,
    ) -> Result<()> {
        let output = self.call(installation, program, arguments, limit).await?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let detail = format!("{program} failed ({}): {}", output.status, said.trim());
        Err(EngineError::new(
            Fault::Unreachable { detail },
            format!("run {program} for the local server"),
        ))
    }

    async fn call(
        &self,
        installation: &Installation,
        program: &str,
        arguments: &[&OsStr],
        limit: Duration,
    ) -> Result<Output> {
        let path = installation.bin_dir.join(program);
        let doing = format!("run {}", path.display());
        let mut command = Command::new(&path);
        command
            .args(arguments)
            .current_dir(&self.directory)
            .env("LC_ALL", "C")
            .env_remove("PGDATA")
            .env_remove("PGPORT")
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        if let Some((user, group)) = self.account {
            command.uid(user).gid(group);
        }
        let failed =
            |detail: String| EngineError::new(Fault::Unreachable { detail }, doing.clone());
        match timeout(limit, command.output()).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(error)) => Err(failed(error.to_string()).because(error)),
            Err(_) => Err(failed(format!(
                "it did not end within {} s",
                limit.as_secs()
            ))),
        }
    }
}

/// Root's substitute.
fn account() -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let user = fields.nth(1)?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        (name == ACCOUNT).then_some((user, group))
    });
    match found {
        Some(account) => Ok(Some(account)),
        None => Err(EngineError::new(
            Fault::Invalid {
                detail: format!(
                    "PostgreSQL refuses to run as root and there is no account {ACCOUNT:?}; run as \
                     another user, or create it: useradd --system {ACCOUNT}"
                ),
            },
            "choose the account of the local server",
        )),
    }
}

/// The account must be able to walk to the directory, or every program fails with obscure words.
fn check_reachable(directory: &Path, user: u32) -> Result<()> {
    for above in directory.ancestors().skip(1) {
        let facts = fs::metadata(above).map_err(|error| unusable(above, &error))?;
        let open = facts.mode() & 0o001 != 0 || facts.uid() == user && facts.mode() & 0o100 != 0;
        if !open {
            return Err(EngineError::new(
                Fault::Invalid {
                    detail: format!(
                        "the account {ACCOUNT:?}, as which the server runs when Freehold runs as root, \
                         cannot pass {}; choose a data directory such as /var/lib/freehold",
                        above.display()
                    ),
                },
                "prepare the local server's directory",
            ));
        }
    }
    Ok(())
}

fn own(path: &Path, user: u32, group: u32) -> Result<()> {
    std::os::unix::fs::chown(path, Some(user), Some(group)).map_err(|error| unusable(path, &error))
}

fn append(path: &Path, text: &str) -> Result<()> {
    let written = OpenOptions::new()
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| unusable(path, &error))
}

fn conf(port: u16) -> String {
    format!(
        "# Written by Freehold; it keeps the port.\n\
         listen_addresses = '127.0.0.1'\n\
         port = {port}\n\
         unix_socket_directories = ''\n\
         password_encryption = 'scram-sha-256'\n"
    )
}

fn port_of(conf: &str) -> Option<u16> {
    conf.lines()
        .find_map(|line| line.strip_prefix("port = ")?.trim().parse().ok())
}

fn free_port() -> Result<u16> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
    match bound {
        Ok(address) => Ok(address.port()),
        Err(error) => Err(EngineError::new(
            Fault::Exhausted {
                detail: error.to_string(),
            },
            "find a free port on loopback",
        )
        .because(error)),
    }
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(5);
    lines[from..].iter().fold(String::new(), |mut all, line| {
        all.push_str("\n  ");
        all.push_str(line);
        all
    })
}

fn unusable(path: &Path, error: &std::io::Error) -> EngineError {
    EngineError::new(
        Fault::Invalid {
            detail: format!("{}: {error}", path.display()),
        },
        "prepare the local server's directory",
    )
}
