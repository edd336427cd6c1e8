//! Fresh passwords.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use freehold_model::{Entropy, Secret};
use zeroize::Zeroizing;

/// 43 URL-safe characters that carry 256 bits: they need no escaping anywhere.
pub fn generate_password(entropy: &dyn Entropy) -> Secret {
    let mut bytes = Zeroizing::new([0u8; 32]);
    entropy.fill(bytes.as_mut());
    Secret::new(URL_SAFE_NO_PAD.encode(bytes.as_ref()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use freehold_model::SystemEntropy;

    use super::*;

    #[test]
    fn passwords_differ_and_need_no_escaping() {
        let passwords: HashSet<String> = (0..1_000)
            .map(|_| generate_password(&SystemEntropy).expose().to_owned())
            .collect();
        assert_eq!(passwords.len(), 1_000);
        for password in passwords {
            assert_eq!(password.len(), 43);
            let safe = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            assert!(password.bytes().all(safe), "{password}");
        }
    }
}
