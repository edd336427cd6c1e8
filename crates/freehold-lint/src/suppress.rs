//! Comments that allow a finding: `-- freehold:allow drop-loses-data until 2027-01-31: unused since May`.
//!
//! A comment belongs to the statement after it, or to the one that ends on its line. It must say a rule, a
//! last day and a reason, because who reads it later has to decide whether it still holds; one that does
//! not is a finding itself, and so is one that has ended or allows nothing.

use jiff::civil::Date;

use crate::{Script, catalogue};

const MARK: &str = "freehold:allow";

/// One such comment.
#[derive(Debug, Clone)]
pub(crate) struct Allow {
    /// Byte offsets of the comment.
    pub start: usize,
    pub end: usize,
    /// Index of the statement it belongs to; the file as a whole where there is none.
    pub statement: Option<usize>,
    /// Before the first statement: for findings about the file too.
    pub of_file: bool,
    pub said: Result<Said, String>,
    pub used: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub rule: String,
    pub until: Date,
    pub reason: String,
}

/// All of a script, in order. Only what lies outside of statements counts, so that no string is taken for one.
pub(crate) fn allowed(script: &Script<'_>) -> Vec<Allow> {
    let mut found = Vec::new();
    let mut from = 0;
    for index in 0..=script.statements.len() {
        let statement = script.statements.get(index);
        let to = statement.map_or(script.text.len(), |range| range.start);
        if let Some(gap) = script.text.get(from..to) {
            in_gap(script, gap, from, index, &mut found);
        }
        from = statement.map_or(to, |range| range.end);
    }
    found
}

fn in_gap(script: &Script<'_>, gap: &str, from: usize, next: usize, found: &mut Vec<Allow>) {
    let mut at = from;
    for (number, line) in gap.split_inclusive(['\n', '\r']).enumerate() {
        let start = at;
        at += line.len();
        // What follows a statement on its line begins with the semicolon.
        let trimmed =
            line.trim_start_matches(|c: char| c.is_whitespace() || c == ';' || c == '\u{feff}');
        let Some(comment) = trimmed.strip_prefix("--") else {
            continue;
        };
        let Some(text) = comment.trim_start().strip_prefix(MARK) else {
            continue;
        };
        let trails = number == 0 && next > 0;
        let statement = if trails {
            Some(next - 1)
        } else {
            (next < script.statements.len()).then_some(next)
        };
        let begin = start + (line.len() - trimmed.len());
        found.push(Allow {
            start: begin,
            end: begin + trimmed.trim_end().len(),
            statement,
            of_file: next == 0,
            said: understand(text.trim()),
            used: false,
        });
    }
}

fn understand(text: &str) -> Result<Said, String> {
    let (head, reason) = text.split_once(':').unwrap_or((text, ""));
    let words: Vec<&str> = head.split_whitespace().collect();
    let [rule, "until", until] = words.as_slice() else {
        return Err("it does not say a rule and a last day".to_owned());
    };
    if catalogue::rule(rule).is_none() {
        return Err(format!("there is no rule {rule}"));
    }
    let until: Date = until
        .parse()
        .map_err(|_| format!("{until} is no day; write it as 2027-01-31"))?;
    let reason = reason.trim();
    if reason.is_empty() {
        return Err("it gives no reason".to_owned());
    }
    Ok(Said {
        rule: (*rule).to_owned(),
        until,
        reason: reason.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_says_rule_day_and_reason() {
        let said =
            understand("drop-loses-data until 2027-01-31: unused since May: see notes").unwrap();
        assert_eq!(said.rule, "drop-loses-data");
        assert_eq!(said.reason, "unused since May: see notes");
        for (text, why) in [
            ("", "rule"),
            ("drop-loses-data", "last day"),
            ("drop-loses-data: because", "last day"),
            ("drop-loses-data until 2027-01-31", "reason"),
            ("drop-loses-data until 2027-01-31:  ", "reason"),
            ("drop-loses-data until tomorrow: x", "no day"),
            ("nonsense until 2027-01-31: x", "no rule nonsense"),
        ] {
            let error = understand(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
