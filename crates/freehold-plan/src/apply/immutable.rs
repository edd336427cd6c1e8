//! Fields that cannot change once set, and what to do instead.

use std::fmt;

use freehold_model::{Kind, Name, kinds::ClassSpec};

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

/// The immutable fields of `kind`.
pub fn immutable(kind: Kind) -> &'static [ImmutableField] {
    let _ = kind;
    unimplemented!()
}

/// A database may change its class as long as the engine stays and the isolation is still met.
/// Called by whoever knows both classes, after [`super::merge`].
pub fn check_class_change(
    old: (&Name, &ClassSpec),
    new: (&Name, &ClassSpec),
) -> Result<(), ImmutableChange> {
    let _ = (old, new);
    unimplemented!()
}
