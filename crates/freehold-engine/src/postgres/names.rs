//! The names of the roles that belong to a database, derived from its name.
//!
//! A short name gets a readable suffix. A name too long for that is cut and gets a hash and a
//! suffix with another separator, so no short name can ever be written that maps to the same role:
//! the mapping is injective up to a collision of 64 bits of SHA-256, and a collision meets the
//! registry, which refuses a role of another database.

use aws_lc_rs::digest;
use freehold_model::Uid;

use super::{quote::IDENTIFIER_BYTES_MAX, scram::hex};

/// Owns the schemas and everything that migrations make.
pub(crate) fn owner(database: &str) -> String {
    derive(database, "owner")
}

/// Reads the whole database.
pub(crate) fn reader(database: &str) -> String {
    derive(database, "reader")
}

/// Reads and writes the whole database.
pub(crate) fn writer(database: &str) -> String {
    derive(database, "writer")
}

/// Carries the rights of one access that is limited to schemas or tables.
pub(crate) fn access(database: &str, access: Uid) -> String {
    derive(database, &format!("access_{}", hash(&access.to_string())))
}

fn derive(database: &str, suffix: &str) -> String {
    if database.len() + 1 + suffix.len() <= IDENTIFIER_BYTES_MAX {
        return format!("{database}_{suffix}");
    }
    let hash = hash(database);
    let room = IDENTIFIER_BYTES_MAX - hash.len() - suffix.len() - 2;
    let kept = database.floor_char_boundary(room);
    format!("{}_{hash}~{suffix}", &database[..kept])
}

fn hash(text: &str) -> String {
    hex(&digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..8])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_names_stay_readable() {
        assert_eq!(owner("shop_main"), "shop_main_owner");
    }

    proptest! {
        #[test]
        fn derived_names_fit_and_differ(
            databases in proptest::collection::btree_set("[a-zé~_]{1,31}|[ab]{50,63}", 1..8)
        ) {
            let mut seen = BTreeSet::new();
            for database in databases.iter().filter(|d| d.len() <= 63) {
                for role in [owner(database), reader(database), writer(database)] {
                    prop_assert!(role.len() <= IDENTIFIER_BYTES_MAX);
                    prop_assert!(seen.insert(role));
                }
            }
        }
    }
}
