//! placeholder
pub mod authorize;
mod caller;
pub use caller::Caller;
pub mod binding_formats;
pub mod secrets;
pub mod tokens;
