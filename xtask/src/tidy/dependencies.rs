//! Which crate may use which. The table is the architecture; a crate that is not in it, or an arrow
//! that is not in it, is refused, so the direction cannot change by accident.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Text};
use crate::workspace::{Metadata, Package};

/// A crate, and the crates of ours that it may use, directly.
const MAY_USE: &[(&str, &[&str])] = &[
    ("freehold-model", &[]),
    ("freehold-plan", &["freehold-model"]),
    ("freehold-store", &["freehold-model"]),
    ("freehold-engine", &["freehold-model"]),
    ("freehold-migrate", &["freehold-engine", "freehold-model"]),
    ("freehold-lint", &[]),
    ("freehold-workflow", &["freehold-model", "freehold-store"]),
    ("freehold-audit", &["freehold-model", "freehold-store"]),
    ("freehold-api", &["freehold-model"]),
    ("freehold-client", &["freehold-api", "freehold-model"]),
    ("freehold-sidecar", &["freehold-model", "freehold-store"]),
    (
        "freehold-operator",
        &["freehold-api", "freehold-client", "freehold-model"],
    ),
    (
        "freehold-gateway",
        &["freehold-api", "freehold-client", "freehold-model"],
    ),
    (
        "freehold-control",
        &[
            "freehold-api",
            "freehold-audit",
            "freehold-engine",
            "freehold-lint",
            "freehold-migrate",
            "freehold-model",
            "freehold-plan",
            "freehold-store",
            "freehold-workflow",
        ],
    ),
    (
        "freehold-server",
        &[
            "freehold-api",
            "freehold-audit",
            "freehold-control",
            "freehold-model",
            "freehold-store",
        ],
    ),
    ("freehold-testing", &["freehold-model"]),
    ("xtask", &[]),
];

/// The binary, which uses everything and is used by nothing.
const BINARY: &str = "freehold";

/// For tests only.
const TESTING: &str = "freehold-testing";

/// A crate, what must not be in it even indirectly, and why.
const NEVER: &[(&str, &[&str], &str)] = &[
    (
        "freehold-model",
        &[
            "tokio",
            "futures",
            "async-trait",
            "axum",
            "tokio-postgres",
            "rusqlite",
            "reqwest",
        ],
        "the vocabulary does no I/O and is not async",
    ),
    (
        "freehold-plan",
        &[
            "tokio",
            "futures",
            "async-trait",
            "axum",
            "tokio-postgres",
            "rusqlite",
            "reqwest",
        ],
        "decisions are pure functions over plain values",
    ),
    (
        "freehold-lint",
        &[
            "tokio",
            "futures",
            "async-trait",
            "axum",
            "tokio-postgres",
            "rusqlite",
            "reqwest",
        ],
        "the gates are pure functions over plain values",
    ),
    (
        "freehold-control",
        &["axum", "aide", "clap"],
        "the product's verbs do not know how they are reached",
    ),
    (
        "freehold-store",
        &["axum", "clap"],
        "any service may embed the store without a web server",
    ),
    (
        "freehold-engine",
        &["axum", "clap"],
        "a driver talks to databases only",
    ),
];

pub(super) fn check(metadata: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    let members: BTreeSet<&str> = metadata
        .members()
        .map(|package| package.name.as_str())
        .collect();
    for package in metadata.members() {
        findings.extend(direct(package, &members));
    }
    findings.extend(indirect(metadata));
    findings
}

/// Every crate keeps to the workspace's lints.
pub(super) fn manifests(texts: &[Text]) -> Vec<Finding> {
    texts
        .iter()
        .filter(|text| text.path.ends_with("Cargo.toml") && text.path.components().count() > 1)
        .filter(|text| !text.content.contains("[lints]\nworkspace = true"))
        .map(|text| format!("{}: add `[lints] workspace = true`", text.path.display()))
        .collect()
}

fn direct(package: &Package, members: &BTreeSet<&str>) -> Vec<Finding> {
    let name = package.name.as_str();
    let allowed = MAY_USE
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, allowed)| *allowed);
    if allowed.is_none() && name != BINARY {
        return vec![format!(
            "{name}: a new crate; say what it may use in xtask/src/tidy/dependencies.rs"
        )];
    }
    let mut findings = Vec::new();
    for dependency in &package.dependencies {
        let used = dependency.name.as_str();
        let for_tests = dependency.kind.as_deref() == Some("dev");
        if !members.contains(used) {
            continue;
        }
        if used == BINARY {
            findings.push(format!("{name}: nothing may depend on the binary"));
        } else if used == TESTING && !for_tests {
            findings.push(format!("{name}: {TESTING} is a dev-dependency only"));
        } else if !for_tests && allowed.is_some_and(|allowed| !allowed.contains(&used)) {
            findings.push(format!("{name}: must not depend on {used}"));
        }
    }
    findings
}

/// Looks through all that a crate brings with it, tests apart.
fn indirect(metadata: &Metadata) -> Vec<Finding> {
    let Some(resolve) = &metadata.resolve else {
        return Vec::new();
    };
    let names: BTreeMap<&str, &str> = metadata
        .packages
        .iter()
        .map(|package| (package.id.as_str(), package.name.as_str()))
        .collect();
    let uses: BTreeMap<&str, Vec<&str>> = resolve
        .nodes
        .iter()
        .map(|node| {
            let normal = node
                .deps
                .iter()
                .filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind.is_none()))
                .map(|dep| dep.pkg.as_str())
                .collect();
            (node.id.as_str(), normal)
        })
        .collect();
    let mut findings = Vec::new();
    for package in metadata.members() {
        let Some((_, never, why)) = NEVER.iter().find(|(name, ..)| *name == package.name) else {
            continue;
        };
        let mut reached = BTreeMap::new();
        let mut next = vec![(package.id.as_str(), package.name.clone())];
        while let Some((id, path)) = next.pop() {
            for used in uses.get(id).into_iter().flatten() {
                let name = names.get(used).copied().unwrap_or("?");
                if !reached.contains_key(used) {
                    let path = format!("{path} → {name}");
                    reached.insert(*used, path.clone());
                    next.push((used, path));
                }
            }
        }
        for (id, path) in &reached {
            if never.contains(&names.get(id).copied().unwrap_or("?")) {
                findings.push(format!("{path}: {why}"));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;

    /// A workspace of which each entry is a crate, what it uses, and the kind of that use.
    fn workspace(uses: &[(&str, &str, Option<&str>)], outside: &[&str]) -> Metadata {
        let mut names: BTreeSet<&str> =
            uses.iter().flat_map(|(from, to, _)| [*from, *to]).collect();
        names.insert("freehold-model");
        let packages: Vec<_> = names
            .iter()
            .map(|name| {
                let dependencies: Vec<_> = uses
                    .iter()
                    .filter(|(from, ..)| from == name)
                    .map(|(_, to, kind)| serde_json::json!({"name": to, "kind": kind}))
                    .collect();
                serde_json::json!({
                    "id": name, "name": name, "version": "0.1.0", "dependencies": dependencies,
                })
            })
            .collect();
        let nodes: Vec<_> = names
            .iter()
            .map(|name| {
                let deps: Vec<_> = uses
                    .iter()
                    .filter(|(from, ..)| from == name)
                    .map(|(_, to, kind)| serde_json::json!({"pkg": to, "dep_kinds": [{"kind": kind}]}))
                    .collect();
                serde_json::json!({"id": name, "deps": deps})
            })
            .collect();
        let members: Vec<_> = names
            .iter()
            .filter(|name| !outside.contains(name))
            .collect();
        serde_json::from_value(serde_json::json!({
            "packages": packages, "workspace_members": members, "resolve": {"nodes": nodes},
        }))
        .unwrap()
    }

    #[test]
    fn the_arrows_of_the_design_are_fine() {
        let metadata = workspace(
            &[
                ("freehold", "freehold-control", None),
                ("freehold-control", "freehold-store", None),
                ("freehold-store", "freehold-model", None),
                ("freehold-store", "freehold-testing", Some("dev")),
                ("freehold-store", "tokio", None),
                ("freehold-plan", "freehold-model", None),
                ("freehold-plan", "tokio", Some("dev")),
            ],
            &["tokio"],
        );
        assert_eq!(check(&metadata), Vec::<Finding>::new());
    }

    #[test]
    fn arrows_against_the_direction_are_found() {
        for (from, to) in [
            ("freehold-store", "freehold-control"),
            ("freehold-engine", "freehold-store"),
            ("freehold-model", "freehold-plan"),
            ("freehold-control", "freehold"),
            ("freehold-control", "freehold-server"),
            ("freehold-control", "freehold-testing"),
            ("freehold", "freehold-testing"),
        ] {
            let found = check(&workspace(&[(from, to, None)], &[]));
            assert_eq!(found.len(), 1, "{from} → {to}: {found:?}");
        }
        let found = check(&workspace(
            &[("freehold-surprise", "freehold-model", None)],
            &[],
        ));
        assert!(found[0].contains("a new crate"), "{found:?}");
    }

    #[test]
    fn what_a_crate_brings_along_is_found_with_its_way() {
        let metadata = workspace(
            &[
                ("freehold-plan", "innocent", None),
                ("innocent", "tokio", None),
            ],
            &["innocent", "tokio"],
        );
        let found = check(&metadata);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("freehold-plan → innocent → tokio:"),
            "{found:?}"
        );
        let metadata = workspace(&[("freehold-control", "axum", None)], &["axum"]);
        assert_eq!(check(&metadata).len(), 1);
    }

    #[test]
    fn a_crate_without_the_lints_is_found() {
        let good = text(
            "crates/a/Cargo.toml",
            "[package]\n\n[lints]\nworkspace = true\n",
        );
        let bad = text("crates/b/Cargo.toml", "[package]\n");
        let root = text("Cargo.toml", "[workspace]\n");
        assert_eq!(manifests(&[good, bad, root]).len(), 1);
    }
}
