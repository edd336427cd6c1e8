//! SQLite's words: a path, and URIs that hold one. There is nothing secret in them.

use std::collections::BTreeMap;

use freehold_api::FileBinding;
use freehold_model::Secret;

use super::{escape::percent, plain};

pub(super) fn keys(file: &FileBinding) -> BTreeMap<&'static str, Secret> {
    BTreeMap::from([
        ("type", plain("sqlite")),
        ("provider", plain("freehold")),
        ("path", plain(&file.path)),
        ("database", plain(&file.path)),
        ("uri", uri(file)),
        ("jdbc-url", jdbc_uri(file)),
        ("jdbc-uri", jdbc_uri(file)),
    ])
}

pub(super) fn environment(file: &FileBinding) -> BTreeMap<&'static str, Secret> {
    BTreeMap::from([
        ("DATABASE_URL", uri(file)),
        ("JDBC_DATABASE_URL", jdbc_uri(file)),
        ("SQLITE_PATH", plain(&file.path)),
    ])
}

/// `sqlite:///folder/file.db`, with `?mode=ro` for who only reads.
fn uri(file: &FileBinding) -> Secret {
    let path: Vec<String> = file.path.split('/').map(percent).collect();
    let mode = if file.read_only { "?mode=ro" } else { "" };
    Secret::new(format!("sqlite://{}{mode}", path.join("/")))
}

/// `jdbc:sqlite:/folder/file.db`; 1 is the driver's word for reading only. The path stands as it is.
fn jdbc_uri(file: &FileBinding) -> Secret {
    let mode = if file.read_only { "?open_mode=1" } else { "" };
    Secret::new(format!("jdbc:sqlite:{}{mode}", file.path))
}
