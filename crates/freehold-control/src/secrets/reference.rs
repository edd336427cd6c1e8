//! Secrets that live elsewhere.

use std::time::Duration;

use freehold_model::{Result, Secret, kinds::SecretReference};

/// Reads what a [`SecretReference`] names: `env:`, `file:`, `exec:`.
#[derive(Debug, Clone)]
pub struct SecretResolver {
    pub timeout: Duration,
    pub bytes_max: usize,
}

impl Default for SecretResolver {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            bytes_max: 64 * 1024,
        }
    }
}

impl SecretResolver {
    /// The secret, without the newline at its end. Errors name the reference, never the secret.
    pub async fn resolve(&self, _reference: &SecretReference) -> Result<Secret> {
        unimplemented!()
    }
}
