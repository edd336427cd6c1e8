//! Secrets at rest, secrets that live elsewhere, and fresh passwords.

mod envelope;
mod key_source;
mod password;
mod reference;

pub use envelope::{Place, Sealed, Sealer};
pub use key_source::KeySource;
pub use password::generate_password;
pub use reference::SecretResolver;
