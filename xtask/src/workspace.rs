//! What the workspace consists of: its root, its tracked files, its packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::{Result, command};

/// The folder that holds the workspace. Cargo says it when it runs us; what was true at compile time
/// may be another checkout that shares the build directory.
pub(crate) fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package
        .parent()
        .expect("xtask lies in the workspace")
        .to_owned()
}

/// Paths of all files that are in the repository or would be after `git add`, relative to the root.
pub(crate) fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let listed = command::capture(Command::new("git").current_dir(root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    let mut files: Vec<PathBuf> = listed
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .collect();
    // A file that was deleted but not yet committed is listed as well.
    files.retain(|file| root.join(file).is_file());
    files.sort();
    files.dedup();
    Ok(files)
}

/// What `cargo metadata` says, as far as we ask.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) workspace_members: Vec<String>,
    /// Absent when only the workspace's own packages were asked for.
    pub(crate) resolve: Option<Resolve>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) source: Option<String>,
    #[serde(default)]
    pub(crate) dependencies: Vec<Dependency>,
    #[serde(default)]
    pub(crate) features: std::collections::BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` for a normal one, else `dev` or `build`.
    pub(crate) kind: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Resolve {
    pub(crate) nodes: Vec<Node>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) deps: Vec<NodeDependency>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct NodeDependency {
    pub(crate) pkg: String,
    pub(crate) dep_kinds: Vec<DependencyKind>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct DependencyKind {
    pub(crate) kind: Option<String>,
}

impl Metadata {
    /// The whole graph, for every platform and feature, exactly as `Cargo.lock` says.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let text = command::capture(command::cargo(root).args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--all-features",
        ]))?;
        serde_json::from_str(&text)
            .map_err(|error| format!("cannot read cargo's metadata: {error}"))
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| self.workspace_members.contains(&package.id))
    }
}
