//! A finding in a script that is fine would be noise, and noise is what makes people turn gates off.

use freehold_lint::Severity;

use crate::folder::{lint, lint_after, read};

#[test]
fn the_bundled_sample_raises_nothing() {
    let report = lint("postgres:15", &read("samples/migrations"), None);
    assert_eq!(report.findings, []);
    assert_eq!((report.scripts, report.statements > 80), (11, true));
}

/// Each prefix of the sample counts as applied once: what is left then meets tables in use, and the few findings are
/// read here.
#[test]
fn the_sample_in_use_raises_what_a_reviewer_would() {
    let files = read("samples/migrations");
    let mut found = Vec::new();
    for applied in 1..9 {
        let report = lint_after("postgres:15", &files, None, Some(&applied.to_string()));
        assert_eq!(report.count(Severity::Error), 0, "{:#?}", report.findings);
        found.extend(
            report
                .findings
                .into_iter()
                .map(|finding| (finding.file, finding.rule)),
        );
    }
    found.sort();
    found.dedup();
    assert_eq!(found, []);
}
