//! Where files live, by the XDG rules.

use std::path::PathBuf;

use super::Surroundings;
use crate::failure::{Failure, Outcome};

#[derive(Debug, Clone)]
pub(crate) struct Directories {
    /// `freehold.toml` and `contexts.toml`.
    pub config: PathBuf,
    /// What a server on this machine keeps.
    pub data: PathBuf,
    /// What may be lost.
    pub cache: PathBuf,
}

impl Directories {
    pub(crate) fn of(surroundings: &Surroundings) -> Outcome<Self> {
        let find = |variable: &str, below_home: &str| {
            // The rules say that a relative path is to be ignored.
            let named = surroundings
                .get(variable)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute());
            let base = match (named, surroundings.get("HOME")) {
                (Some(path), _) => path,
                (None, Some(home)) if !home.is_empty() => PathBuf::from(home).join(below_home),
                _ => {
                    let message = format!("neither {variable} nor HOME says where files belong");
                    return Err(Failure::usage(message).hint("Set HOME."));
                }
            };
            Ok(base.join("freehold"))
        };
        // A service of the system keeps its data where services do. It also has to: servers that it
        // runs under another account could not reach below root's home.
        let is_service = surroundings.is_root && surroundings.get("XDG_DATA_HOME").is_none();
        Ok(Self {
            config: find("XDG_CONFIG_HOME", ".config")?,
            data: if is_service {
                PathBuf::from("/var/lib/freehold")
            } else {
                find("XDG_DATA_HOME", ".local/share")?
            },
            cache: find("XDG_CACHE_HOME", ".cache")?,
        })
    }
}
