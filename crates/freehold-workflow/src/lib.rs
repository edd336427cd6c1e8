//! Durable one-shot work and exclusive steady-state work over a store.

mod claims;
mod context;
mod error;
mod operation;
mod operations;
pub mod record;
mod request;
mod runner;

pub use claims::{Claims, Pass, PassError};
pub use context::{Progress, StepContext};
pub use error::WorkflowError;
pub use operation::{Cancel, Next, Operation, StepError, Transition};
pub use operations::{OperationFilter, OperationPage, Operations};
pub use record::{Cancellation, Claim, EventRecord, OperationRecord, define};
pub use request::{NewOperation, Requested, Submitted};
pub use runner::{Runner, RunnerConfig};
