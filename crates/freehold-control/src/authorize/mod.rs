//! Who may do what. Pure: everything that a decision depends on comes in as an argument.

mod action;
mod decide;

pub use action::{Action, AuditScope};
pub use decide::{Context, Decision, Principal, SubjectKind, TokenContext, authorize};
