//! What has to be installed for the demo, and what to say when it is not.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use crate::failure::{Exit, Failure, Outcome};

/// A program or a set of programs, and the Debian package that brings it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    pub name: &'static str,
    pub package: &'static str,
    place: Place,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    SearchPath,
    /// Debian puts servers where not everybody's search path leads.
    SystemPath,
    PostgresServer,
}

impl Program {
    const fn on_search_path(name: &'static str, package: &'static str) -> Self {
        Self {
            name,
            package,
            place: Place::SearchPath,
        }
    }
}

/// Ends what the demo started, also when the demo is killed.
pub(crate) const SETPRIV: Program = Program::on_search_path("setpriv", "util-linux");
pub(crate) const GZIP: Program = Program::on_search_path("gzip", "gzip");
pub(crate) const PSQL: Program = Program::on_search_path("psql", "postgresql-client");
pub(crate) const SQLITE: Program = Program::on_search_path("sqlite3", "sqlite3");
pub(crate) const MARIADB: Program = Program::on_search_path("mariadb", "mariadb-client");
pub(crate) const MARIADB_INSTALLER: Program =
    Program::on_search_path("mariadb-install-db", "mariadb-server");
pub(crate) const MARIADB_SERVER: Program = Program {
    name: "mariadbd",
    package: "mariadb-server",
    place: Place::SystemPath,
};
pub(crate) const POSTGRES: Program = Program {
    name: "PostgreSQL's server programs (initdb, postgres)",
    package: "postgresql",
    place: Place::PostgresServer,
};

/// Where Debian keeps each major version's programs.
const DEBIAN_VERSIONS: &str = "/usr/lib/postgresql";
/// Where servers lie besides the search path.
const SYSTEM: &[&str] = &["/usr/sbin", "/usr/local/sbin"];
/// Where the user says that there are more.
const MORE_VERSIONS: &str = "FREEHOLD_PG_BIN_DIRS";

/// Refuses to begin a story that could not be told to its end.
pub(crate) fn require(needed: &[Program]) -> Outcome {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let servers = server_folders(&folders, std::env::var_os(MORE_VERSIONS).as_deref());
    let is_there = |program: &Program| match program.place {
        Place::SearchPath => folders.iter().any(|dir| dir.join(program.name).is_file()),
        Place::SystemPath => {
            let system = SYSTEM.iter().map(|dir| Path::new(dir).join(program.name));
            let known = folders.iter().map(|dir| dir.join(program.name));
            known.chain(system).any(|file| file.is_file())
        }
        Place::PostgresServer => servers.iter().any(|dir| has_server(dir)),
    };
    let missing: Vec<Program> = needed
        .iter()
        .copied()
        .filter(|one| !is_there(one))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(absence(&missing))
    }
}

/// The folders in which Freehold looks for a server when it makes an instance.
fn server_folders(search_path: &[PathBuf], more: Option<&OsStr>) -> Vec<PathBuf> {
    let mut folders = search_path.to_vec();
    if let Ok(entries) = std::fs::read_dir(DEBIAN_VERSIONS) {
        folders.extend(entries.flatten().map(|entry| entry.path().join("bin")));
    }
    folders.extend(more.into_iter().flat_map(std::env::split_paths));
    folders
}

fn has_server(folder: &Path) -> bool {
    ["postgres", "initdb"]
        .iter()
        .all(|program| folder.join(program).is_file())
}

fn absence(missing: &[Program]) -> Failure {
    let mut names: Vec<&str> = Vec::new();
    let mut packages: Vec<&str> = Vec::new();
    for program in missing {
        if !names.contains(&program.name) {
            names.push(program.name);
        }
        if !packages.contains(&program.package) {
            packages.push(program.package);
        }
    }
    let message = format!("the demo needs what is not installed: {}", names.join(", "));
    Failure::new(Exit::Unavailable, message).hint(format!(
        "On Debian, as root: `apt-get install {}`; elsewhere, the packages that hold the same. \
         In a checkout of Freehold, `cargo xtask demo` installs what is missing.",
        packages.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_said_at_once_and_once() {
        let failure = absence(&[PSQL, POSTGRES, PSQL]);
        insta::assert_snapshot!(crate::output::render(&failure, false), @r"
        error: the demo needs what is not installed: psql, PostgreSQL's server programs (initdb, postgres)
        hint: On Debian, as root: `apt-get install postgresql-client postgresql`; elsewhere, the packages that hold the same. In a checkout of Freehold, `cargo xtask demo` installs what is missing.
        ");
        assert_eq!(failure.exit, Exit::Unavailable);
    }

    #[test]
    fn client_programs_alone_are_no_server() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("psql"), "").unwrap();
        assert!(!has_server(folder.path()));
        for program in ["initdb", "postgres"] {
            std::fs::write(folder.path().join(program), "").unwrap();
        }
        assert!(has_server(folder.path()));
    }

    #[test]
    fn the_folders_that_the_user_names_count() {
        let named = std::env::join_paths(["/opt/pg/bin", "/srv/pg/bin"]).unwrap();
        let folders = server_folders(&["/usr/bin".into()], Some(&named));
        for folder in ["/usr/bin", "/opt/pg/bin", "/srv/pg/bin"] {
            assert!(folders.contains(&PathBuf::from(folder)), "{folder}");
        }
    }

    #[test]
    fn what_is_there_is_not_missed() {
        let shell = Program::on_search_path("sh", "dash");
        assert_eq!(require(&[shell]), Ok(()));
        let nothing = Program::on_search_path("no-such-program", "no-such-package");
        assert!(require(&[shell, nothing]).is_err());
    }
}
