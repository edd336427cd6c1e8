//! `cargo xtask deny`: which dependencies are allowed, from `deny.toml`.
//!
//! The file is cargo-deny's, and cargo-deny accepts it. We check it ourselves because the tool takes
//! minutes to build, which every clean machine would wait for, and what we use of it (bans, licences,
//! sources) is two hundred lines. Where cargo-deny is installed it runs too, and has to agree. Security advisories need a database from
//! the network and are left to `cargo deny check advisories`, run where there is one.
//!
//! A key that we do not know is an error: a rule that nobody applies is worse than none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::workspace::{Metadata, Package};
use crate::{Result, command, workspace};

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Rules {
    #[expect(dead_code, reason = "cargo-deny's; all platforms are checked here")]
    #[serde(default)]
    graph: toml::Table,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Licenses {
    allow: BTreeSet<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
    #[expect(
        dead_code,
        reason = "cargo-deny's: how sure it has to be of a licence text"
    )]
    #[serde(default)]
    confidence_threshold: Option<f64>,
    #[expect(dead_code, reason = "cargo-deny's: unused entries are an error here")]
    #[serde(default)]
    unused_allowed_license: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Bans {
    #[expect(
        dead_code,
        reason = "cargo-deny's: several versions of a crate are counted, not refused"
    )]
    #[serde(default)]
    multiple_versions: Option<String>,
    #[expect(
        dead_code,
        reason = "cargo-deny's; `cargo xtask tidy` looks at our own manifests"
    )]
    #[serde(default)]
    wildcards: Option<String>,
    #[expect(dead_code, reason = "cargo-deny's; see wildcards")]
    #[serde(default)]
    allow_wildcard_paths: Option<bool>,
    deny: Vec<Banned>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Sources {
    unknown_registry: String,
    unknown_git: String,
    #[serde(default)]
    allow_git: Vec<String>,
}

pub(crate) fn run() -> Result {
    let root = workspace::root();
    let rules = load(&root.join("deny.toml"))?;
    let mut metadata = Metadata::load(&root)?;
    let used = used(&root)?;
    metadata
        .packages
        .retain(|package| used.contains(&format!("{} v{}", package.name, package.version)));
    let findings = check(&rules, &metadata);
    if command::find("cargo-deny").is_some() {
        command::run(command::cargo(&root).args([
            "deny",
            "--locked",
            "--all-features",
            "--log-level=error",
            "check",
            "bans",
            "licenses",
            "sources",
        ]))?;
    }
    let versions =
        metadata
            .packages
            .iter()
            .fold(BTreeMap::<_, usize>::new(), |mut seen, package| {
                *seen.entry(&package.name).or_default() += 1;
                seen
            });
    let several = versions.values().filter(|count| **count > 1).count();
    if findings.is_empty() {
        println!(
            "{} packages keep to deny.toml ({several} in several versions)",
            metadata.packages.len()
        );
        return Ok(());
    }
    for finding in &findings {
        println!("{finding}");
    }
    Err(format!(
        "{} dependencies break the rules of deny.toml",
        findings.len()
    ))
}

/// Name and version of each package that is really built, on any platform and with any feature. The
/// lock file and the metadata also name what only a weak feature mentions and nobody turns on.
fn used(root: &Path) -> Result<BTreeSet<String>> {
    let tree = command::capture(command::cargo(root).args([
        "tree",
        "--workspace",
        "--all-features",
        "--target=all",
        "--edges=normal,build,dev",
        "--prefix=none",
        "--format={p}",
        "--locked",
    ]))?;
    let name_and_version = |line: &str| {
        let mut words = line.split_whitespace();
        Some(format!("{} {}", words.next()?, words.next()?))
    };
    Ok(tree.lines().filter_map(name_and_version).collect())
}

fn load(path: &Path) -> Result<Rules> {
    let text =
        fs::read_to_string(path).map_err(|error| format!("cannot read deny.toml: {error}"))?;
    toml::from_str(&text).map_err(|error| format!("deny.toml: {error}"))
}

fn check(rules: &Rules, metadata: &Metadata) -> Vec<String> {
    let mut findings = Vec::new();
    let mut used = BTreeSet::new();
    for package in &metadata.packages {
        let shown = format!("{} {}", package.name, package.version);
        if let Some(banned) = rules
            .bans
            .deny
            .iter()
            .find(|banned| banned.name == package.name)
        {
            findings.push(format!("{shown}: banned: {}", banned.reason));
        }
        if let Err(why) = licensed(rules, package, &mut used) {
            findings.push(format!("{shown}: {why}"));
        }
        if let Err(why) = sourced(&rules.sources, package.source.as_deref()) {
            findings.push(format!("{shown}: {why}"));
        }
    }
    for license in rules.licenses.allow.difference(&used) {
        findings.push(format!(
            "deny.toml allows {license}, which nothing needs; remove it"
        ));
    }
    for exception in &rules.licenses.exceptions {
        if !metadata
            .packages
            .iter()
            .any(|package| package.name == exception.name)
        {
            findings.push(format!(
                "deny.toml excepts {}, which is no dependency; remove it",
                exception.name
            ));
        }
    }
    findings
}

fn licensed(rules: &Rules, package: &Package, used: &mut BTreeSet<String>) -> Result {
    let Some(expression) = &package.license else {
        return Err("names no licence".to_owned());
    };
    let mut allowed: BTreeSet<&str> = rules.licenses.allow.iter().map(String::as_str).collect();
    for exception in rules
        .licenses
        .exceptions
        .iter()
        .filter(|one| one.name == package.name)
    {
        allowed.extend(exception.allow.iter().map(String::as_str));
    }
    let accepted = Expression::parse(expression)?.accept(&allowed);
    let Some(accepted) = accepted else {
        return Err(format!("its licence is not allowed: {expression}"));
    };
    used.extend(accepted);
    Ok(())
}

fn sourced(rules: &Sources, source: Option<&str>) -> Result {
    match source {
        // Without a source it is ours.
        None | Some(CRATES_IO) => Ok(()),
        Some(git) if git.starts_with("git+") => {
            let allowed = rules
                .allow_git
                .iter()
                .any(|one| git[4..].starts_with(one.as_str()));
            if allowed || rules.unknown_git != "deny" {
                Ok(())
            } else {
                Err(format!("comes from a git repository: {git}"))
            }
        }
        Some(_) if rules.unknown_registry != "deny" => Ok(()),
        Some(other) => Err(format!("comes from another registry: {other}")),
    }
}

/// A licence expression as crates write it: names joined by AND, OR, WITH and, of old, a slash.
#[derive(Debug)]
enum Expression {
    License(String),
    All(Vec<Expression>),
    Any(Vec<Expression>),
}

impl Expression {
    fn parse(text: &str) -> Result<Self> {
        let spaced = text
            .replace('(', " ( ")
            .replace(')', " ) ")
            .replace('/', " OR ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut rest = words.as_slice();
        let parsed = Self::any(&mut rest);
        match parsed {
            Some(expression) if rest.is_empty() => Ok(expression),
            _ => Err(format!("its licence cannot be read: {text}")),
        }
    }

    fn any(rest: &mut &[&str]) -> Option<Self> {
        let mut parts = vec![Self::all(rest)?];
        while let [word, after @ ..] = rest
            && word.eq_ignore_ascii_case("OR")
        {
            *rest = after;
            parts.push(Self::all(rest)?);
        }
        Some(Self::Any(parts))
    }

    fn all(rest: &mut &[&str]) -> Option<Self> {
        let mut parts = vec![Self::one(rest)?];
        while let [word, after @ ..] = rest
            && word.eq_ignore_ascii_case("AND")
        {
            *rest = after;
            parts.push(Self::one(rest)?);
        }
        Some(Self::All(parts))
    }

    fn one(rest: &mut &[&str]) -> Option<Self> {
        match rest {
            ["(", after @ ..] => {
                *rest = after;
                let inner = Self::any(rest)?;
                let [")", after @ ..] = rest else { return None };
                *rest = after;
                Some(inner)
            }
            [")" | "AND" | "OR" | "WITH", ..] | [] => None,
            [name, "WITH", exception, after @ ..] => {
                let license = format!("{name} WITH {exception}");
                *rest = after;
                Some(Self::License(license))
            }
            [name, after @ ..] => {
                let license = (*name).to_owned();
                *rest = after;
                Some(Self::License(license))
            }
        }
    }

    /// The licences under which we take the crate, or `None` when we may not.
    fn accept(&self, allowed: &BTreeSet<&str>) -> Option<Vec<String>> {
        match self {
            Self::License(name) => allowed.contains(name.as_str()).then(|| vec![name.clone()]),
            Self::Any(parts) => parts.iter().find_map(|part| part.accept(allowed)),
            Self::All(parts) => {
                let accepted: Option<Vec<_>> =
                    parts.iter().map(|part| part.accept(allowed)).collect();
                accepted.map(|lists| lists.concat())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
[licenses]
allow = ["MIT", "Apache-2.0"]
exceptions = [{ crate = "odd", allow = ["CDLA-Permissive-2.0"] }]
[bans]
deny = [{ crate = "openssl", reason = "one TLS library is enough" }]
[sources]
unknown-registry = "deny"
unknown-git = "deny"
"#;

    fn package(name: &str, license: Option<&str>, source: Option<&str>) -> Package {
        Package {
            id: name.to_owned(),
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: license.map(str::to_owned),
            source: source.map(str::to_owned),
            dependencies: Vec::new(),
            features: BTreeMap::new(),
        }
    }

    fn findings(packages: Vec<Package>) -> Vec<String> {
        let rules: Rules = toml::from_str(RULES).unwrap();
        let good = [
            package("a", Some("MIT"), Some(CRATES_IO)),
            package("b", Some("Apache-2.0"), None),
            package("odd", Some("CDLA-Permissive-2.0"), Some(CRATES_IO)),
        ];
        let packages = good.into_iter().chain(packages).collect();
        check(
            &rules,
            &Metadata {
                packages,
                workspace_members: Vec::new(),
                resolve: None,
            },
        )
    }

    fn finding(package: Package) -> String {
        let found = findings(vec![package]);
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    }

    #[test]
    fn what_keeps_to_the_rules_is_no_finding() {
        let expressions = [
            "MIT OR GPL-3.0",
            "MIT/Apache-2.0",
            "(MIT OR X) AND Apache-2.0",
        ];
        for expression in expressions {
            let found = findings(vec![package("c", Some(expression), Some(CRATES_IO))]);
            assert_eq!(found, Vec::<String>::new(), "{expression}");
        }
    }

    #[test]
    fn every_breach_is_found() {
        let crates_io = Some(CRATES_IO);
        assert!(finding(package("c", Some("AGPL-3.0"), crates_io)).contains("not allowed"));
        assert!(finding(package("c", Some("MIT AND AGPL-3.0"), crates_io)).contains("not allowed"));
        assert!(
            finding(package("c", Some("MIT WITH Odd-exception"), crates_io))
                .contains("not allowed")
        );
        assert!(
            finding(package("c", Some("CDLA-Permissive-2.0"), crates_io)).contains("not allowed")
        );
        assert!(finding(package("c", Some("MIT AND ("), crates_io)).contains("cannot be read"));
        assert!(finding(package("c", None, crates_io)).contains("names no licence"));
        assert!(finding(package("openssl", Some("MIT"), crates_io)).contains("one TLS library"));
        let git = Some("git+https://example.org/x#1");
        assert!(finding(package("c", Some("MIT"), git)).contains("git repository"));
        let registry = Some("registry+https://example.org/index");
        assert!(finding(package("c", Some("MIT"), registry)).contains("another registry"));
    }

    #[test]
    fn a_rule_that_nobody_applies_is_an_error() {
        assert!(toml::from_str::<Rules>(&RULES.replace("[bans]", "[bans]\nskip = []")).is_err());
        let rules: Rules = toml::from_str(RULES).unwrap();
        let none = Metadata {
            packages: Vec::new(),
            workspace_members: Vec::new(),
            resolve: None,
        };
        let found = check(&rules, &none);
        assert!(
            found
                .iter()
                .any(|one| one.contains("allows MIT, which nothing needs")),
            "{found:?}"
        );
        assert!(
            found.iter().any(|one| one.contains("excepts odd")),
            "{found:?}"
        );
    }
}
