//! What a team or a platform decides about the gates: which rule is how bad, and what counts as small.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalogue;

/// How bad a finding is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Note,
    Warning,
    Error,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A rule's severity as it is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Off,
    Note,
    Warning,
    Error,
}

impl Level {
    /// `None` where the rule says nothing.
    pub fn severity(self) -> Option<Severity> {
        match self {
            Self::Off => None,
            Self::Note => Some(Severity::Note),
            Self::Warning => Some(Severity::Warning),
            Self::Error => Some(Severity::Error),
        }
    }
}

/// The decisions, as one small file holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Policy {
    /// A table with fewer rows than this is small: reading or rewriting it is over before it hurts.
    pub small_rows: u64,
    /// A table smaller than this, indexes included, is small.
    pub small_bytes: u64,
    /// By rule.
    pub rules: BTreeMap<String, Level>,
    /// What differs in an environment.
    pub environments: BTreeMap<String, Rules>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    #[serde(default)]
    pub rules: BTreeMap<String, Level>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            small_rows: 10_000,
            small_bytes: 16 << 20,
            rules: BTreeMap::new(),
            environments: BTreeMap::new(),
        }
    }
}

impl Policy {
    /// The policy of one environment, with nothing left of the others.
    #[must_use]
    pub fn of_environment(mut self, environment: Option<&str>) -> Self {
        let environments = std::mem::take(&mut self.environments);
        if let Some(own) = environment.and_then(|name| environments.get(name)) {
            self.rules.extend(own.rules.clone());
        }
        self
    }

    /// The rules that are named and do not exist.
    pub fn unknown_rules(&self) -> Vec<&str> {
        let everywhere = self.environments.values().map(|own| &own.rules);
        std::iter::once(&self.rules)
            .chain(everywhere)
            .flat_map(BTreeMap::keys)
            .map(String::as_str)
            .filter(|name| catalogue::rule(name).is_none())
            .collect()
    }

    /// What is configured for a rule, if anything is.
    pub fn level(&self, rule: &str) -> Option<Level> {
        self.rules.get(rule).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_says_only_what_differs() {
        let text = "small-rows = 5\n[rules]\ndrop-loses-data = \"error\"\nindex-blocks-writes = \"off\"\n\
                    [environments.dev.rules]\ndrop-loses-data = \"off\"\nnonsense = \"note\"\n";
        let policy: Policy = toml::from_str(text).unwrap();
        assert_eq!(policy.unknown_rules(), ["nonsense"]);
        let dev = policy.clone().of_environment(Some("dev"));
        assert_eq!(dev.level("drop-loses-data"), Some(Level::Off));
        assert_eq!(dev.level("index-blocks-writes"), Some(Level::Off));
        let prod = policy.of_environment(Some("prod"));
        assert_eq!(prod.level("drop-loses-data"), Some(Level::Error));
        assert_eq!(prod.small_rows, 5);
        assert!(toml::from_str::<Policy>("small_rows = 1").is_err());
    }
}
