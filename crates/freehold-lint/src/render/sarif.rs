//! SARIF 2.1.0, which code hosts and editors read.

use serde_json::{Value, json};

use crate::{Finding, RULES, Report, Severity, Suppressed};

/// One run of one tool. `folder` is put before the paths, so that they begin at the repository's root.
pub fn log(report: &Report, folder: &str, version: &str) -> Value {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id,
                "shortDescription": { "text": rule.title },
                "fullDescription": { "text": rule.why },
                "defaultConfiguration": { "level": rule.severity.as_str() },
            })
        })
        .collect();
    let findings = report
        .findings
        .iter()
        .map(|finding| result(finding, folder, None));
    let suppressed = report
        .suppressed
        .iter()
        .map(|suppressed| result(&suppressed.finding, folder, Some(suppressed)));
    let results: Vec<Value> = findings.chain(suppressed).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "freehold lint", "version": version, "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn result(finding: &Finding, folder: &str, suppressed: Option<&Suppressed>) -> Value {
    let mut location = json!({ "artifactLocation": { "uri": uri(&super::github::joined(folder, &finding.file)) } });
    if let Some(place) = &finding.place {
        location["region"] = json!({
            "startLine": place.line,
            "startColumn": place.column,
            "endLine": place.end_line,
            "endColumn": place.end_column,
        });
    }
    let mut result = json!({
        "ruleId": finding.rule,
        "ruleIndex": RULES.iter().position(|rule| rule.id == finding.rule),
        "level": level(finding.severity),
        "message": { "text": message(finding) },
        "locations": [{ "physicalLocation": location }],
    });
    if let Some(suppressed) = suppressed {
        result["suppressions"] = json!([{
            "kind": "inSource",
            "justification": format!("{} (until {})", suppressed.reason, suppressed.until),
        }]);
    }
    result
}

fn level(severity: Severity) -> &'static str {
    severity.as_str()
}

/// Everything about a finding in one text.
pub(super) fn message(finding: &Finding) -> String {
    let mut text = format!("{}: {}", finding.message, finding.why);
    for (index, script) in finding.instead.iter().enumerate() {
        text.push_str(if index == 0 {
            "\n\nInstead:\n"
        } else {
            "\n\nThen, in the next script:\n"
        });
        text.push_str(script);
    }
    if let Some(advice) = &finding.advice {
        text.push_str(&format!("\n\n{advice}"));
    }
    text
}

/// A relative path as a URI: what is not plain is escaped.
fn uri(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
