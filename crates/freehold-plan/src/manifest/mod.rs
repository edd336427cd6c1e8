//! From the text of a manifest to typed resources, with every fault named by document, line and
//! field.
//!
//! [`parse`] reads the text into a tree that knows where everything was written (`text`), finds the
//! kind, walks the tree's value beside the published schema (`shape`), checks the rules that span
//! fields (`rules`), and hands back resources in their untyped and typed form. It never stops at
//! the first fault: all documents are read, all faults are said, up to a number that a person
//! would still read.
//!
//! A manifest is hostile: its length, depth, number of documents and number of values (aliases
//! expanded) are bounded, and each is checked before memory is spent on it.
//!
//! What only the server writes (`status`, `metadata.uid` and so on, labels under `freehold.dev`) is
//! ignored, so that the output of `freehold get -o yaml` can be applied as it is.

mod rules;
mod shape;
mod text;
mod validate;
mod yaml;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use freehold_model::{API_VERSION, Kind, Metadata, Name, Resource, ResourceKey, Scope};
use serde_json::{Map, Value};

use self::text::{Content, Node, Position, Tree};
pub(crate) use self::validate::without_nulls;
pub use self::{
    validate::{Typed, Violation, validate, validate_with_class},
    yaml::{to_yaml, value_to_yaml},
};
pub use crate::text::nearest;
use crate::{pointer, schema, text::shown};

/// The longest text that is read.
pub const TEXT_BYTES_MAX: usize = 5 * 1024 * 1024;
/// The most resources that one text may hold.
pub const DOCUMENTS_MAX: usize = 20_000;
/// The largest single resource, roughly in bytes of its text.
pub const RESOURCE_BYTES_MAX: usize = 512 * 1024;
/// More faults than these are counted, not listed.
pub const FAULTS_MAX: usize = 100;

/// Labels whose key's domain is this or lies below it are written by Freehold alone.
pub const RESERVED_LABEL_DOMAIN: &str = "freehold.dev";

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
    /// From 1; 0 when the text as a whole is meant.
    pub line: usize,
    /// From 1; 0 when the text as a whole is meant.
    pub column: usize,
    /// The resource, as far as it could be read, e.g. `Database/orders`.
    pub resource: Option<String>,
    /// As people write it: `spec.access[0].level`. Empty when the document as a whole is meant.
    pub field: String,
    /// What is wrong, the nearest right thing included.
    pub message: String,
}

/// Everything that is wrong with a manifest, in the order of the text. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    pub faults: Vec<Fault>,
    /// How many more there are beyond [`FAULTS_MAX`].
    pub more: usize,
}

impl std::error::Error for Faults {}

/// `document 2, line 14, column 5: Database/orders: unknown field `acces` in spec, did you …`
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.document > 0 {
            let (document, line, column) = (self.document, self.line, self.column);
            write!(f, "document {document}, line {line}, column {column}: ")?;
        }
        if let Some(resource) = &self.resource {
            write!(f, "{resource}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            write!(f, "{line_break}{fault}")?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl From<Faults> for freehold_model::Error {
    fn from(faults: Faults) -> Self {
        Self::invalid(faults.to_string())
            .hint("Nothing was applied. docs/manifests.md lists every field of every kind.")
    }
}

/// Reads one or many documents, YAML or JSON, a `List` included, fills in the context, refuses
/// duplicates, and validates each resource. Documents keep the order of the text.
pub fn parse(text: &str, context: &Context) -> Result<Vec<Document>, Faults> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Faults::whole(format!(
            "the manifest is {} bytes long; {TEXT_BYTES_MAX} are allowed: split it",
            text.len()
        )));
    }
    let mut reading = Reading::new(context);
    for tree in text::read(text) {
        reading.tree(tree);
    }
    reading.finish()
}

impl Faults {
    fn whole(message: String) -> Self {
        let fault = Fault {
            document: 0,
            line: 0,
            column: 0,
            resource: None,
            field: String::new(),
            message,
        };
        Self {
            faults: vec![fault],
            more: 0,
        }
    }
}

/// One document while it is read.
struct Source<'n> {
    number: usize,
    node: &'n Node,
    /// `Database/orders`, as far as known.
    label: Option<String>,
}

struct Reading<'c> {
    context: &'c Context,
    number: usize,
    documents: Vec<Document>,
    faults: Faults,
    seen: HashMap<ResourceKey, usize>,
}

impl<'c> Reading<'c> {
    fn new(context: &'c Context) -> Self {
        Self {
            context,
            number: 0,
            documents: Vec::new(),
            faults: Faults {
                faults: Vec::new(),
                more: 0,
            },
            seen: HashMap::new(),
        }
    }

    fn finish(self) -> Result<Vec<Document>, Faults> {
        if !self.faults.faults.is_empty() {
            Err(self.faults)
        } else if self.number > DOCUMENTS_MAX {
            Err(Faults::whole(format!(
                "the manifest holds {} resources; {DOCUMENTS_MAX} are allowed: split it",
                self.number
            )))
        } else if self.documents.is_empty() {
            Err(Faults::whole(
                "the manifest holds no resource: it is empty or only comments".to_owned(),
            ))
        } else {
            Ok(self.documents)
        }
    }

    fn tree(&mut self, tree: Tree) {
        match tree.root {
            Err(unreadable) => {
                self.number += 1;
                self.fault(self.number, unreadable.at, None, "", unreadable.message);
            }
            Ok(root) => match list_items(&root) {
                None => self.document(&root, tree.bytes),
                Some(items) => {
                    for item in items {
                        // A list's items share its size; each is measured by itself.
                        let bytes = if tree.bytes > RESOURCE_BYTES_MAX {
                            item.to_value().to_string().len()
                        } else {
                            0
                        };
                        self.document(item, bytes);
                    }
                }
            },
        }
    }

    fn fault(
        &mut self,
        document: usize,
        at: Position,
        resource: Option<String>,
        field: &str,
        message: String,
    ) {
        if self.faults.faults.len() >= FAULTS_MAX {
            self.faults.more += 1;
            return;
        }
        self.faults.faults.push(Fault {
            document,
            line: at.line as usize,
            column: at.column as usize,
            resource,
            field: pointer::human(field),
            message,
        });
    }

    fn complain(&mut self, source: &Source<'_>, violation: Violation) {
        let at = source.node.locate(&violation.pointer);
        let label = source.label.clone();
        self.fault(
            source.number,
            at,
            label,
            &violation.pointer,
            violation.message,
        );
    }

    fn document(&mut self, node: &Node, bytes: usize) {
        self.number += 1;
        let number = self.number;
        if number > DOCUMENTS_MAX {
            return;
        }
        if bytes > RESOURCE_BYTES_MAX {
            let message = format!(
                "the resource is about {bytes} bytes large; {RESOURCE_BYTES_MAX} are allowed"
            );
            return self.fault(number, node.at, None, "", message);
        }
        let mut source = Source {
            number,
            node,
            label: None,
        };
        match resource_kind(node) {
            Err(violations) => {
                for violation in violations {
                    self.complain(&source, violation);
                }
            }
            Ok(kind) => {
                source.label = Some(label(kind, node));
                self.resource(&source, kind);
            }
        }
    }

    fn resource(&mut self, source: &Source<'_>, kind: Kind) {
        let value = source.node.to_value();
        let value = written_by_people(value);
        let shape = shape::check(schema::of(kind), "#", "", &value);
        let violations = match untyped(kind, &value, self.context) {
            // Without a name there is no resource, but its spec's rules are still worth saying.
            None => {
                let spec = value.get("spec").unwrap_or(&Value::Null);
                let name = source.node.get("metadata").and_then(|m| m.get("name"));
                let name = name.and_then(Node::as_text);
                shape
                    .into_iter()
                    .chain(rules::spec(kind, name, spec))
                    .collect()
            }
            Some(resource) => {
                let mut violations = shape;
                violations.extend(validate::across(&resource));
                match validate::finish(&resource, violations) {
                    Ok(typed) => return self.accept(source, resource, typed),
                    Err(violations) => violations,
                }
            }
        };
        for violation in violations {
            self.complain(source, violation);
        }
    }

    fn accept(&mut self, source: &Source<'_>, resource: Resource, typed: Typed) {
        let number = source.number;
        if let Some(first) = self.seen.insert(resource.key(), number) {
            let message = format!(
                "{} is written twice: here and in document {first}",
                resource.key()
            );
            let at = source.node.at;
            return self.fault(number, at, source.label.clone(), "", message);
        }
        self.documents.push(Document {
            number,
            line: source.node.at.line as usize,
            resource,
            typed,
        });
    }
}

impl Node {
    fn as_text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }
}

/// The items of a `List`, as `kubectl get -o json` writes it.
fn list_items(root: &Node) -> Option<&[Node]> {
    let kind = root.get("kind")?.as_text()?;
    match &root.get("items")?.content {
        Content::List(items) if kind.ends_with("List") => Some(items),
        _ => None,
    }
}

fn label(kind: Kind, node: &Node) -> String {
    let name = node
        .get("metadata")
        .and_then(|m| m.get("name"))
        .and_then(Node::as_text);
    match name {
        Some(name) => format!("{kind}/{}", shown(name)),
        None => kind.to_string(),
    }
}

/// Finds the kind, or says what is wrong with the head of the document.
fn resource_kind(node: &Node) -> Result<Kind, Vec<Violation>> {
    let violation = |pointer: &str, key, message: String| Violation {
        pointer: pointer.to_owned(),
        key,
        message,
    };
    if !matches!(node.content, Content::Mapping(_)) {
        let message = "a resource is a mapping with apiVersion, kind, metadata and spec";
        return Err(vec![violation("", "type", message.to_owned())]);
    }
    let mut violations = Vec::new();
    match node.get("apiVersion").map(Node::as_text) {
        None => violations.push(violation(
            "/apiVersion",
            "missing",
            format!("field `apiVersion` is missing; it must be `{API_VERSION}`"),
        )),
        Some(Some(API_VERSION)) => {}
        Some(found) => {
            violations.push(validate::wrong_version(found.unwrap_or("not a text")));
        }
    }
    let kinds = || Kind::ALL.into_iter().filter(|kind| !kind.is_view());
    let known = || kinds().map(Kind::as_str).collect::<Vec<_>>().join(", ");
    match node.get("kind").map(Node::as_text) {
        None => violations.push(violation(
            "/kind",
            "missing",
            format!("field `kind` is missing; it may be {}", known()),
        )),
        Some(None) => violations.push(violation(
            "/kind",
            "type",
            format!("kind must be a text: {}", known()),
        )),
        Some(Some(text)) => match Kind::ALL.into_iter().find(|kind| kind.as_str() == text) {
            Some(kind) => violations.extend(validate::applicable(kind)),
            None => {
                let meant = Kind::parse(text)
                    .filter(|kind| !kind.is_view())
                    .map(Kind::as_str);
                let meant = meant.or_else(|| nearest(text, kinds().map(Kind::as_str)));
                let advice = match meant {
                    Some(word) => format!("did you mean `{word}`?"),
                    None => format!("it may be {}", known()),
                };
                let message = format!("unknown kind `{}`, {advice}", shown(text));
                violations.push(violation("/kind", "unknownValue", message));
            }
        },
    }
    let kind = node.get("kind").and_then(Node::as_text);
    match Kind::ALL.into_iter().find(|it| Some(it.as_str()) == kind) {
        Some(kind) if violations.is_empty() => Ok(kind),
        _ => Err(violations),
    }
}

/// Leaves out what only the server writes.
fn written_by_people(mut value: Value) -> Value {
    if let Some(document) = value.as_object_mut() {
        document.shift_remove("status");
        if let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in schema::SERVER_WRITTEN {
                metadata.shift_remove(field);
            }
            for map in ["labels", "annotations"] {
                if let Some(map) = metadata.get_mut(map).and_then(Value::as_object_mut) {
                    map.retain(|key, _| !is_reserved_label(key));
                }
            }
        }
    }
    value
}

/// Whether a label or annotation is Freehold's own.
pub fn is_reserved_label(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else {
        return false;
    };
    domain == RESERVED_LABEL_DOMAIN
        || domain
            .strip_suffix(RESERVED_LABEL_DOMAIN)
            .is_some_and(|rest| rest.ends_with('.'))
}

/// The untyped resource, when its metadata can be read.
fn untyped(kind: Kind, value: &Value, context: &Context) -> Option<Resource> {
    let written = value.get("metadata")?.as_object()?;
    let name = |field: &str| match written.get(field) {
        None | Some(Value::Null) => Some(None),
        Some(Value::String(text)) => Name::new(text.as_str()).ok().map(Some),
        Some(_) => None,
    };
    let mut metadata = Metadata::named(name("name")??);
    metadata.namespace = name("namespace")?;
    metadata.environment = name("environment")?;
    metadata.labels = texts(written.get("labels"))?;
    metadata.annotations = texts(written.get("annotations"))?;
    fill_in(&mut metadata, kind, context);
    let spec = match value.get("spec") {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(spec) => without_nulls(spec),
    };
    Some(Resource {
        api_version: API_VERSION.to_owned(),
        kind,
        metadata,
        spec,
        status: None,
    })
}

fn fill_in(metadata: &mut Metadata, kind: Kind, context: &Context) {
    let (in_environment, of_team) = match kind.scope() {
        Scope::Global => (false, false),
        Scope::Environment => (true, false),
        Scope::Team => (false, true),
        Scope::EnvironmentAndTeam => (true, true),
    };
    if in_environment && metadata.environment.is_none() {
        metadata.environment.clone_from(&context.environment);
    }
    if of_team && metadata.namespace.is_none() {
        metadata.namespace.clone_from(&context.team);
    }
}

fn texts(value: Option<&Value>) -> Option<BTreeMap<String, String>> {
    match value {
        None | Some(Value::Null) => Some(BTreeMap::new()),
        Some(Value::Object(object)) => object
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
        Some(_) => None,
    }
}
