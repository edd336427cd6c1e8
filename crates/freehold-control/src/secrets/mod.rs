//! Secrets at rest, secrets that live elsewhere, and fresh passwords.
//!
//! What Freehold must keep (workloads' passwords, the audit log's signing key) is sealed by
//! [`Sealer`] before it goes into the store: whoever has the store alone has nothing. What others
//! keep (admin passwords) is only referenced and read when needed, by [`SecretResolver`].
//!
//! It leaves out key management services and vaults: their command-line tools serve through
//! `exec:`.

mod command;
mod envelope;
mod key_source;
mod password;
mod reference;

pub use envelope::{Place, Sealed, Sealer};
pub use key_source::KeySource;
pub(crate) use key_source::write_new as write_private_file;
pub use password::generate_password;
pub use reference::{Confinement, SecretResolver};
