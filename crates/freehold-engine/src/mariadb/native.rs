//! Password hashes of the plugin `mysql_native_password`, computed here so that no clear text ever
//! reaches the server or its log.
//!
//! Why this plugin: every client of MariaDB speaks it and every server has it. Its hash has no salt
//! and is quickly computed; that does not matter here, because Freehold's passwords are random and
//! long. `ed25519` would also withstand somebody who has both read the hash and listened to a login,
//! but a server must load it first and many clients lack it. TLS keeps listeners away in both cases.

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use freehold_model::{Secret, Uid};

/// The name of the plugin.
pub(crate) const PLUGIN: &str = "mysql_native_password";

/// What the server keeps of a password: `*` and SHA1(SHA1(password)) in hexadecimal.
pub(crate) fn hash(password: &Secret) -> Secret {
    let once = digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, password.expose().as_bytes());
    let twice = digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, once.as_ref());
    Secret::new(format!("*{}", upper_hex(twice.as_ref())))
}

/// A hash of no known password, the same every time for one login of one database: what an account
/// is born with. It tells the account that we have made from one that somebody else made meanwhile.
pub(crate) fn birthmark(database: Uid, login: &str) -> String {
    let text = format!("freehold account\0{database}\0{login}");
    let hash = digest::digest(&SHA256, text.as_bytes());
    format!("*{}", upper_hex(&hash.as_ref()[..20]))
}

pub(crate) fn upper_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02X}").expect("writing to a String cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_the_servers() {
        // SELECT PASSWORD('pencil')
        let known = "*7614BE58636C810A9D8970A50B3B2A78450413E4";
        let ours = hash(&Secret::new("pencil"));
        assert_eq!(ours.expose(), known);
    }
}
