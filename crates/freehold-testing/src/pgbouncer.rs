//! A PgBouncer before a throwaway server, in transaction mode, as most fleets run it: workloads get
//! its address while Freehold administers the server behind it.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::postgres::Server;
use crate::process;
use crate::throwaway::{Account, Area, Files, Home, Port, Supervisor};

/// A running pooler. It lets in every login of its server, with the same password.
#[derive(Debug)]
pub struct Bouncer {
    supervisor: Option<Supervisor>,
    home: Home,
    port: Port,
}

impl Bouncer {
    /// Starts a pooler for all databases of `server` and waits until it accepts connections.
    pub fn start(server: &Server) -> Self {
        let program = program();
        let account = Account::choose();
        let area = Area::open();
        let home = area.home("pgbouncer", account);
        let port = area.port();
        let users = home.path.join("users");
        write(
            account,
            &users,
            &format!(
                "\"{}\" \"{}\"\n",
                server.superuser(),
                server.superuser_password()
            ),
        );
        let configuration = home.path.join("pgbouncer.ini");
        write(account, &configuration, &ini(server, port.number, &users));
        let path = configuration.to_str().expect("the path is ours and plain");
        let supervisor = Supervisor::start(&home.path, account, &program, &[path]);
        let mut up = false;
        process::wait_until(Duration::from_secs(60), || {
            up = TcpStream::connect(("127.0.0.1", port.number)).is_ok();
            up || !supervisor.is_running()
        });
        let bouncer = Self {
            supervisor: Some(supervisor),
            home,
            port,
        };
        assert!(up, "PgBouncer did not start; its log:\n{}", bouncer.log());
        bouncer
    }

    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    pub fn port(&self) -> u16 {
        self.port.number
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path.join("log")).expect("a pooler always has a log")
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            // SIGQUIT and SIGTERM differ between versions; SIGKILL does not, and it keeps nothing.
            supervisor.end("KILL", Files::Remove);
        }
    }
}

fn program() -> PathBuf {
    [
        "/usr/sbin/pgbouncer",
        "/usr/bin/pgbouncer",
        "/usr/local/bin/pgbouncer",
    ]
    .iter()
    .map(PathBuf::from)
    .find(|path| path.exists())
    .expect("PgBouncer is not installed; `cargo xtask test` (or `cargo xtask install`) installs it")
}

/// Logins are looked up in the server itself, so that one made later can connect as well.
fn ini(server: &Server, port: u16, users: &Path) -> String {
    format!(
        "[databases]
* = host={} port={}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = transaction
auth_type = scram-sha-256
auth_file = {}
auth_user = {}
admin_users = {}
auth_query = SELECT usename, passwd FROM pg_shadow WHERE usename = $1
max_client_conn = 200
default_pool_size = 10
ignore_startup_parameters = extra_float_digits
",
        server.host(),
        server.port(),
        users.display(),
        server.superuser(),
        server.superuser()
    )
}

fn write(account: Account, path: &Path, text: &str) {
    fs::write(path, text)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
    account.own(path);
}
