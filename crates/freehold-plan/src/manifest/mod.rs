//! From the text of a manifest to typed resources, with every fault named by document, line and
//! field.

mod validate;

use std::fmt;

use freehold_model::{Name, Resource};

pub use validate::{Typed, Violation, validate, validate_with_class};

/// The longest text that is read.
pub const TEXT_BYTES_MAX: usize = 5 * 1024 * 1024;

/// What the command's context adds to manifests that do not say it themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// Put into `metadata.environment` of the kinds that live in an environment.
    pub environment: Option<Name>,
    /// Put into `metadata.namespace` of the kinds that belong to a team.
    pub team: Option<Name>,
}

/// One resource of a manifest and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Position in the text, from 1. The items of a `List` count as documents of their own.
    pub number: usize,
    /// Where the document starts, from 1.
    pub line: usize,
    /// Validated; what only the server writes has been left out.
    pub resource: Resource,
    pub typed: Typed,
}

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// From 1; 0 when the text as a whole is meant.
    pub document: usize,
    /// From 1; 0 when unknown.
    pub line: usize,
    /// From 1; 0 when unknown.
    pub column: usize,
    /// The resource, as far as it could be read, e.g. `Database/orders`.
    pub resource: Option<String>,
    /// As people write it: `spec.access[0].level`. Empty when the document as a whole is meant.
    pub field: String,
    /// What is wrong, the nearest right thing included.
    pub message: String,
}

/// Everything that is wrong with a manifest, in the order of the text. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.0 {
            writeln!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl From<Faults> for freehold_model::Error {
    fn from(faults: Faults) -> Self {
        Self::invalid(faults.to_string())
    }
}

/// Reads one or many documents, YAML or JSON, a `List` included, fills in the context, refuses
/// duplicates, and validates each resource.
pub fn parse(text: &str, context: &Context) -> Result<Vec<Document>, Faults> {
    let _ = (text, context);
    unimplemented!()
}

/// The YAML form of a resource as people read it: what they may write first, status last, what
/// only the server needs (`managedFields`) left out. [`parse`] reads it back.
pub fn to_yaml(resource: &Resource) -> String {
    let _ = resource;
    unimplemented!()
}

/// The YAML form of any JSON value.
pub fn value_to_yaml(value: &serde_json::Value) -> String {
    let _ = value;
    unimplemented!()
}

/// The known word nearest to `word`, when one is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let _ = (word, known.into_iter().next());
    unimplemented!()
}
