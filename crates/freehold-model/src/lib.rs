//! The vocabulary of Freehold.
//!
//! Every word that appears in a manifest, an answer or an error is defined once, here: names and
//! ids, the resource kinds with their spec and status, conditions, errors, secrets, and the two
//! things that must come in from outside, time ([`Clock`]) and randomness ([`Entropy`]).
//!
//! This crate does no I/O and knows no engine. What may be *decided* from these values lives in
//! `freehold-plan`; what is *done* with them lives in `freehold-control`.

mod ambient;
mod condition;
mod error;
mod gate;
mod id;
pub mod kinds;
mod name;
mod resource;
mod secret;
pub mod trace;

pub use ambient::{Clock, Entropy, SystemClock, SystemEntropy};
pub use condition::{Condition, ConditionStatus, ConditionType, Conditions};
pub use error::{Code, Error, Result};
pub use gate::{Gate, GateKeeper, InjectedFault, Point, When};
pub use id::{BundleDigest, ControlPlaneId, OperationId, ServerIdentity, Uid};
pub use kinds::Kind;
pub use name::{InvalidName, Name};
pub use resource::{API_VERSION, Metadata, OwnerReference, Resource, ResourceKey, Scope};
pub use secret::Secret;
