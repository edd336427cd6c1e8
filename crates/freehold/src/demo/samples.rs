//! What the demo's people wrote, carried in the program, so that an installed program needs nothing
//! beside it. The files lie in the repository's folder `samples`.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::Result;

/// A folder of samples: names, and what is in them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Samples(&'static [(&'static str, &'static str)]);

macro_rules! samples {
    ($folder:literal: $($name:literal),+ $(,)?) => {
        Samples(&[$((
            $name,
            include_str!(concat!("../../../../samples/", $folder, "/", $name)),
        )),+])
    };
}

/// Manifests and a program.
pub(super) const PEOPLE: Samples = samples!("demo":
    "ask.sh",
    "collector.sh",
    "files.yaml",
    "frontend.yaml",
    "hijack.yaml",
    "maria.yaml",
    "monitor.yaml",
    "monitoring.yaml",
    "one-table.yaml",
    "platform.yaml",
    "proxy.yaml",
    "shop.yaml",
    "status-page.yaml",
);

/// The schema of an online shop with its warehouse, 42 tables.
pub(super) const SHOP: Samples = samples!("migrations":
    "R__reports.sql",
    "R__views.sql",
    "V1__catalogue.sql",
    "V2__customers.sql",
    "V3__orders.sql",
    "V4__fulfilment.sql",
    "V5__payments.sql",
    "V6__rules.sql",
    "V7__first_data.sql",
    "V8__assortment.sql",
    "V9__search_index.sql",
);

/// Scripts that come after the shop's.
pub(super) const AFTER_SHOP: Samples = samples!("demo/own":
    "R__owned.sql",
    "V10__ownership.sql",
    "V11__first_owners.sql",
);

/// Scripts that come after Zabbix's.
pub(super) const AFTER_ZABBIX: Samples = samples!("demo/zabbix":
    "R__owned.sql",
    "V4__ownership.sql",
    "V5__first_owners.sql",
);

/// A schema for SQLite and MariaDB where Zabbix's is not at hand, and a script that comes after either.
pub(super) const SMALL: Samples = samples!("demo/small": "V1__schema.sql");
pub(super) const SITE: Samples = samples!("demo/site": "V2__sites.sql");

impl Samples {
    /// Writes the files into a folder that is there; scripts for a shell can be run.
    pub(super) fn write_into(self, folder: &Path) -> Result {
        for (name, text) in self.0 {
            let path = folder.join(name);
            let mode = if is_program(name) { 0o755 } else { 0o644 };
            fs::write(&path, text)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
                .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        Ok(())
    }
}

fn is_program(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end == "sh")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample that is added to a folder and forgotten here would be missing only where nobody of us
    /// looks: in an installed program.
    #[test]
    fn every_sample_is_carried() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples");
        for (samples, folder) in [
            (PEOPLE, "demo"),
            (SHOP, "migrations"),
            (AFTER_SHOP, "demo/own"),
            (AFTER_ZABBIX, "demo/zabbix"),
            (SMALL, "demo/small"),
            (SITE, "demo/site"),
        ] {
            let entries = fs::read_dir(root.join(folder)).unwrap();
            let files = entries
                .map(std::result::Result::unwrap)
                .filter(|e| e.path().is_file());
            let mut there: Vec<String> = files
                .map(|entry| entry.file_name().into_string().unwrap())
                .filter(|name| name != "README.md")
                .collect();
            there.sort();
            let carried: Vec<&str> = samples.0.iter().map(|(name, _)| *name).collect();
            assert_eq!(carried, there, "{folder}");
        }
    }

    #[test]
    fn a_program_can_be_run_and_a_manifest_not() {
        let folder = tempfile::tempdir().unwrap();
        PEOPLE.write_into(folder.path()).unwrap();
        let mode = |name: &str| {
            let facts = fs::metadata(folder.path().join(name)).unwrap();
            facts.permissions().mode() & 0o777
        };
        assert_eq!(mode("collector.sh"), 0o755);
        assert_eq!(mode("monitor.yaml"), 0o644);
    }
}
