//! Nothing in the repository names the machine it was written on, or where that machine gets its
//! packages: such a line works for one person and misleads all others.

use std::path::Path;

use super::{Finding, Text};

/// Parts of addresses from which packages are taken. Written in pieces, because this file is
/// looked at as well.
const HOSTS: &[&str] = &[
    concat!("registry.", "npmjs.org"),
    concat!("arti", "factory"),
    concat!("pypi.", "org/simple"),
    concat!("files.python", "hosted.org"),
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("deb.", "debian.org"),
];

/// What must not occur: the hosts, and the folders of whoever runs this.
pub(super) fn forbidden(root: &Path) -> Vec<String> {
    let mut words: Vec<String> = HOSTS.iter().map(|host| (*host).to_owned()).collect();
    words.extend([concat!("/ro", "ot/"), concat!("/wo", "rk/")].map(str::to_owned));
    let home = std::env::var("HOME").ok();
    for folder in [home.as_deref(), root.to_str()].into_iter().flatten() {
        let folder = folder.trim_end_matches('/');
        // `/` or `/app` would be found everywhere and says nothing of a person's machine.
        if folder.len() > 5 {
            words.push(format!("{folder}/"));
        }
    }
    words.sort();
    words.dedup();
    words
}

pub(super) fn check(texts: &[Text], forbidden: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for text in texts {
        for (number, line) in text.content.lines().enumerate() {
            if let Some(word) = forbidden.iter().find(|word| names(line, word)) {
                findings.push(format!(
                    "{}:{}: names `{word}`, which is true on one machine only",
                    text.path.display(),
                    number + 1
                ));
            }
        }
    }
    findings
}

/// A folder counts where a path begins, so that `a/work/b` is no finding.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !word.starts_with('/')
            || !before.is_some_and(|one| one.is_alphanumeric() || "._-*}".contains(one))
    })
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;

    #[test]
    fn paths_and_hosts_of_one_machine_are_found() {
        let forbidden = forbidden(Path::new("/home/somebody/freehold"));
        let bad = [
            format!("see {}registry", concat!("/ro", "ot/")),
            format!("\"{}\"", concat!("/home/some", "body/freehold/x")),
            format!("https://{}/x", HOSTS[0]),
        ];
        for line in bad {
            assert_eq!(check(&[text("a.md", &line)], &forbidden).len(), 1, "{line}");
        }
    }

    #[test]
    fn ordinary_text_is_fine() {
        let forbidden = forbidden(Path::new("/home/somebody/freehold"));
        let lines = "the root / of a tree, net/work/x, {}/work/y, /home, https://freehold.example/";
        assert_eq!(
            check(&[text("a.md", lines)], &forbidden),
            Vec::<Finding>::new()
        );
    }
}
