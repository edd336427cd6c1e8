//! The words of the product's verbs: what a request says and what an answer holds.
//!
//! `freehold-control` takes and returns these values, the server carries them over HTTP unchanged,
//! and the client and the CLI read them back. There is one definition of each, so that they cannot
//! part. The types hold no behaviour beyond reading and writing themselves.

mod audit;
mod binding;
#[cfg(feature = "client")]
pub mod client;
mod failure;
mod identity;
mod migration;
mod operation;
mod resource;

pub use audit::{AuditEntry, AuditList, AuditQuery};
pub use binding::{BindingRead, BindingSecret, BindingTarget, FileBinding, ServerBinding};
pub use failure::{Failure, FailureBody};
pub use identity::{
    TokenCreate, TokenCreated, TokenKind, TokenList, TokenView, VersionInfo, Whoami,
};
pub use migration::{
    BundleAccepted, MigrateRequest, MigrationEntry, MigrationList, MigrationQuery, MigrationRow,
};
pub use operation::{
    EventsQuery, OperationEvents, OperationList, OperationQuery, OperationStarted,
};
pub use resource::{
    Applied, ApplyOutcome, ApplyReport, ApplyRequest, Candidate, DeleteReport, Explanation,
    ListQuery, ResourceList, ResourceScope,
};
