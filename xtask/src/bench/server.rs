//! The PostgreSQL server that is measured: the newest that Debian installed, as `initdb` makes it, on
//! a folder and a loopback port of its own.
//!
//! It is not a server of the tests: those do not flush to disk and may lie in memory, which would
//! measure something that nobody runs. Root starts it as `postgres`, because a server refuses to run
//! as root. It is stopped and its files are removed when it is dropped; when this program is killed
//! the kernel stops it, and only files are left in the temporary folder.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Result, command};

const DEBIAN: &str = "/usr/lib/postgresql";
/// As long as a busy machine may take to start or stop a server.
const PATIENCE: Duration = Duration::from_secs(60);
const TAIL: usize = 20;

pub(super) const HOST: &str = "127.0.0.1";
pub(super) const USER: &str = "postgres";
pub(super) const DATABASE: &str = "postgres";

#[derive(Debug)]
pub(super) struct Server {
    programs: PathBuf,
    version: String,
    password: String,
    port: u16,
    child: Child,
    /// Last, so that its files are removed after the server has ended.
    folder: tempfile::TempDir,
}

impl Server {
    /// Makes a server's files in a new folder below `parent`, starts it, and waits until it accepts
    /// connections.
    pub(super) fn start(parent: &Path) -> Result<Self> {
        let programs = programs(Path::new(DEBIAN))?;
        let version = command::capture(Command::new(programs.join("postgres")).arg("--version"))?
            .trim()
            .to_owned();
        // The server starts elsewhere, so the path must not be a relative one.
        let folder = parent
            .canonicalize()
            .and_then(|parent| {
                tempfile::Builder::new()
                    .prefix("freehold-bench-")
                    .tempdir_in(parent)
            })
            .map_err(|error| format!("cannot make a folder in {}: {error}", parent.display()))?;
        let runner = Runner::choose()?;
        let password = random_hex()?;
        let password_file = folder.path().join("password");
        fs::write(&password_file, &password)
            .and_then(|()| runner.own(&password_file))
            .and_then(|()| runner.own(folder.path()))
            .map_err(|error| format!("cannot prepare {}: {error}", folder.path().display()))?;
        let data = folder.path().join("data");
        command::capture(
            runner
                .command(&programs.join("initdb"))
                .args(["--auth=scram-sha-256", "--encoding=UTF8"])
                .args(["--locale=C.UTF-8", "--username", USER, "--pwfile"])
                .arg(&password_file)
                .arg("--pgdata")
                .arg(&data),
        )?;
        // Free now; in the moment until the server has it another program may take it, and then the
        // server says so and ends.
        let port = TcpListener::bind((HOST, 0))
            .and_then(|listener| listener.local_addr())
            .map_err(|error| format!("cannot find a free port: {error}"))?
            .port();
        let log = folder.path().join("log");
        let open = || File::options().create(true).append(true).open(&log);
        let (out, err) = open()
            .and_then(|out| Ok((out, open()?)))
            .map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        // A process group of its own: Ctrl-C is for the measurement, and we stop the server after it.
        let child = runner
            .command(&programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-h", HOST, "-k", ""])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|error| format!("cannot start the server: {error}"))?;
        let mut server = Self {
            programs,
            version,
            password,
            port,
            child,
            folder,
        };
        server.wait_until_ready(&data.join("postmaster.pid"))?;
        Ok(server)
    }

    /// The server writes its state into the eighth line of this file, where `pg_ctl` looks as well.
    fn wait_until_ready(&mut self, state: &Path) -> Result {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(state).unwrap_or_default();
            if text.lines().nth(7).map(str::trim) == Some("ready") {
                return Ok(());
            }
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > deadline {
                let what = ended.map_or_else(
                    || format!("does not accept connections after {} s", PATIENCE.as_secs()),
                    |status| format!("ended ({status}) instead of starting"),
                );
                return Err(format!(
                    "the server {what}; the end of its log:\n{}",
                    self.log_end()
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where its files lie, and where a measurement may make files of its own.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// What `postgres --version` says.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Our search path with the server's own programs first: the `psql` that Debian puts elsewhere is
    /// a script that looks for this one, and that takes time which is not `psql`'s.
    pub(super) fn search_path(&self) -> Result<OsString> {
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let folders =
            std::iter::once(self.programs.clone()).chain(std::env::split_paths(&inherited));
        std::env::join_paths(folders).map_err(|error| format!("cannot extend PATH: {error}"))
    }

    pub(super) fn log_end(&self) -> String {
        let log = fs::read(self.folder.path().join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

impl Drop for Server {
    /// The interrupt asks for what PostgreSQL calls a fast shutdown: sessions end, all is written.
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid
            && matches!(self.child.try_wait(), Ok(None))
        {
            let _ = kill_process(pid, Signal::INT);
            let deadline = Instant::now() + PATIENCE;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The account that the server runs under: ours, or `postgres` when we are root.
#[derive(Debug)]
struct Runner {
    postgres: Option<(u32, u32)>,
}

impl Runner {
    fn choose() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self { postgres: None });
        }
        // Debian's package makes the account together with this folder, its home.
        let home = fs::metadata("/var/lib/postgresql").map_err(|error| {
            format!("no account to run a server under: {error}; run `cargo xtask install`")
        })?;
        if home.uid() == 0 {
            return Err("a server does not run as root; run this as another user".to_owned());
        }
        Ok(Self {
            postgres: Some((home.uid(), home.gid())),
        })
    }

    fn own(&self, path: &Path) -> std::io::Result<()> {
        self.postgres
            .map_or(Ok(()), |(uid, gid)| chown(path, Some(uid), Some(gid)))
    }

    /// A program under the account, which the kernel interrupts when we die.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        if let Some((uid, gid)) = self.postgres {
            command
                .arg(format!("--reuid={uid}"))
                .arg(format!("--regid={gid}"))
                .arg("--clear-groups");
        }
        command
            .args(["--pdeathsig=INT", "--"])
            .arg(program)
            .current_dir("/");
        forget_settings(&mut command);
        command
    }
}

/// Keeps the reader's own settings for PostgreSQL (`PGHOST`, `PGOPTIONS`, ...) out of a command.
pub(super) fn forget_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
}

/// The programs of the newest installed major version.
fn programs(installed: &Path) -> Result<PathBuf> {
    let missing = || {
        format!(
            "no PostgreSQL server is installed under {}; run `cargo xtask install`",
            installed.display()
        )
    };
    fs::read_dir(installed)
        .map_err(|_| missing())?
        .flatten()
        .filter_map(|entry| {
            let major: u32 = entry.file_name().to_str()?.parse().ok()?;
            let programs = entry.path().join("bin");
            (programs.join("postgres").exists() && programs.join("initdb").exists())
                .then_some((major, programs))
        })
        .max()
        .map(|(_, programs)| programs)
        .ok_or_else(missing)
}

fn random_hex() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|error| format!("cannot make a password: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_with_a_server_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let error = programs(root.path()).unwrap_err();
        assert!(error.contains("cargo xtask install"), "{error}");
        for (folder, files) in [
            ("9/bin", &["postgres", "initdb"][..]),
            ("15/bin", &["postgres", "initdb"]),
            ("17/bin", &["psql"]),
            ("common/bin", &["postgres", "initdb"]),
        ] {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            for file in files {
                fs::write(folder.join(file), "").unwrap();
            }
        }
        assert_eq!(programs(root.path()).unwrap(), root.path().join("15/bin"));
    }
}
