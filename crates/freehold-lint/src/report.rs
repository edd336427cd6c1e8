//! What the gates say.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Severity;

/// The outcome of one check. Its JSON form is what `freehold lint -o json` prints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The engine that was assumed, `postgres:15`.
    pub engine: String,
    /// How many pending scripts and statements were looked at.
    pub scripts: usize,
    pub statements: usize,
    /// In the order of the scripts, and by place within one.
    pub findings: Vec<Finding>,
    /// What a comment in the script allows.
    pub suppressed: Vec<Suppressed>,
}

/// One thing worth saying about one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    pub rule: String,
    pub severity: Severity,
    /// Relative to the folder, `/` separated.
    pub file: String,
    /// Missing where the finding is about the file as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What happens here.
    pub message: String,
    /// Why that is bad.
    pub why: String,
    /// The same without the harm: the text of each script, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instead: Vec<String>,
    /// What else there is to know or to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The rule's page, relative to the documentation of Freehold.
    pub page: String,
}

/// From the first character to the one after the last; lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    pub line: u32,
    pub column: u32,
    pub end_line: u32,
    pub end_column: u32,
    /// The first line, at most 200 characters of it.
    pub excerpt: String,
}

/// A finding that a comment allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Suppressed {
    pub finding: Finding,
    pub reason: String,
    /// The last day, `2027-01-31`.
    pub until: String,
}

impl Report {
    pub fn count(&self, severity: Severity) -> usize {
        let of = |finding: &&Finding| finding.severity == severity;
        self.findings.iter().filter(of).count()
    }

    /// The worst severity among the findings.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}
