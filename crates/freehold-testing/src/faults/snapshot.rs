//! What a world looks like when the work is done, in lines that can be compared.

use std::{collections::BTreeMap, fmt};

/// Named sections of lines: `catalog`, `history`, `records`, `audit`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, Vec<String>>);

impl Snapshot {
    pub fn new() -> Self {
        Self::default()
    }

    /// A section whose lines have a meaningful order.
    #[must_use]
    pub fn ordered<L: fmt::Display>(
        mut self,
        name: &str,
        lines: impl IntoIterator<Item = L>,
    ) -> Self {
        let lines = lines.into_iter().map(|line| line.to_string()).collect();
        self.0.insert(name.to_owned(), lines);
        self
    }

    /// A section that is a set.
    #[must_use]
    pub fn unordered<L: fmt::Display>(
        self,
        name: &str,
        lines: impl IntoIterator<Item = L>,
    ) -> Self {
        let mut lines: Vec<_> = lines.into_iter().map(|line| line.to_string()).collect();
        lines.sort();
        self.ordered(name, lines)
    }

    /// What differs, in lines for people: `-` is missing from the other, `+` is only there.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let mut text = String::new();
        let names = self.0.keys().chain(other.0.keys());
        for name in names.collect::<std::collections::BTreeSet<_>>() {
            let none = Vec::new();
            let (ours, theirs) = (
                self.0.get(name).unwrap_or(&none),
                other.0.get(name).unwrap_or(&none),
            );
            if ours == theirs {
                continue;
            }
            text.push_str(&format!("    {name}:\n"));
            let (missing, added) = (surplus(ours, theirs), surplus(theirs, ours));
            if missing.is_empty() && added.is_empty() {
                text.push_str(&format!(
                    "      the same lines in another order: {theirs:?}\n"
                ));
            }
            for line in missing {
                text.push_str(&format!("      - {line}\n"));
            }
            for line in added {
                text.push_str(&format!("      + {line}\n"));
            }
        }
        (!text.is_empty()).then_some(text)
    }
}

/// The lines of `these` that `those` does not have, or not as often.
fn surplus<'a>(these: &'a [String], those: &[String]) -> Vec<&'a String> {
    let mut left: BTreeMap<&String, usize> = BTreeMap::new();
    for line in those {
        *left.entry(line).or_default() += 1;
    }
    let extra = these.iter().filter(|line| match left.get_mut(line) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    });
    extra.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_section_and_lines() {
        let one = Snapshot::new()
            .unordered("catalog", ["role b", "role a"])
            .ordered("history", ["V1", "V2"]);
        let same = Snapshot::new()
            .unordered("catalog", ["role a", "role b"])
            .ordered("history", ["V1", "V2"]);
        assert_eq!(one.difference(&same), None);
        let other = Snapshot::new()
            .unordered("catalog", ["role a", "role a"])
            .ordered("history", ["V2", "V1"]);
        let text = one.difference(&other).expect("they differ");
        assert_eq!(
            text,
            "    catalog:\n      - role b\n      + role a\n    history:\n      the same lines in \
             another order: [\"V2\", \"V1\"]\n"
        );
    }
}
