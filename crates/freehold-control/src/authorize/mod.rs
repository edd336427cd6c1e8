//! Who may do what. Pure: everything that a decision depends on comes in as an argument.
//!
//! Two kinds of standing exist. A *platform role* comes with the token: an admin may do everything,
//! an operator runs the servers and sees what is on them, but no data and no secret. A *team role*
//! comes from the Team resource: a viewer reads, a developer changes, an owner also decides about
//! other teams' access and about members. What nobody grants is refused.
//!
//! A refusal is [`Decision::Hidden`] when even the thing's existence is none of the caller's
//! business; the answer is then the same as if it did not exist. It is [`Decision::Forbidden`] when
//! the caller may see the thing, or when the answer does not depend on whether it exists.
//!
//! The whole matrix stands in `docs/security.md`; a test keeps it true.
//!
//! It leaves out approval rules and attributes: those come with policies.

mod action;
mod decide;
#[cfg(test)]
mod matrix;

pub use action::{Action, AuditScope};
pub use decide::{Context, Decision, Principal, SubjectKind, TokenContext, authorize};
