//! Durable one-shot work and exclusive steady-state work, over a store.
//!
//! * An [`Operation`] is a state machine: a serde enum with one variant per phase. The [`Runner`]
//!   calls its step with the saved state and saves what comes back, with an event and the caller's own
//!   records, in one atomic batch under the target's lease. Killed anywhere, another worker goes on
//!   from the last saved state.
//! * A [`Pass`] is a reconciler's exclusive right to observe and repair one target.
//!
//! Both hold the same lease, `target/<uid>`. Its epoch is the fence that every effect inside a server
//! checks, so that a worker which was stopped past its lease and wakes up changes nothing. An
//! operation also holds a claim, a record from the request to the end: one operation per target, and
//! no pass while there is one.
//!
//! The crate knows nothing of what steps do. It leaves out child operations and priorities: an
//! operation that needs another one requests it and waits. `docs/operations.md` has the recipe for
//! a new operation and the answers to "killed here, what then?".

mod backoff;
mod change;
mod claims;
mod context;
mod erased;
mod error;
mod feed;
mod held;
mod meters;
mod nudge;
mod operation;
mod operations;
pub mod record;
mod request;
mod runner;
pub mod saved;
mod saver;
mod worker;

pub use claims::{Claims, Pass, PassError};
pub use context::{Progress, StepContext, repeatable};
pub use error::WorkflowError;
pub use operation::{Cancel, Next, Operation, StepError, Transition};
pub use operations::{OperationFilter, OperationPage, Operations};
pub use record::{Cancellation, Claim, EventRecord, Interrupted, OperationRecord, define};
pub use request::{NewOperation, Requested, Submitted};
pub use runner::{Runner, RunnerConfig};
