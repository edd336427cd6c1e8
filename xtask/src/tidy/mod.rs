//! `cargo xtask tidy`: the rules of the project that no compiler checks.
//!
//! Each rule is a pure function from what is in the repository to findings, so that its tests can
//! show it a repository that breaks it.

mod adr;
mod dependencies;
mod links;
mod names;
mod rust_source;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace::Metadata;
use crate::{Result, workspace};

/// Something that breaks a rule: where, and what to do.
pub(super) type Finding = String;

/// A text file of the repository.
#[derive(Debug, Clone)]
pub(super) struct Text {
    /// Relative to the root.
    pub(super) path: PathBuf,
    pub(super) content: String,
}

pub(crate) fn run() -> Result {
    let root = workspace::root();
    let files = workspace::files(&root)?;
    let texts = read(&root, &files)?;
    let metadata = Metadata::load(&root)?;
    let mut findings = Vec::new();
    findings.extend(dependencies::check(&metadata));
    findings.extend(dependencies::manifests(&texts));
    findings.extend(sources::check(&texts));
    findings.extend(names::check(&texts, &names::forbidden(&root)));
    findings.extend(links::check(&texts, &files));
    findings.extend(adr::check(&texts));
    findings.extend(documents(&texts, &metadata));
    if findings.is_empty() {
        println!("{} files keep to the rules", files.len());
        return Ok(());
    }
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    Err(format!(
        "{} breaches of the project's rules",
        findings.len()
    ))
}

/// Files that are not text (pictures, archives) break no rule.
fn read(root: &Path, files: &[PathBuf]) -> Result<Vec<Text>> {
    let mut texts = Vec::new();
    for path in files {
        let bytes = fs::read(root.join(path))
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        if let Ok(content) = String::from_utf8(bytes) {
            texts.push(Text {
                path: path.clone(),
                content,
            });
        }
    }
    Ok(texts)
}

/// The documents that every reader looks for, and a place on the map for every crate.
fn documents(texts: &[Text], metadata: &Metadata) -> Vec<Finding> {
    let find = |name: &str| texts.iter().find(|text| text.path == Path::new(name));
    let mut findings: Vec<Finding> = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "LICENSE",
        "deny.toml",
    ]
    .iter()
    .filter(|name| find(name).is_none())
    .map(|name| format!("{name}: missing"))
    .collect();
    if let Some(changelog) = find("CHANGELOG.md")
        && !changelog.content.contains("## [Unreleased]")
    {
        findings.push("CHANGELOG.md: there is no section `## [Unreleased]`".to_owned());
    }
    if let Some(architecture) = find("ARCHITECTURE.md") {
        for package in metadata.members() {
            if !architecture
                .content
                .contains(&format!("`{}`", package.name))
            {
                findings.push(format!(
                    "ARCHITECTURE.md: the code map lacks `{}`",
                    package.name
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
pub(super) fn text(path: &str, content: &str) -> Text {
    Text {
        path: path.into(),
        content: content.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_documents_and_crates_off_the_map_are_found() {
        let member = serde_json::json!({
            "packages": [{"id": "a", "name": "freehold-a", "version": "0.1.0"}],
            "workspace_members": ["a"],
        });
        let metadata: Metadata = serde_json::from_value(member).unwrap();
        let mut texts = vec![
            text("README.md", ""),
            text("ARCHITECTURE.md", "| `freehold-a` |"),
            text("CONTRIBUTING.md", ""),
            text("CHANGELOG.md", "## [Unreleased]"),
            text("LICENSE", ""),
            text("deny.toml", ""),
        ];
        assert_eq!(documents(&texts, &metadata), Vec::<Finding>::new());
        texts[1].content = "| `freehold-b` |".to_owned();
        texts[3].content = String::new();
        texts.remove(0);
        let found = documents(&texts, &metadata);
        assert_eq!(found.len(), 3, "{found:?}");
    }
}
