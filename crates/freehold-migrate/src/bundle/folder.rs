//! From a folder to a bundle.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use super::{Bundle, BundleError, Limits, archive};
use crate::{Dialect, FileRole, Refusal, RefusalCode, Settings, SettingsFile, role_of};

/// Flyway's settings files, as they are looked for in a folder.
const SETTINGS_FILES: [&str; 2] = ["flyway.toml", "flyway.conf"];

/// Where a project's scripts are, and by what settings they run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Project {
    /// A script's path is relative to the one that it is in.
    pub folders: Vec<PathBuf>,
    pub settings: Settings,
    /// Settings that have no meaning here, by name.
    pub without_meaning: Vec<String>,
}

impl Project {
    /// The project of one folder, by the settings file that lies in it, if there is one.
    ///
    /// # Errors
    /// A settings file that cannot be read or honoured.
    pub fn of_folder(folder: &Path) -> Result<Self, BundleError> {
        for name in SETTINGS_FILES {
            let file = folder.join(name);
            if file.is_file() {
                let project = Self::of_settings(&file)?;
                return Ok(Self {
                    folders: vec![folder.to_owned()],
                    ..project
                });
            }
        }
        Ok(Self {
            folders: vec![folder.to_owned()],
            ..Self::default()
        })
    }

    /// The project of a settings file: its locations are relative to the folder that it lies in.
    ///
    /// # Errors
    /// A settings file that cannot be read or honoured.
    pub fn of_settings(file: &Path) -> Result<Self, BundleError> {
        let text = fs::read_to_string(file).map_err(|source| unreadable(file, source))?;
        let name = file.to_string_lossy();
        let read = SettingsFile::parse(&name, &text).map_err(BundleError::Refused)?;
        let beside = file.parent().unwrap_or(Path::new(""));
        let folders = read.locations.iter().map(|place| beside.join(place));
        Ok(Self {
            folders: folders.collect(),
            settings: read.settings,
            without_meaning: read.without_meaning,
        })
    }
}

/// A packed folder.
#[derive(Debug, Clone)]
pub struct Packed {
    pub bundle: Bundle,
    pub archive: Vec<u8>,
    /// Files that are no migrations and were left out, by path.
    pub left_out: Vec<String>,
}

impl Bundle {
    /// Packs a folder of migrations for PostgreSQL; see [`Bundle::pack_for`].
    ///
    /// # Errors
    /// Those of [`Bundle::pack_for`].
    pub fn pack(folder: &Path) -> Result<Packed, BundleError> {
        Self::pack_for(Dialect::Postgresql, folder)
    }

    /// Packs the migrations of a folder and its subfolders. Hidden folders are skipped.
    ///
    /// # Errors
    /// All files whose names look like migrations and are none, at once; a settings file without its
    /// script; symbolic links; a folder without migrations.
    pub fn pack_for(dialect: Dialect, folder: &Path) -> Result<Packed, BundleError> {
        Self::pack_project(dialect, &Project::of_folder(folder)?)
    }

    /// Packs the migrations of a project.
    ///
    /// # Errors
    /// Those of [`Bundle::pack_for`]; the same path in two of its folders.
    pub fn pack_project(dialect: Dialect, project: &Project) -> Result<Packed, BundleError> {
        let mut walk = Walk {
            is_lenient: project.settings.lenient_names,
            ..Walk::default()
        };
        for folder in &project.folders {
            walk.visit(folder, "")?;
        }
        walk.find_lonely_configs();
        if !walk.refusals.is_empty() {
            return Err(BundleError::Refused(walk.refusals));
        }
        if walk.files.is_empty() {
            let folders = project.folders.iter();
            let folders: Vec<_> = folders.map(|f| f.display().to_string()).collect();
            return Err(BundleError::Empty {
                path: folders.join(", "),
            });
        }
        let limits = Limits::default();
        if walk.files.len() > limits.files {
            return Err(BundleError::TooLarge {
                what: format!("{} files, {} are allowed", walk.files.len(), limits.files),
            });
        }
        let bundle = Self::from_files_with(dialect, project.settings.clone(), walk.files)?;
        let archive = bundle.to_archive();
        // What nobody could open must not be uploaded.
        Self::open_within(&archive, limits)?;
        walk.left_out.sort();
        Ok(Packed {
            bundle,
            archive,
            left_out: walk.left_out,
        })
    }
}

#[derive(Default)]
struct Walk {
    is_lenient: bool,
    files: Vec<(String, Vec<u8>)>,
    left_out: Vec<String>,
    refusals: Vec<Refusal>,
    total_bytes: u64,
}

impl Walk {
    fn visit(&mut self, folder: &Path, prefix: &str) -> Result<(), BundleError> {
        let mut entries = fs::read_dir(folder)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|source| unreadable(folder, source))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let file_name = entry.file_name();
            let Some(name) = file_name.to_str() else {
                let shown = format!("{prefix}{}", file_name.to_string_lossy());
                self.refuse(shown, "its name is not UTF-8", "Rename it.");
                continue;
            };
            let path = format!("{prefix}{name}");
            let kind = entry
                .file_type()
                .map_err(|source| unreadable(&entry.path(), source))?;
            if name.starts_with('.') {
                self.left_out.push(path);
            } else if kind.is_dir() {
                self.visit(&entry.path(), &format!("{path}/"))?;
            } else {
                self.file(path, &entry.path(), kind.is_file())?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: String, at: &Path, is_plain: bool) -> Result<(), BundleError> {
        match role_of(&path) {
            FileRole::Stray if is_plain || !at.is_dir() => self.left_out.push(path),
            FileRole::Refused(_) if self.is_lenient => self.left_out.push(path),
            FileRole::Refused(refused) => {
                self.refusals.push(
                    Refusal::new(RefusalCode::InvalidName, refused.reason, refused.advice)
                        .in_file(path),
                );
            }
            _ if !is_plain => {
                self.refuse(
                    path,
                    "it is no plain file",
                    "Put the file itself there, no link to it.",
                );
            }
            _ if archive::check_path(&path).is_err() => {
                self.refuse(
                    path,
                    "its name holds a backslash or a control character, or is longer than 1,000 bytes",
                    "Rename it.",
                );
            }
            _ => {
                let size = fs::metadata(at)
                    .map_err(|source| unreadable(at, source))?
                    .len();
                self.total_bytes += size;
                let limits = Limits::default();
                if size > limits.file_bytes || self.total_bytes > limits.total_bytes {
                    return Err(BundleError::TooLarge {
                        what: format!(
                            "with {path} the folder holds {} bytes; a file may have {}, all together {}",
                            self.total_bytes, limits.file_bytes, limits.total_bytes
                        ),
                    });
                }
                let bytes = fs::read(at).map_err(|source| unreadable(at, source))?;
                self.files.push((path, bytes));
            }
        }
        Ok(())
    }

    /// A settings file that belongs to no script is a script's misspelt name.
    fn find_lonely_configs(&mut self) {
        let paths: HashSet<&str> = self.files.iter().map(|(path, _)| path.as_str()).collect();
        let lonely: Vec<String> = paths
            .iter()
            .filter(|path| role_of(path) == FileRole::ScriptConfig)
            .filter(|path| !paths.contains(&path[..path.len() - ".conf".len()]))
            .map(|&path| path.to_owned())
            .collect();
        for path in lonely {
            self.refuse(
                path,
                "there is no script of that name beside it",
                "Name it like its script, with .conf appended.",
            );
        }
    }

    fn refuse(&mut self, path: String, reason: &str, advice: &str) {
        self.refusals
            .push(Refusal::new(RefusalCode::InvalidName, reason, advice).in_file(path));
    }
}

fn unreadable(path: &Path, source: std::io::Error) -> BundleError {
    BundleError::Read {
        path: path.display().to_string(),
        source,
    }
}
