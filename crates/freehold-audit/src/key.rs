//! The Ed25519 keys of the log, in the C2SP signed-note forms.

use std::{fmt, str::FromStr, sync::Arc};

use aws_lc_rs::{
    digest,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use freehold_model::Entropy;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The algorithm byte of Ed25519 in signed notes.
const ED25519_ALGORITHM: u8 = 0x01;

/// Why a text or seed is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a key of an audit log: {0}")]
pub struct InvalidKey(&'static str);

/// Signs checkpoints. Made from a seed of 32 bytes that the caller keeps sealed.
#[derive(Clone)]
pub struct SigningKey {
    pair: Arc<Ed25519KeyPair>,
    verifying: VerifyingKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.verifying).finish()
    }
}

impl SigningKey {
    /// A fresh seed. Seal it before it is stored.
    pub fn generate_seed(entropy: &dyn Entropy) -> Zeroizing<[u8; 32]> {
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(seed.as_mut());
        seed
    }

    /// `origin` names the log for ever, e.g. `freehold.dev/audit/0190…`. It holds no space and no
    /// `+`.
    pub fn from_seed(origin: &str, seed: &[u8; 32]) -> Result<Self, InvalidKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed)
            .map_err(|_| InvalidKey("the seed is refused by the signature algorithm"))?;
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        let verifying = VerifyingKey::new(origin, public)?;
        Ok(Self {
            pair: Arc::new(pair),
            verifying,
        })
    }

    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.verifying
    }

    pub fn origin(&self) -> &str {
        &self.verifying.origin
    }

    pub(crate) fn sign(&self, text: &str) -> Vec<u8> {
        self.pair.sign(text.as_bytes()).as_ref().to_vec()
    }
}

/// Checks checkpoints. Prints as, and is read from, `origin+hash+base64`, which carries its own
/// check sum.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VerifyingKey {
    origin: String,
    public: [u8; 32],
}

impl VerifyingKey {
    fn new(origin: &str, public: [u8; 32]) -> Result<Self, InvalidKey> {
        let fits = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
        if origin.is_empty() || origin.len() > 200 || !origin.chars().all(fits) {
            let reason = "its origin is empty, too long, or holds a space or a '+'";
            return Err(InvalidKey(reason));
        }
        Ok(Self {
            origin: origin.to_owned(),
            public,
        })
    }

    /// The name of the log that the key belongs to.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The short hash by which a signature line names its key.
    pub fn id(&self) -> [u8; 4] {
        let mut text = self.origin.clone().into_bytes();
        text.extend_from_slice(&[b'\n', ED25519_ALGORITHM]);
        text.extend_from_slice(&self.public);
        let hash = digest::digest(&digest::SHA256, &text);
        let mut id = [0; 4];
        id.copy_from_slice(&hash.as_ref()[..4]);
        id
    }

    pub(crate) fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.public)
            .verify(text.as_bytes(), signature)
            .is_ok()
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519_ALGORITHM];
        key.extend_from_slice(&self.public);
        let id = hex::encode(self.id());
        write!(f, "{}+{id}+{}", self.origin, STANDARD.encode(key))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifyingKey {
    type Err = InvalidKey;
    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let mut parts = text.trim().splitn(3, '+');
        let (Some(origin), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(InvalidKey("it should read origin+hash+base64"));
        };
        let key = STANDARD
            .decode(key)
            .map_err(|_| InvalidKey("its last part is not base64"))?;
        let [ED25519_ALGORITHM, public @ ..] = key.as_slice() else {
            return Err(InvalidKey("it is not an Ed25519 key"));
        };
        let public = public
            .try_into()
            .map_err(|_| InvalidKey("an Ed25519 key has 32 bytes"))?;
        let key = Self::new(origin, public)?;
        if hex::encode(key.id()) != id {
            return Err(InvalidKey("its hash does not fit: a character was changed"));
        }
        Ok(key)
    }
}

impl TryFrom<String> for VerifyingKey {
    type Error = InvalidKey;
    fn try_from(text: String) -> Result<Self, InvalidKey> {
        text.parse()
    }
}

impl From<VerifyingKey> for String {
    fn from(key: VerifyingKey) -> Self {
        key.to_string()
    }
}
