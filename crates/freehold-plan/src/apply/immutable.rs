//! Fields that cannot change once set, and what to do instead.

use std::fmt;

use freehold_model::{
    Kind, Name, Resource,
    kinds::{ClassSpec, Isolation},
};
use serde_json::{Value, json};

use super::diff::Change;
use crate::{pointer, text::shown};

/// A field that cannot change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImmutableField {
    /// JSON pointer; everything below it is immutable too.
    pub pointer: &'static str,
    /// Why, and what to do instead, as whole sentences.
    pub instead: &'static str,
}

/// An attempt to change a field that cannot change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImmutableChange {
    pub pointer: String,
    pub message: String,
    pub instead: String,
}

impl fmt::Display for ImmutableChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.message, self.instead)
    }
}

/// An instance stays the same server for its whole life; the address is the one part of it that
/// a company changes without changing the server, but Freehold cannot tell the two apart from a
/// manifest. The identity check of the first inspection after a change would catch a wrong one too
/// late: the reconcilers would already have been asked to repair databases that are not there.
const INSTANCE: &[ImmutableField] = &[
    ImmutableField {
        pointer: "/spec/engine",
        instead: "An instance never becomes another engine. Register the other server under a new \
                  name and cordon this one.",
    },
    ImmutableField {
        pointer: "/spec/external/host",
        instead: "Another address is another server until proven otherwise. Register it under a \
                  new name and cordon this one; give workloads a new address with \
                  `external.workloadEndpoint`, which may change.",
    },
    ImmutableField {
        pointer: "/spec/external/port",
        instead: "Another port is another server until proven otherwise. Register it under a new \
                  name and cordon this one; give workloads a new port with \
                  `external.workloadEndpoint`, which may change.",
    },
    ImmutableField {
        pointer: "/spec/external/adminDatabase",
        instead: "The registry of what Freehold owns lives in that database. Register the server \
                  under a new name when it must live elsewhere.",
    },
    ImmutableField {
        pointer: "/spec/local/version",
        instead: "A private server is not upgraded in place. Apply a new instance with the version \
                  you need and cordon this one.",
    },
    ImmutableField {
        pointer: "/spec/local/port",
        instead: "Programs hold bindings with this port. Apply a new instance with the port you \
                  need and cordon this one.",
    },
];

const CLASS: &[ImmutableField] = &[
    ImmutableField {
        pointer: "/spec/engine",
        instead: "Databases of this class are on that engine. Apply a new class for the other \
                  engine.",
    },
    ImmutableField {
        pointer: "/spec/isolation",
        instead: "Databases of this class are placed by it, and nothing placed moves silently. \
                  Apply a new class with the other isolation.",
    },
];

const ACCESS: &[ImmutableField] = &[
    ImmutableField {
        pointer: "/spec/database",
        instead: "The credentials that were handed out are for that database. Apply a new access \
                  and delete this one.",
    },
    ImmutableField {
        pointer: "/spec/subject",
        instead: "The credentials that were handed out are that workload's. Apply a new access and \
                  delete this one.",
    },
];

/// The immutable fields of `kind`. A database's `class` may change within its engine and
/// isolation: see [`check_class_change`].
pub fn immutable(kind: Kind) -> &'static [ImmutableField] {
    match kind {
        Kind::Instance => INSTANCE,
        Kind::Class => CLASS,
        Kind::Access => ACCESS,
        Kind::Environment
        | Kind::Team
        | Kind::Workload
        | Kind::Database
        | Kind::Binding
        | Kind::Operation => &[],
    }
}

pub(super) fn violated(merged: &Resource, changes: &[Change]) -> Vec<ImmutableChange> {
    let sort = becomes_another_sort(merged.kind, changes);
    if !sort.is_empty() {
        return sort;
    }
    immutable(merged.kind)
        .iter()
        .filter_map(|field| {
            let within = |change: &&Change| {
                pointer::is_within(&change.pointer, field.pointer) && !says_the_same(merged, change)
            };
            changes
                .iter()
                .find(within)
                .map(|change| described(change, field.instead))
        })
        .collect()
}

/// Whether a change only spells out what holds anyway, or stops doing so.
fn says_the_same(merged: &Resource, change: &Change) -> bool {
    let default = match (merged.kind, change.pointer.as_str()) {
        (Kind::Instance, "/spec/external/port") => json!(5432),
        (Kind::Instance, "/spec/external/adminDatabase") => json!("postgres"),
        (Kind::Class, "/spec/isolation") => json!("shared"),
        (Kind::Access, "/spec/subject/team") => json!(merged.metadata.namespace),
        _ => return false,
    };
    let effective = |side: &Option<Value>| side.clone().unwrap_or_else(|| default.clone());
    effective(&change.before) == effective(&change.after)
}

/// From `external` to `local` or back.
fn becomes_another_sort(kind: Kind, changes: &[Change]) -> Vec<ImmutableChange> {
    let below = |parent: &str, gone: bool| {
        changes.iter().find(|change| {
            pointer::is_within(&change.pointer, parent)
                && if gone {
                    change.after.is_none()
                } else {
                    change.before.is_none()
                }
        })
    };
    let pairs = [
        ("/spec/external", "/spec/local"),
        ("/spec/local", "/spec/external"),
    ];
    for (from, to) in pairs {
        if kind == Kind::Instance && below(from, true).is_some() && below(to, false).is_some() {
            return vec![ImmutableChange {
                pointer: to.to_owned(),
                message: format!(
                    "An instance cannot change from {} to {}.",
                    pointer::human(from),
                    pointer::human(to)
                ),
                instead: "Apply a new instance under another name and cordon this one.".to_owned(),
            }];
        }
    }
    Vec::new()
}

fn described(change: &Change, instead: &str) -> ImmutableChange {
    let field = pointer::human(&change.pointer);
    let side = |value: &Option<Value>| match value {
        None => "nothing".to_owned(),
        Some(value) => shown(&value.to_string()).into_owned(),
    };
    ImmutableChange {
        pointer: change.pointer.clone(),
        message: format!(
            "{field} cannot change (from {} to {}).",
            side(&change.before),
            side(&change.after)
        ),
        instead: instead.to_owned(),
    }
}

/// A database may change its class as long as the engine stays and the instance it is on still
/// meets the isolation. Called by whoever knows both classes, after [`super::merge`].
pub fn check_class_change(
    old: (&Name, &ClassSpec),
    new: (&Name, &ClassSpec),
) -> Result<(), ImmutableChange> {
    let ((old_name, old), (new_name, new)) = (old, new);
    let refused = |message: String, instead: &str| {
        Err(ImmutableChange {
            pointer: "/spec/class".to_owned(),
            message,
            instead: instead.to_owned(),
        })
    };
    if old.engine != new.engine {
        return refused(
            format!(
                "Class `{new_name}` is of engine {}, and the database is on {} (class \
                 `{old_name}`).",
                new.engine, old.engine
            ),
            "Changing the engine is a move of the data, which Freehold does not do yet: apply a \
             new database of that class and copy the data.",
        );
    }
    let isolated = |class: &ClassSpec| class.isolation == Isolation::Dedicated;
    if isolated(new) && !isolated(old) {
        return refused(
            format!(
                "Class `{new_name}` asks for a dedicated instance, and the database is on a \
                 shared one (class `{old_name}`)."
            ),
            "Nothing placed moves silently: apply a new database of that class and copy the data.",
        );
    }
    Ok(())
}
