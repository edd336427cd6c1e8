//! Every folder of the directory, and whose it is, without opening one database.

use std::{collections::HashMap, fs, io::ErrorKind, os::unix::fs::MetadataExt as _, sync::Arc};

use super::{
    connect::Directory,
    errors::At as _,
    names::{self, Folder},
    observe::{self, Spot},
    registry::{Registry, RegistryRow},
};
use crate::{Result, Survey, SurveyedDatabase};

/// One folder where databases are, open or closed.
pub(crate) struct Listed {
    /// The database's name, or the folder's own where Freehold did not name it.
    pub(crate) name: String,
    pub(crate) account: u32,
    pub(crate) size_bytes: u64,
}

pub(super) fn survey(directory: &Directory) -> Result<Survey> {
    let registry = Registry::open(directory)?;
    let identity = registry.server()?.identity();
    let rows = registry.rows()?;
    let rows: HashMap<&str, &RegistryRow> =
        rows.iter().map(|row| (row.name.as_str(), row)).collect();
    let databases = folders(directory)?
        .into_iter()
        .map(|listed| {
            let row = rows.get(listed.name.as_str());
            SurveyedDatabase {
                owner: format!("account {}", listed.account),
                size_bytes: Some(listed.size_bytes),
                connections: 0,
                stamp: row.map(|row| row.stamp.clone()),
                same_server: row.is_none_or(|row| row.server == identity),
                name: listed.name,
            }
        })
        .collect();
    Ok(Survey {
        identity,
        databases,
        engine: Arc::new(()),
    })
}

pub(crate) fn folders(directory: &Directory) -> Result<Vec<Listed>> {
    let doing = "list the databases";
    let mut listed = Vec::new();
    for place in [directory.homes(), directory.quarantines()] {
        let entries = match fs::read_dir(&place) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.at(&place, doing)?,
        };
        for entry in entries {
            let entry = entry.at(&place, doing)?;
            let text = entry.file_name().to_string_lossy().into_owned();
            // One that vanishes while we look is not there.
            let Ok(facts) = entry.metadata() else {
                continue;
            };
            let name = names::decode(&text);
            let size_bytes = match name.as_deref().map(Folder::new) {
                Some(Ok(folder)) => match observe::spot(&entry.path(), &folder)? {
                    Spot::File(found) => found.size_bytes,
                    Spot::Empty | Spot::Other(_) => 0,
                },
                _ => 0,
            };
            listed.push(Listed {
                name: name.unwrap_or(text),
                account: facts.uid(),
                size_bytes,
            });
        }
    }
    Ok(listed)
}
