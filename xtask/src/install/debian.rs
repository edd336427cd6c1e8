//! Debian packages: the servers as an organisation runs them.

use std::path::Path;
use std::process::Command;

use crate::{Result, command};

/// A program that shows that a package is installed, and the package.
const PROGRAMS: &[(&str, &str)] = &[
    ("psql", "postgresql-client"),
    ("mariadb", "mariadb-client"),
    ("sqlite3", "sqlite3"),
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("pgbouncer", "pgbouncer"),
    ("setpriv", "util-linux"),
    ("npm", "npm"),
    ("tar", "tar"),
    ("git", "git"),
];

const SERVERS: &str = "/usr/lib/postgresql";

/// Where Debian puts the server. It is not on everybody's `PATH`.
const MARIADB: &str = "/usr/sbin/mariadbd";

pub(super) fn install() -> Result {
    let missing = missing();
    if missing.is_empty() {
        println!("Debian packages: all there");
        return Ok(());
    }
    println!("Debian packages missing: {}", missing.join(" "));
    let by_hand = format!(
        "apt-get update && apt-get install --yes {}",
        missing.join(" ")
    );
    if command::find("apt-get").is_none() {
        return Err(format!(
            "this is no Debian; install by the means of your system what these packages hold: {}",
            missing.join(" ")
        ));
    }
    let prefix = privileges().ok_or_else(|| {
        format!("installing packages needs root; run this as root, then try again:\n  {by_hand}")
    })?;
    apt(&prefix, &["update", "--quiet"])
        .and_then(|()| {
            let mut words = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
            words.extend(&missing);
            apt(&prefix, &words)
        })
        .map_err(|error| format!("{error}\nby hand, as root:\n  {by_hand}"))?;
    let still = self::missing();
    if still.is_empty() {
        Ok(())
    } else {
        Err(format!("installed, and yet not found: {}", still.join(" ")))
    }
}

fn missing() -> Vec<&'static str> {
    let mut missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| command::find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !has_server(Path::new(SERVERS)) {
        missing.extend(["postgresql", "postgresql-contrib"]);
    }
    if !Path::new(MARIADB).exists() {
        missing.push("mariadb-server");
    }
    missing
}

fn has_server(servers: &Path) -> bool {
    std::fs::read_dir(servers).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let bin = entry.path().join("bin");
            bin.join("postgres").exists() && bin.join("initdb").exists()
        })
    })
}

/// The words that make a command run as root: none for root, `sudo` when it asks nothing.
fn privileges() -> Option<Vec<&'static str>> {
    if rustix::process::geteuid().is_root() {
        return Some(Vec::new());
    }
    command::succeeds(Command::new("sudo").args(["-n", "true"])).then(|| vec!["sudo", "-n"])
}

fn apt(prefix: &[&str], arguments: &[&str]) -> Result {
    let mut words = prefix.to_vec();
    words.extend(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    words.extend(arguments);
    command::run(Command::new(words[0]).args(&words[1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_programs_is_no_server() {
        let temp = tempfile::tempdir().unwrap();
        assert!(!has_server(temp.path()));
        let bin = temp.path().join("15/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join("psql"), "").unwrap();
        assert!(
            !has_server(temp.path()),
            "client programs alone are no server"
        );
        std::fs::write(bin.join("postgres"), "").unwrap();
        std::fs::write(bin.join("initdb"), "").unwrap();
        assert!(has_server(temp.path()));
    }
}
