//! SQL through the `psql` program, which every PostgreSQL user knows and which shares no code with
//! what is tested.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::Login;

/// Runs SQL on whatever listens on a loopback port (a server, a pooler, a proxy) and returns what
/// `psql` prints: rows alone, columns apart by `|`. It stops at the first error, which is returned as
/// `psql` wrote it.
pub fn psql(port: u16, login: &Login, database: &str, sql: &str) -> Result<String, String> {
    let mut psql = Command::new("psql")
        .args(["-X", "-q", "-A", "-t", "-f", "-"])
        .args(["-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose"])
        .envs([
            ("PGHOST", "127.0.0.1"),
            ("PGPORT", &port.to_string()),
            ("PGUSER", &login.name),
            ("PGPASSWORD", &login.password),
            ("PGDATABASE", database),
            ("PGCONNECT_TIMEOUT", "30"),
            ("PGAPPNAME", "freehold-testing"),
            ("PGCLIENTENCODING", "UTF8"),
        ])
        .env_remove("PGSERVICE")
        .env_remove("PGOPTIONS")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "cannot run psql ({error}); \
                 `cargo xtask test` (or `cargo xtask install`) installs it"
            )
        });
    let mut stdin = psql.stdin.take().expect("standard input is piped");
    let output = std::thread::scope(|scope| {
        // A thread of its own, because psql may print more than a pipe holds before it has read
        // everything. It stops reading after an error, which is no error of ours.
        scope.spawn(move || {
            let _ = stdin.write_all(sql.as_bytes());
        });
        psql.wait_with_output().expect("psql is our child")
    });
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end_matches('\n')
            .to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
