//! What Freehold asks of a database server, and the drivers that do it.
//!
//! * [`Engine`]: one server seen with its administrator's eyes. It inspects, reserves names,
//!   converges one database to what is desired, and opens and closes the migrator's door. All it
//!   gets are plain values ([`DesiredDatabase`]); all it returns are facts and [`Difference`](freehold_model::kinds::Difference)s.
//! * [`ScriptSession`]: one pinned, cancellable connection of one login, for migration scripts.
//!
//! An engine decides purely and acts thinly: it observes the server, its `plan.rs` computes the
//! actions as values, and only then does it act. Every effect inside a server checks and locks the
//! [`Fence`]'s epoch in the server's registry row in its own transaction, so that a worker that
//! slept past its lease changes nothing when it wakes.
//!
//! One folder per engine, each with the same file names. This crate knows neither the store nor the
//! resources' lifecycle.

#[cfg(feature = "conformance")]
pub mod conformance;
mod desired;
mod engine;
mod error;
#[cfg(feature = "mariadb")]
pub mod mariadb;
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
mod session;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod target;

pub use desired::{
    DesiredAccess, DesiredDatabase, DesiredLogin, DesiredState, Fence, LoginState, Migrator, Stamp,
};
pub use engine::{
    Capabilities, ConvergeMode, DynEngine, Engine, EngineHandle, InstanceFacts, Survey,
    SurveyedDatabase,
};
pub use error::{EngineError, Fault, Result, StatementError};
pub use session::{Cancelling, CopySource, Executed, Interrupted, ScriptSession, SessionCanceller};
pub use target::{ConnectTarget, Tls};
