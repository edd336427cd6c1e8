//! placeholder
pub mod authorize;
mod caller;
pub use caller::Caller;
