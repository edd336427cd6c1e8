//! Fresh passwords.

use freehold_model::{Entropy, Secret};

/// 43 URL-safe characters, 256 bits.
pub fn generate_password(_entropy: &dyn Entropy) -> Secret {
    unimplemented!()
}
