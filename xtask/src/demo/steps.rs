//! The story that the demo tells, one function per step.

use super::Step;

/// The steps in the order in which they are told; each builds on those before it.
pub(super) fn all() -> &'static [Step] {
    &[]
}
