//! GitLab's code quality report, which a merge request shows.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{github::joined, sarif::message};
use crate::{Report, Severity};

/// The array that GitLab expects as `artifacts: reports: codequality`.
pub fn code_quality(report: &Report, folder: &str) -> Value {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let findings = report.findings.iter();
    findings
        .map(|finding| {
            let path = joined(folder, &finding.file);
            let line = finding.place.as_ref().map_or(1, |place| place.line);
            // Without the line, so that a finding is the same after lines above it were added; two of the same in one
            // file are counted.
            let same = fingerprint(&[&finding.rule, &path, &finding.message]);
            let count = seen.entry(same.clone()).or_default();
            *count += 1;
            let fingerprint = match *count {
                1 => same,
                count => format!("{same}-{count}"),
            };
            json!({
                "check_name": finding.rule,
                "description": message(finding),
                "severity": match finding.severity {
                    Severity::Error => "major",
                    Severity::Warning => "minor",
                    Severity::Note => "info",
                },
                "fingerprint": fingerprint,
                "location": { "path": path, "lines": { "begin": line } },
            })
        })
        .collect()
}

/// FNV-1a: stable, and nothing more is asked of it.
fn fingerprint(parts: &[&str]) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}")
}
