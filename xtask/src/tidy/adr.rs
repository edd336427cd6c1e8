//! Decision records are numbered without gaps, and their titles say their numbers.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Finding, Text};

const FOLDER: &str = "docs/adr";

pub(super) fn check(texts: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut numbers: BTreeMap<u32, usize> = BTreeMap::new();
    for text in texts
        .iter()
        .filter(|text| text.path.parent() == Some(Path::new(FOLDER)))
    {
        let path = text.path.display();
        let name = text.path.file_name().unwrap_or_default().to_string_lossy();
        let number = name
            .split_once('-')
            .filter(|(digits, _)| digits.len() == 4 && name.ends_with(".md"))
            .and_then(|(digits, _)| digits.parse::<u32>().ok());
        let Some(number) = number else {
            findings.push(format!(
                "{path}: a decision record is called NNNN-what-was-decided.md"
            ));
            continue;
        };
        *numbers.entry(number).or_default() += 1;
        if !text.content.starts_with(&format!("# {number}. ")) {
            findings.push(format!("{path}: its title begins with `# {number}. `"));
        }
    }
    for (expected, (number, count)) in (0..).zip(&numbers) {
        if *count > 1 {
            findings.push(format!(
                "{FOLDER}: {count} records have the number {number:04}"
            ));
        }
        if *number != expected {
            findings.push(format!("{FOLDER}: the number {expected:04} is missing"));
            break;
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;

    fn findings(records: &[(&str, &str)]) -> usize {
        let texts: Vec<Text> = records
            .iter()
            .map(|(name, title)| text(&format!("docs/adr/{name}"), title))
            .collect();
        check(&texts).len()
    }

    #[test]
    fn numbered_records_are_fine() {
        let records = [
            ("0000-template.md", "# 0. Title"),
            ("0001-a-store.md", "# 1. A store\n"),
        ];
        assert_eq!(findings(&records), 0);
    }

    #[test]
    fn every_breach_is_found() {
        let template = ("0000-template.md", "# 0. Title");
        assert_eq!(findings(&[template, ("store.md", "# 1. A")]), 1);
        assert_eq!(findings(&[template, ("1-store.md", "# 1. A")]), 1);
        assert_eq!(findings(&[template, ("0001-store.md", "# Store")]), 1);
        assert_eq!(findings(&[template, ("0002-store.md", "# 2. Store")]), 1);
        let twice = [template, ("0001-a.md", "# 1. A"), ("0001-b.md", "# 1. B")];
        assert_eq!(findings(&twice), 1);
    }
}
