//! The names of what is made on a server.
//!
//! A server has one flat space of databases and one of roles, shared by all environments and teams
//! that are placed on it. Two different things must never get one name, because the second would
//! find the first one's data. The mapping is injective by construction, not by luck:
//!
//! - A [`Name`] starts with a letter, holds no `_`, and is never empty. Joining names with `_` can
//!   therefore be undone: the parts are what stands between the `_`.
//! - The environment is left out when it is `local`, and only then. Whether it is there shows in
//!   the number of parts.
//! - Every sort of role ends with a part of its own (`a`, `b`, `migrator`).
//! - A name that would begin like one the server or Freehold keeps for itself (`pg_`, `freehold`)
//!   gets a `_` in front. No other name begins with `_`.
//! - A name that would be too long is cut, and `__` and a hash of the whole follow. No other name
//!   holds `__`. The hash is 130 bits of SHA-256; names that meet there would break SHA-256.
//!
//! The property tests try to find two inputs that meet. Should it happen all the same, the server's
//! registry refuses the second: a name there belongs to a uid.

use aws_lc_rs::digest::{SHA256, digest};
use freehold_model::{Name, Uid, kinds::Slot};

/// The longest database name that is made. Shorter than what engines take, so that an engine can
/// append a suffix of up to 15 bytes for roles that it derives from it.
pub const DATABASE_NAME_BYTES_MAX: usize = 48;

/// The longest login name that is made.
pub const LOGIN_NAME_BYTES_MAX: usize = 63;

/// The environment that is not part of names.
pub const UNNAMED_ENVIRONMENT: &str = "local";

/// Beginnings that belong to the server or to Freehold's own objects.
const RESERVED_PREFIXES: [&str; 2] = ["pg_", "freehold"];

/// 26 digits of 5 bits each.
const HASH_LENGTH: usize = 26;
/// A letter and 9 digits of 5 bits each: tells the few accesses apart that had one name after another.
const UID_TAG_LENGTH: usize = 10;

/// The database's name on its server: `shop_orders` in the environment `local`, else
/// `prod_shop_orders`.
pub fn database_name(environment: &Name, team: &Name, database: &Name) -> String {
    let parts = place(environment, [team, database]);
    fit(&parts, "", DATABASE_NAME_BYTES_MAX)
}

/// The name of one of the two logins of an access: `shop_orders-api_x3k9q2mz4t_a`. The uid makes the
/// logins of an access that was deleted and made again differ from the old ones.
pub fn login_name(environment: &Name, team: &Name, access: &Name, uid: Uid, slot: Slot) -> String {
    let mut tag = digits(uid.as_uuid().as_bytes(), UID_TAG_LENGTH - 1);
    // A part starts with a letter, like a name.
    tag.insert(0, 'x');
    let mut parts = place(environment, [team, access]);
    parts.push(tag);
    let ending = match slot {
        Slot::A => "_a",
        Slot::B => "_b",
    };
    fit(&parts, ending, LOGIN_NAME_BYTES_MAX)
}

/// The name of the login that runs a database's migrations: `shop_orders_migrator`.
pub fn migrator_login_name(environment: &Name, team: &Name, database: &Name) -> String {
    let parts = place(environment, [team, database]);
    fit(&parts, "_migrator", LOGIN_NAME_BYTES_MAX)
}

fn place(environment: &Name, names: [&Name; 2]) -> Vec<String> {
    let environment = Some(environment).filter(|name| name.as_str() != UNNAMED_ENVIRONMENT);
    let names = environment.into_iter().chain(names);
    names.map(Name::to_string).collect()
}

/// Joins the parts and keeps the result within `bytes_max`. The ending is never cut.
fn fit(parts: &[String], ending: &str, bytes_max: usize) -> String {
    let mut whole = parts.join("_");
    if RESERVED_PREFIXES
        .iter()
        .any(|prefix| whole.starts_with(prefix))
    {
        whole.insert(0, '_');
    }
    if whole.len() + ending.len() <= bytes_max {
        return whole + ending;
    }
    let hash = digits(whole.as_bytes(), HASH_LENGTH);
    let head_length = bytes_max - ending.len() - HASH_LENGTH - 2;
    // Names are ASCII, so any byte is a boundary.
    let head = whole[..head_length].trim_end_matches(['_', '-']);
    format!("{head}__{hash}{ending}")
}

/// The first `length` digits, of 5 bits each, of the hash of `bytes`.
fn digits(bytes: &[u8], length: usize) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let hash = digest(&SHA256, bytes);
    let hash = hash.as_ref();
    (0..length)
        .map(|digit| {
            let bit = digit * 5;
            let wide = u16::from_be_bytes([hash[bit / 8], hash[bit / 8 + 1]]);
            let index = (wide >> (11 - bit % 8)) & 31;
            char::from(ALPHABET[usize::from(index)])
        })
        .collect()
}

#[cfg(test)]
mod tests;
