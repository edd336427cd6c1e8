//! SCRAM-SHA-256 verifiers, computed here so that no clear text ever reaches the server or its log.
//!
//! The salt is derived from the password and the login's name: the same password always gives the
//! same verifier, so a difference on the server can be seen without knowing what is there. Nothing
//! is lost by it: the salt is unpredictable to whoever does not know the password, and differs
//! between logins.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use freehold_model::Secret;

/// The server's own default (`scram_iterations`), and what every client library expects.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("4096 is not zero");

/// The verifier as `pg_authid.rolpassword` holds it.
pub(crate) fn verifier(login: &str, password: &Secret) -> Secret {
    // The server and libpq prepare a password by SASLprep and fall back to the bytes as they are.
    let prepared = stringprep::saslprep(password.expose())
        .unwrap_or_else(|_| password.expose().to_owned().into());
    let salt = salt(login, password);
    let mut salted = [0_u8; digest::SHA256_OUTPUT_LEN];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        ITERATIONS,
        &salt,
        prepared.as_bytes(),
        &mut salted,
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let client_key = hmac::sign(&key, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let server_key = hmac::sign(&key, b"Server Key");
    Secret::new(format!(
        "SCRAM-SHA-256${ITERATIONS}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored_key.as_ref()),
        STANDARD.encode(server_key.as_ref()),
    ))
}

/// What the registry keeps of a verifier: enough to see that it is another one, no help in guessing
/// the password beyond what the verifier itself would be.
pub(crate) fn fingerprint(verifier: &Secret) -> String {
    hex(digest::digest(&digest::SHA256, verifier.expose().as_bytes()).as_ref())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

fn salt(login: &str, password: &Secret) -> [u8; 16] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, password.expose().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(b"freehold scram salt\0");
    context.update(login.as_bytes());
    let mut salt = [0_u8; 16];
    salt.copy_from_slice(&context.sign().as_ref()[..16]);
    salt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_stable_and_differs_between_logins_and_passwords() {
        let password = Secret::new("pencil");
        let first = verifier("a", &password);
        assert_eq!(first, verifier("a", &password));
        assert_ne!(first, verifier("b", &password));
        assert_ne!(first, verifier("a", &Secret::new("pencil2")));
        assert!(first.expose().starts_with("SCRAM-SHA-256$4096:"));
        assert!(!first.expose().contains("pencil"));
    }
}
