//! Every relative link in a document leads somewhere, down to the heading.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::{Finding, Text};

pub(super) fn check(texts: &[Text], files: &[PathBuf]) -> Vec<Finding> {
    let files: BTreeSet<&Path> = files.iter().map(PathBuf::as_path).collect();
    let folders: BTreeSet<&Path> = files
        .iter()
        .flat_map(|file| file.ancestors().skip(1))
        .collect();
    let documents: Vec<&Text> = texts
        .iter()
        .filter(|text| {
            text.path
                .extension()
                .is_some_and(|extension| extension == "md")
        })
        .collect();
    let anchors: BTreeMap<&Path, BTreeSet<String>> = documents
        .iter()
        .map(|text| (text.path.as_path(), anchors(&text.content)))
        .collect();
    let mut findings = Vec::new();
    for document in documents {
        for (number, target) in links(&document.content) {
            let here = format!("{}:{number}", document.path.display());
            let (file, anchor) = target.split_once('#').unwrap_or((target.as_str(), ""));
            let Some(to) = resolve(&document.path, file) else {
                findings.push(format!(
                    "{here}: the link {target} leads out of the repository"
                ));
                continue;
            };
            if !files.contains(to.as_path()) && !folders.contains(to.as_path()) {
                findings.push(format!("{here}: the link {target} leads nowhere"));
            } else if !anchor.is_empty()
                && anchors
                    .get(to.as_path())
                    .is_some_and(|known| !known.contains(anchor))
            {
                findings.push(format!("{here}: {} has no heading #{anchor}", to.display()));
            }
        }
    }
    findings
}

/// The file that a link means, relative to the root. An empty link means the document itself.
fn resolve(document: &Path, link: &str) -> Option<PathBuf> {
    if link.is_empty() {
        return Some(document.to_owned());
    }
    let mut path = match link.strip_prefix('/') {
        Some(_) => PathBuf::new(),
        None => document.parent()?.to_owned(),
    };
    for part in Path::new(link.trim_start_matches('/')).components() {
        match part {
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

/// Line number and target of each link that stays in the repository: `[text](target)`, pictures
/// too, and `[name]: target`. Links in code are none.
fn links(markdown: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(markdown) {
        if let Some(target) = reference(&line) {
            found.push((number, target));
        }
        let mut rest = line.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, next)) = after.split_once(')') else {
                break;
            };
            rest = next;
            // What follows a space is a title.
            if let Some(target) = target.split_whitespace().next() {
                found.push((number, target.trim_matches(['<', '>']).to_owned()));
            }
        }
    }
    found.retain(|(_, target)| !target.contains("://") && !target.starts_with("mailto:"));
    found
}

fn reference(line: &str) -> Option<String> {
    let (name, target) = line.trim_start().strip_prefix('[')?.split_once("]: ")?;
    let footnote = name.starts_with('^') || name.contains(']');
    (!footnote).then(|| target.split_whitespace().next().map(str::to_owned))?
}

/// The lines that are not in a fenced block, with code spans blanked out.
fn prose(markdown: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (number, line) in markdown.lines().enumerate() {
        let trimmed = line.trim_start();
        if trimmed.starts_with("```") || trimmed.starts_with("~~~") {
            fenced = !fenced;
        } else if !fenced {
            let plain: String = line
                .split('`')
                .enumerate()
                .map(|(index, part)| if index % 2 == 0 { part } else { "code" })
                .collect();
            lines.push((number + 1, plain));
        }
    }
    lines
}

/// The anchors of a document's headings, as forges make them: lower case, spaces become dashes,
/// other punctuation goes, a repeated one is numbered.
fn anchors(markdown: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let title = line.trim_start_matches('#');
        let level = line.len() - title.len();
        if fenced || level == 0 || level > 6 || !title.starts_with(' ') {
            continue;
        }
        let slug: String = title
            .trim()
            .to_lowercase()
            .chars()
            .filter_map(|one| match one {
                ' ' => Some('-'),
                '-' | '_' => Some(one),
                _ if one.is_alphanumeric() => Some(one),
                _ => None,
            })
            .collect();
        let count = seen.entry(slug.clone()).or_default();
        found.insert(if *count == 0 {
            slug
        } else {
            format!("{slug}-{count}")
        });
        *count += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;

    fn findings(document: &str) -> Vec<Finding> {
        let other = "# The other\n\n## A `code` heading, with: signs\n\n## Twice\n\n## Twice\n";
        let texts = [
            text("docs/a.md", document),
            text("docs/adr/0001-b.md", other),
        ];
        let files = [
            "docs/a.md",
            "docs/adr/0001-b.md",
            "README.md",
            "docs/picture.png",
        ];
        check(&texts, &files.map(PathBuf::from))
    }

    #[test]
    fn links_that_lead_somewhere_are_fine() {
        for link in [
            "[b](adr/0001-b.md)",
            "[b](./adr/0001-b.md#the-other)",
            "[b](adr/0001-b.md#a-code-heading-with-signs) and [c](../README.md)",
            "[b](adr/0001-b.md#twice-1)",
            "![picture](picture.png \"a title\")",
            "[folder](adr/)",
            "# Here\n[up](#here)",
            "[outside](https://example.org/x#y)",
            "`[code](nowhere.md)`",
            "```\n[code](nowhere.md)\n```",
            "[root](/README.md)",
            "[name]: adr/0001-b.md",
        ] {
            assert_eq!(findings(link), Vec::<Finding>::new(), "{link}");
        }
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        for link in [
            "[b](adr/0002-b.md)",
            "[b](adr/0001-b.md#another)",
            "[b](adr/0001-b.md#twice-2)",
            "[b](../../secret.md)",
            "[here](#nowhere)",
            "good [a](../README.md), bad [b](b.md)",
            "[name]: b.md",
        ] {
            assert_eq!(findings(link).len(), 1, "{link}");
        }
    }
}
