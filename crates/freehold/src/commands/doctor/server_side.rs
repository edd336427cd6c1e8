//! On the server's own machine: its directory, its key, its disk, its programs.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::finding::Finding;
use crate::{
    settings::{ServerOverrides, ServerSettings, Settings, StoreChoice},
    units,
};

pub(super) fn look(settings: &Settings, findings: &mut Vec<Finding>) {
    let server = match ServerSettings::resolve(settings, ServerOverrides::default()) {
        Ok(server) => server,
        Err(failure) => {
            return findings
                .push(Finding::bad("server section", failure.message).repair(failure.hint));
        }
    };
    findings.push(data_dir(&server.data_dir));
    if server.data_dir.exists() {
        findings.extend(space(&server));
        findings.extend(key(&server));
    }
    findings.push(postgres(settings));
    findings.push(psql(settings));
}

fn data_dir(path: &Path) -> Finding {
    const CHECK: &str = "data directory";
    let shown = path.display();
    let Ok(metadata) = fs::metadata(path) else {
        return Finding::good(
            CHECK,
            format!("{shown} is not there yet; `freehold serve` makes it"),
        );
    };
    if !metadata.is_dir() {
        return Finding::bad(CHECK, format!("{shown} is no directory"))
            .fix("Remove it, or choose another with --data-dir or `server.data_dir`.");
    }
    // Asking the system, because permissions are not all there is: read-only mounts, other owners.
    if let Err(error) = tempfile::tempfile_in(path) {
        return Finding::bad(CHECK, format!("{shown} cannot be written: {error}")).fix(
            "Make it writable for the server's user, or choose another with `server.data_dir`.",
        );
    }
    if metadata.mode() & 0o066 != 0 {
        return Finding::doubtful(CHECK, format!("{shown} can be listed by other users"))
            .fix(format!("`chmod go-rw {shown}`"));
    }
    Finding::good(CHECK, shown.to_string())
}

fn space(server: &ServerSettings) -> Option<Finding> {
    const CHECK: &str = "disk";
    let place = match &server.store {
        StoreChoice::Sqlite(path) => path.parent().unwrap_or(&server.data_dir),
        StoreChoice::Postgres { .. } => &server.data_dir,
    };
    let found = rustix::fs::statvfs(place).ok()?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let message = format!("{} free in {}", units::bytes(free), place.display());
    Some(match free {
        0..=104_857_600 => Finding::bad(CHECK, message)
            .fix("The store cannot grow: free some space, or move `server.data_dir`."),
        104_857_601..=1_073_741_824 => {
            Finding::doubtful(CHECK, message).fix("Free some space soon.")
        }
        _ => Finding::good(CHECK, message),
    })
}

fn key(server: &ServerSettings) -> Option<Finding> {
    const CHECK: &str = "key";
    let path = match server.key.as_deref() {
        None => server.data_dir.join("key"),
        Some(reference) => match reference.strip_prefix("file:") {
            Some(path) => PathBuf::from(path),
            // The server's environment and commands cannot be judged from here.
            None => return None,
        },
    };
    let shown = path.display();
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(_) if !store_exists(server) => {
            return Some(Finding::good(CHECK, "none yet; the first start makes it"));
        }
        Err(error) => {
            return Some(Finding::bad(CHECK, format!("{shown} cannot be read: {error}")).fix(
                "Without it no stored secret opens. Put the key back from where you keep it; do not let a new one be made.",
            ));
        }
    };
    if metadata.mode() & 0o077 != 0 {
        let bad = Finding::bad(CHECK, format!("{shown} can be read by other users"));
        return Some(bad.fix(format!("`chmod 600 {shown}`, and ask who has seen it")));
    }
    Some(Finding::good(
        CHECK,
        format!("{shown} is there and private"),
    ))
}

fn store_exists(server: &ServerSettings) -> bool {
    match &server.store {
        StoreChoice::Sqlite(path) => path.exists(),
        StoreChoice::Postgres { .. } => true,
    }
}

/// Where Debian keeps each major version's programs.
const DEBIAN_VERSIONS: &str = "/usr/lib/postgresql";

fn postgres(settings: &Settings) -> Finding {
    const CHECK: &str = "PostgreSQL programs";
    let mut found: Vec<PathBuf> = Vec::new();
    if let Ok(entries) = fs::read_dir(DEBIAN_VERSIONS) {
        let folders = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path().join("bin"));
        found.extend(folders.filter(|folder| folder.join("initdb").is_file()));
    }
    found.extend(in_path(settings, "initdb"));
    let shown: Vec<String> = found
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    match shown.len() {
        1.. => Finding::good(CHECK, shown.join(", ")),
        0 => Finding::doubtful(
            CHECK,
            "none: instances that are `local` cannot be made here",
        )
        .fix("`apt-get install postgresql`; `external` instances need nothing here."),
    }
}

fn psql(settings: &Settings) -> Finding {
    const CHECK: &str = "psql";
    match in_path(settings, "psql") {
        Some(folder) => Finding::good(CHECK, folder.display().to_string()),
        None => Finding::doubtful(CHECK, "not in PATH: `freehold connect` needs it")
            .fix("`apt-get install postgresql-client`"),
    }
}

fn in_path(settings: &Settings, program: &str) -> Option<PathBuf> {
    let path = settings.surroundings.get("PATH").unwrap_or_default();
    std::env::split_paths(path).find(|folder| folder.join(program).is_file())
}
