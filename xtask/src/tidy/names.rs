//! Nothing in the repository names the machine it was written on: such a line works for one person
//! and misleads all others.

use std::path::Path;

use super::{Finding, Text};

/// What must not occur: the folders of whoever runs this.
pub(super) fn forbidden(root: &Path) -> Vec<String> {
    let mut words = Vec::new();
    let home = std::env::var("HOME").ok();
    for folder in [home.as_deref(), root.to_str()].into_iter().flatten() {
        let folder = folder.trim_end_matches('/');
        // `/` or `/app` would be found everywhere and says nothing of a person's machine.
        if folder.len() > 4 {
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

/// A folder counts where a path begins, so that `a/home/b` is no finding for `/home/`.
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
    fn paths_of_one_machine_are_found() {
        let forbidden = forbidden(Path::new("/home/somebody/freehold"));
        let bad = [
            format!("see {}target", concat!("/home/some", "body/freehold/")),
            format!("\"{}\"", concat!("/home/some", "body/freehold/x")),
        ];
        for line in bad {
            assert_eq!(check(&[text("a.md", &line)], &forbidden).len(), 1, "{line}");
        }
    }

    #[test]
    fn ordinary_text_is_fine() {
        let forbidden = forbidden(Path::new("/home/somebody/freehold"));
        let lines = "the root / of a tree, net/home/somebody/freehold/x, {}/home/somebody/freehold/y, /home, https://freehold.example/";
        assert_eq!(
            check(&[text("a.md", lines)], &forbidden),
            Vec::<Finding>::new()
        );
    }
}
