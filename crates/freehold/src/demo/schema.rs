//! A real application's schema where it is at hand: Zabbix's, as its Debian package carries it.
//!
//! `--schema` names a folder that holds its SQL; without it the folder of the installed package is
//! looked at. The two together are 32 MB, too much to be carried in the program: where neither is
//! there, the demo takes a sample of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    Result,
    samples::{AFTER_SHOP, AFTER_ZABBIX, SHOP, SITE, SMALL, Samples},
    stage::Stage,
};
use crate::failure::{Failure, Outcome};

/// Where Debian's package `zabbix-server-pgsql` puts its SQL.
const INSTALLED: &str = "/usr/share/zabbix-server-pgsql";

/// The application's files, and the scripts that they become.
const FILES: &[(&str, &str)] = &[
    ("schema.sql", "V1__schema.sql"),
    ("images.sql", "V2__images.sql"),
    ("data.sql", "V3__data.sql"),
];

/// Zabbix's SQL, every file of it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Zabbix {
    folder: PathBuf,
    /// In the order of [`FILES`].
    files: Vec<PathBuf>,
}

impl Zabbix {
    /// What `--schema` names, else what is installed, if anything is.
    pub(crate) fn find(named: Option<&Path>) -> Outcome<Option<Self>> {
        match named {
            Some(folder) => Self::in_folder(folder).map(Some).map_err(|missing| {
                Failure::not_found(format!("{} does not exist", missing.display())).hint(
                    "`--schema` names a folder with Zabbix's schema.sql, images.sql and data.sql, plain \
                     or with .gz, as in Debian's package zabbix-server-pgsql. Without it the demo takes \
                     a sample.",
                )
            }),
            None => Ok(Self::in_folder(Path::new(INSTALLED)).ok()),
        }
    }

    /// The file that is missing, if one is.
    fn in_folder(folder: &Path) -> std::result::Result<Self, PathBuf> {
        let file = |(name, _): &(&str, &str)| {
            let (plain, packed) = (folder.join(name), folder.join(format!("{name}.gz")));
            let found = [packed, plain.clone()].into_iter().find(|at| at.is_file());
            found.ok_or(plain)
        };
        Ok(Self {
            files: FILES
                .iter()
                .map(file)
                .collect::<std::result::Result<_, _>>()?,
            folder: folder.to_owned(),
        })
    }

    /// Whether `gzip` is needed to read it.
    pub(crate) fn is_packed(&self) -> bool {
        self.files.iter().any(|file| is_gzip(file))
    }

    fn write_into(&self, folder: &Path) -> Result {
        for (source, (_, script)) in self.files.iter().zip(FILES) {
            fs::write(folder.join(script), read(source)?)
                .map_err(|error| format!("cannot write {script}: {error}"))?;
        }
        Ok(())
    }
}

fn is_gzip(file: &Path) -> bool {
    file.extension().is_some_and(|suffix| suffix == "gz")
}

fn read(source: &Path) -> Result<Vec<u8>> {
    let shown = source.display();
    if !is_gzip(source) {
        return fs::read(source).map_err(|error| format!("cannot read {shown}: {error}"));
    }
    let output = Command::new("gzip")
        .arg("-dc")
        .arg(source)
        .output()
        .map_err(|error| format!("cannot run gzip: {error}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("cannot unpack {shown}: {}", said.trim()))
    }
}

/// What lies in the folder, seen from what differs between the two applications.
#[derive(Debug)]
pub(super) struct Scripts {
    /// Scripts of ours that come after the application's own.
    pub ours: Samples,
    /// A table that the scripts fill.
    pub table: &'static str,
    /// How a line begins that inserts one row into it, where each row has such a line.
    pub insert: Option<&'static str>,
    /// The script of ours that gets a mistake: the right words in it, and the wrong ones.
    pub mistaken: &'static str,
    pub slip: (&'static str, &'static str),
}

const OF_ZABBIX: Scripts = Scripts {
    ours: AFTER_ZABBIX,
    table: "items",
    insert: Some("INSERT INTO items "),
    mistaken: "V4__ownership.sql",
    slip: ("REFERENCES hosts", "REFERENCES host"),
};

const OF_SHOP: Scripts = Scripts {
    ours: AFTER_SHOP,
    table: "product",
    insert: None,
    mistaken: "V10__ownership.sql",
    slip: ("REFERENCES product", "REFERENCES produkt"),
};

/// Fills the folder `migrations` and says with what.
pub(super) fn prepare(stage: &Stage) -> Result {
    let folder = folder(stage);
    fs::create_dir_all(&folder).map_err(|error| format!("cannot make a folder: {error}"))?;
    if let Some(zabbix) = stage.zabbix() {
        zabbix.write_into(&folder)?;
        let version = version_in(&folder).unwrap_or_default();
        let from = zabbix.folder.display();
        stage.say(&format!("     Zabbix{version}, from {from}:"));
        return Ok(());
    }
    stage.say("     Zabbix's schema is not at hand (`--schema`, or package zabbix-server-pgsql);");
    stage.say("     a sample takes its place, an online shop with its warehouse:");
    SHOP.write_into(&folder)
}

/// Fills a folder with the schema for another engine and a script of ours, and says with what. Zabbix's
/// lies in a package of its own: looked for beside the one for PostgreSQL, then where Debian puts it.
pub(super) fn prepare_other(stage: &Stage, package: &str, folder: &Path) -> Result {
    fs::create_dir_all(folder).map_err(|error| format!("cannot make a folder: {error}"))?;
    SITE.write_into(folder)?;
    let beside = stage.zabbix().and_then(|zabbix| zabbix.folder.parent());
    let places = [beside, Path::new(INSTALLED).parent()];
    let names = ["schema.sql.gz", "schema.sql"];
    let found = places
        .into_iter()
        .flatten()
        .flat_map(|place| names.map(|name| place.join(package).join(name)))
        .find(|file| file.is_file());
    let Some(file) = found else {
        stage.say(&format!(
            "     Zabbix's schema for it is not at hand (package {package}); a small sample takes its place"
        ));
        return SMALL.write_into(folder);
    };
    stage.say(&format!("     Zabbix, from {}", file.display()));
    fs::write(folder.join("V1__schema.sql"), read(&file)?)
        .map_err(|error| format!("cannot write a script: {error}"))
}

/// Which of the two it became.
pub(super) fn prepared(stage: &Stage) -> &'static Scripts {
    if stage.zabbix().is_some() {
        &OF_ZABBIX
    } else {
        &OF_SHOP
    }
}

pub(super) fn folder(stage: &Stage) -> PathBuf {
    stage.path().join("migrations")
}

/// ` 6.0`, from the row that the schema itself keeps: `dbversion VALUES ('1','6000000','6000018')`.
fn version_in(folder: &Path) -> Option<String> {
    let mut found = None;
    for (_, script) in FILES {
        let text = fs::read(folder.join(script)).ok()?;
        let mut lines = text.split(|byte| *byte == b'\n');
        found = found.or_else(|| {
            let line = lines.find(|line| line.starts_with(b"INSERT INTO dbversion "))?;
            let line = std::str::from_utf8(line).ok()?;
            let number: u64 = line.split('\'').nth(3)?.parse().ok()?;
            Some(format!(" {}.{}", number / 1_000_000, number / 10_000 % 100))
        });
    }
    found
}

/// How many lines of all scripts begin with a text.
pub(super) fn lines_with(folder: &Path, beginning: &str) -> Result<usize> {
    let entries =
        fs::read_dir(folder).map_err(|error| format!("cannot read the scripts: {error}"))?;
    let mut count = 0;
    for entry in entries.flatten() {
        let text =
            fs::read(entry.path()).map_err(|error| format!("cannot read a script: {error}"))?;
        count += text
            .split(|byte| *byte == b'\n')
            .filter(|line| line.starts_with(beginning.as_bytes()))
            .count();
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_folder_must_hold_every_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("schema.sql"), "CREATE TABLE t ();\n").unwrap();
        fs::write(at("images.sql.gz"), "not looked into yet").unwrap();
        let failure = Zabbix::find(Some(folder.path())).unwrap_err();
        assert!(failure.message.contains("data.sql"), "{failure}");
        fs::write(at("data.sql"), "").unwrap();
        let zabbix = Zabbix::find(Some(folder.path())).unwrap().unwrap();
        assert!(zabbix.is_packed());
        let into = tempfile::tempdir().unwrap();
        let error = zabbix.write_into(into.path()).unwrap_err();
        assert!(error.contains("cannot unpack"), "{error}");
    }

    #[test]
    fn files_become_scripts_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let version = "INSERT INTO dbversion VALUES ('1','6000000','6000018');\n";
        for (name, text) in [
            ("schema.sql", version),
            ("images.sql", "i"),
            ("data.sql", "d"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let zabbix = Zabbix::find(Some(folder.path())).unwrap().unwrap();
        assert!(!zabbix.is_packed());
        let into = tempfile::tempdir().unwrap();
        zabbix.write_into(into.path()).unwrap();
        let text = |name: &str| fs::read_to_string(into.path().join(name)).unwrap();
        assert_eq!(text("V1__schema.sql"), version);
        assert_eq!(text("V3__data.sql"), "d");
        assert_eq!(version_in(into.path()).as_deref(), Some(" 6.0"));
    }
}
