//! Rust files: how long they are, what they are called, and what must not be left in them.

use std::path::Path;

use super::rust_source::code_only;
use super::{Finding, Text};

const LONGEST: usize = 600;

/// Names that say nothing about what is inside.
const VAGUE: &[&str] = &[
    "utils", "util", "common", "helpers", "helper", "misc", "types",
];

/// What must not be in committed code, and why.
const LEFTOVERS: &[(&str, &str)] = &[
    ("todo!", "finish it, or do not offer it"),
    ("unimplemented!", "finish it, or do not offer it"),
    ("#[ignore", "a test that does not run proves nothing"),
    ("dbg!", "a trace of debugging"),
];

pub(super) fn check(texts: &[Text]) -> Vec<Finding> {
    texts
        .iter()
        .filter(|text| {
            text.path
                .extension()
                .is_some_and(|extension| extension == "rs")
        })
        .flat_map(check_file)
        .collect()
}

fn check_file(text: &Text) -> Vec<Finding> {
    let path = text.path.display();
    let mut findings = Vec::new();
    let lines = text.content.lines().count();
    if lines > LONGEST {
        findings.push(format!(
            "{path}: {lines} lines; split it by what its parts do (at most {LONGEST})"
        ));
    }
    if let Some(name) = vague(&text.path) {
        findings.push(format!(
            "{path}: `{name}` says nothing; name it after what is inside"
        ));
    }
    let code = code_only(&text.content);
    for (number, line) in code.lines().enumerate() {
        let number = number + 1;
        for (leftover, why) in LEFTOVERS {
            if line.contains(leftover) {
                findings.push(format!("{path}:{number}: {leftover}: {why}"));
            }
        }
        if let Some(name) = inline_module(line).filter(|name| VAGUE.contains(name)) {
            findings.push(format!(
                "{path}:{number}: module `{name}` says nothing; name it after what is inside"
            ));
        }
    }
    findings
}

/// The vague word in a path, be it a file or a folder. The folder of a whole crate counts too.
fn vague(path: &Path) -> Option<&str> {
    path.components()
        .filter_map(|part| Path::new(part.as_os_str()).file_stem()?.to_str())
        .find(|stem| VAGUE.contains(stem))
}

fn inline_module(line: &str) -> Option<&str> {
    let mut words = line
        .split_whitespace()
        .skip_while(|word| word.starts_with("pub"));
    (words.next()? == "mod")
        .then(|| words.next())?
        .map(|name| name.trim_end_matches(['{', ';']))
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;

    fn findings(path: &str, content: &str) -> usize {
        check(&[text(path, content)]).len()
    }

    #[test]
    fn a_plain_file_is_fine() {
        let content = "//! Never write todo!().\nfn a() { b(\"#[ignore]\"); }\nmod commonplace;\n";
        assert_eq!(findings("crates/a/src/lib.rs", content), 0);
        assert_eq!(findings("crates/a/src/lib.rs", &"\n".repeat(600)), 0);
        assert_eq!(
            findings("docs/utils.md", "todo!()"),
            0,
            "only Rust files are looked at"
        );
    }

    #[test]
    fn every_breach_is_found() {
        assert_eq!(findings("a/src/lib.rs", &"\n".repeat(601)), 1);
        assert_eq!(findings("a/src/utils.rs", ""), 1);
        assert_eq!(findings("a/src/common/mod.rs", ""), 1);
        assert_eq!(findings("a/src/lib.rs", "fn a() { todo!() }"), 1);
        assert_eq!(
            findings("a/src/lib.rs", "#[test]\n#[ignore = \"slow\"]\nfn a() {}"),
            1
        );
        assert_eq!(findings("a/src/lib.rs", "pub(crate) mod helpers {\n}"), 1);
        assert_eq!(findings("a/src/lib.rs", "mod misc;"), 1);
    }
}
