//! Lines that GitHub's runner turns into annotations of a pull request.

use super::sarif::message;
use crate::{Report, Severity};

/// One line for each finding. Text is escaped, so that no script can give the runner commands.
pub fn annotations(report: &Report, folder: &str) -> String {
    let mut out = String::new();
    for finding in &report.findings {
        let command = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "notice",
        };
        let mut properties = format!("file={}", property(&joined(folder, &finding.file)));
        if let Some(place) = &finding.place {
            properties.push_str(&format!(
                ",line={},endLine={},col={},endColumn={}",
                place.line, place.end_line, place.column, place.end_column
            ));
        }
        properties.push_str(&format!(",title={}", property(&finding.rule)));
        out.push_str(&format!(
            "::{command} {properties}::{}\n",
            data(&message(finding))
        ));
    }
    out
}

pub(super) fn joined(folder: &str, file: &str) -> String {
    match folder.trim_end_matches('/') {
        "" | "." => file.to_owned(),
        folder => format!("{}/{file}", folder.trim_start_matches("./")),
    }
}

fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
