//! Scan tokens: where the next page begins, and which scan the place belongs to.
//!
//! A token is base64url over `version, digest, length of the index value, index value, key`. The
//! digest covers what is scanned (collection, range, filter and the version of the index), so that
//! a token cannot silently continue another scan, nor the same one after its index was rebuilt over
//! other fields. The limit is not part of it: pages may differ in size. Tokens are not secret and not
//! signed; a forged one reads from another place of a scan that its bearer may run anyway.

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{Error, Result, ScanToken};

const VERSION: u8 = 1;
const DIGEST_BYTES: usize = 16;

/// A place between two records: after the record with this index value (empty in a scan by key) and
/// this key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) value: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

/// What a token belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScanDigest([u8; DIGEST_BYTES]);

impl ScanDigest {
    pub(crate) fn of(identity: &str) -> Self {
        let full = digest::digest(&digest::SHA256, identity.as_bytes());
        let mut short = [0; DIGEST_BYTES];
        short.copy_from_slice(&full.as_ref()[..DIGEST_BYTES]);
        Self(short)
    }

    pub(crate) fn token(self, place: &Place) -> ScanToken {
        let length = u32::try_from(place.value.len()).expect("an index value is at most 1 KiB");
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.0);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&place.value);
        bytes.extend_from_slice(&place.key);
        ScanToken(URL_SAFE_NO_PAD.encode(bytes))
    }

    pub(crate) fn place(self, token: &ScanToken) -> Result<Place> {
        let bytes = URL_SAFE_NO_PAD
            .decode(&token.0)
            .map_err(|source| Error::invalid("this is not a scan token").because(source))?;
        let (digest, place) =
            parse(&bytes).ok_or_else(|| Error::invalid("this is not a scan token"))?;
        if digest != self.0 {
            return Err(Error::invalid(
                "this scan token belongs to another scan, or the index was rebuilt since; \
                 start the scan again without a token",
            ));
        }
        Ok(place)
    }
}

fn parse(bytes: &[u8]) -> Option<(&[u8], Place)> {
    let (version, rest) = bytes.split_first()?;
    if *version != VERSION {
        return None;
    }
    let (digest, rest) = rest.split_at_checked(DIGEST_BYTES)?;
    let (length, rest) = rest.split_at_checked(4)?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    let (value, key) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let place = Place {
        value: value.to_vec(),
        key: key.to_vec(),
    };
    Some((digest, place))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_place_survives_the_token(value: Vec<u8>, key: Vec<u8>, scan: String) {
            let place = Place { value, key };
            let digest = ScanDigest::of(&scan);
            let token = digest.token(&place);
            let other = ScanDigest::of(&format!("{scan}."));
            prop_assert!(other.place(&token).is_err());
            prop_assert_eq!(digest.place(&token).unwrap(), place);
        }

        #[test]
        fn nonsense_is_refused_and_never_panics(text: String, bytes: Vec<u8>) {
            let digest = ScanDigest::of("scan");
            prop_assert!(digest.place(&ScanToken(text)).is_err());
            let token = ScanToken(URL_SAFE_NO_PAD.encode(bytes));
            prop_assert!(digest.place(&token).is_err());
        }
    }
}
