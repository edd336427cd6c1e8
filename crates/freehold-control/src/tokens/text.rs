//! The token as a text, and what is kept of it.

use std::fmt;

use aws_lc_rs::{constant_time, digest};
use freehold_model::{Entropy, Secret};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

const PREFIX: &str = "fh";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const ID_LENGTH: usize = 16;
const SECRET_LENGTH: usize = 52;

/// The public half of a token, as it stands in lists and in the audit log: 16 of `a-z2-7`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct TokenId(String);

impl TokenId {
    /// `None` when the text is not the id of a token.
    pub fn parse(text: &str) -> Option<Self> {
        is_of(text, ID_LENGTH).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// For what a caller gives: a text that is no id is the id of no token.
impl From<&str> for TokenId {
    fn from(text: &str) -> Self {
        let short: String = text.chars().take(64).collect();
        Self(if short.is_empty() {
            "-".to_owned()
        } else {
            short
        })
    }
}

impl From<String> for TokenId {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        id.0
    }
}

/// The SHA-256 of a token's secret, in hexadecimal.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct SecretHash(String);

impl SecretHash {
    /// In constant time: how far a guess agrees must not show.
    pub(super) fn matches(&self, secret: &Secret) -> bool {
        let given = hash(secret);
        constant_time::verify_slices_are_equal(self.0.as_bytes(), given.0.as_bytes()).is_ok()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

pub(super) fn hash(secret: &Secret) -> SecretHash {
    let hash = digest::digest(&digest::SHA256, secret.expose().as_bytes());
    SecretHash(hex::encode(hash))
}

/// A fresh id of 80 bits and a fresh secret of 256.
pub(super) fn generate(entropy: &dyn Entropy) -> (TokenId, Secret) {
    let mut id = [0u8; 10];
    entropy.fill(&mut id);
    let mut secret = Zeroizing::new([0u8; 32]);
    entropy.fill(secret.as_mut());
    (TokenId(base32(&id)), Secret::new(base32(secret.as_ref())))
}

pub(super) fn bearer(id: &TokenId, secret: &Secret) -> Secret {
    Secret::new(format!("{PREFIX}_{id}_{}", secret.expose()))
}

/// Id and secret of a bearer token, if it has the form of one.
pub(super) fn parse(bearer: &str) -> Option<(TokenId, Secret)> {
    let mut parts = bearer.split('_');
    let prefix = parts.next()?;
    let id = TokenId::parse(parts.next()?)?;
    let secret = parts.next()?;
    let whole = prefix == PREFIX && parts.next().is_none() && is_of(secret, SECRET_LENGTH);
    whole.then(|| (id, Secret::new(secret)))
}

/// The id in what looks like a token; ids are not secret. For the log, when the token is refused.
pub(crate) fn id_within(bearer: &str) -> Option<TokenId> {
    parse(bearer).map(|(id, _)| id)
}

fn is_of(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| ALPHABET.contains(&byte))
}

/// Lower-case base32 without padding: one word for a double click, and no look-alikes of 0 and 1.
fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut buffer, mut bits) = (0u32, 0);
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(buffer >> bits) as usize & 31]));
        }
        buffer &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(buffer << (5 - bits)) as usize & 31]));
    }
    text
}

#[cfg(test)]
mod tests {
    use freehold_model::SystemEntropy;

    use super::*;

    #[test]
    fn base32_agrees_with_rfc_4648() {
        let vectors = [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foob", "mzxw6yq"),
            ("fooba", "mzxw6ytb"),
            ("foobar", "mzxw6ytboi"),
        ];
        for (plain, encoded) in vectors {
            assert_eq!(base32(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn a_token_is_read_as_it_was_made_and_nothing_else_is_one() {
        let (id, secret) = generate(&SystemEntropy);
        let whole = bearer(&id, &secret);
        assert_eq!(parse(whole.expose()), Some((id, secret)));
        let text = whole.expose();
        let upper = text.to_uppercase();
        let longer = format!("{text}_x");
        let spaced = format!(" {text}");
        for wrong in [
            "",
            "fh",
            "fh__",
            &text[1..],
            &text[..60],
            &upper,
            &longer,
            &spaced,
        ] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }
}
