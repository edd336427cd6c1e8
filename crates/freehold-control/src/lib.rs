//! The product: its verbs, who may use them, and the work that follows.
//!
//! [`Control`] is what the server and the tests hold. Each verb is one file in `verbs/`: it checks
//! the caller, reads, decides with the pure functions of `freehold-plan`, and saves change, audit
//! entry and follow-up operation in one batch. Nothing is done to a database server inside a verb.
//!
//! That is the work of two mechanisms. `operations/` hold one-shot work (provision, migrate, close,
//! reopen, retire), run by `freehold-workflow`. `reconcilers/` keep what is there as declared:
//! `instances` looks at the servers, `databases` compares and repairs. Both act on a target only
//! under its claim and lease, and every effect in a server carries the lease's epoch.
//!
//! This crate does not know HTTP.

pub mod authorize;
pub mod binding_formats;
mod caller;
mod converge;
mod credentials;
mod engines;
mod identity;
mod journal;
mod operations;
mod options;
mod reconcilers;
mod records;
mod refused_logins;
pub mod secrets;
mod start;
pub mod tokens;
mod trouble;
mod verbs;
mod world;

pub use caller::Caller;
pub use options::Options;
pub use secrets::KeySource;
pub use start::{Control, Started};
pub use verbs::backup::{RestoreReport, restore};
