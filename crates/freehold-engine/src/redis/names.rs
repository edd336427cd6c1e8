//! Names as the server takes them: a database's prefix, in keys and in the patterns of access rules, and
//! accounts.
//!
//! A database called `shop` is the keys that begin with `shop:`. A name therefore holds no colon, or
//! `a` would cover `a:b`. In a pattern, what would match more than itself is escaped with a backslash,
//! which the server reads as the character itself. Refused is what the access list cannot keep:
//! white space ends a rule, and a quote would be read as one when the list is kept in the server's
//! configuration file, so that it would not start again.

use super::registry::RESERVED;
use crate::{EngineError, Fault, Result};

/// Of a database; the server itself would take 512 MiB.
pub(super) const NAME_BYTES_MAX: usize = 64;

/// Of an account.
const LOGIN_BYTES_MAX: usize = 128;

/// A database's name, known to be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DatabaseName(String);

impl DatabaseName {
    /// # Errors
    /// `Invalid` for a name that no database can have.
    pub(super) fn new(name: &str) -> Result<Self> {
        let refused = if name.len() > NAME_BYTES_MAX {
            Some(format!("it is longer than {NAME_BYTES_MAX} bytes"))
        } else if name.contains(':') {
            Some("a colon ends the prefix of its keys".to_owned())
        } else if name.eq_ignore_ascii_case(RESERVED) {
            Some("the registry is kept under it".to_owned())
        } else {
            unkeepable(name)
        };
        match refused {
            None => Ok(Self(name.to_owned())),
            Some(why) => Err(refusal(name, "a database", &why)),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// What all its keys and channels begin with.
    pub(super) fn prefix(&self) -> String {
        format!("{}:", self.0)
    }

    /// The pattern of all its keys and channels, and of no others.
    pub(super) fn pattern(&self) -> String {
        let mut pattern = escaped(&self.prefix());
        pattern.push('*');
        pattern
    }

    /// The key of its row in the registry, and the account that carries a copy of it.
    pub(super) fn row(&self) -> String {
        format!("{RESERVED}:database:{}", self.0)
    }

    /// The name that a row, or the account with its copy, is about.
    pub(super) fn of_row(key: &str) -> Option<Self> {
        let name = key.strip_prefix(RESERVED)?.strip_prefix(":database:")?;
        Self::new(name).ok()
    }
}

/// Refuses an account that cannot be a login of ours.
pub(super) fn check_login(name: &str) -> Result<()> {
    let refused = if name.len() > LOGIN_BYTES_MAX {
        Some(format!("it is longer than {LOGIN_BYTES_MAX} bytes"))
    } else if name == "default" {
        Some("the server gives it to everyone who does not say who it is".to_owned())
    } else if name.starts_with(RESERVED) && name[RESERVED.len()..].starts_with(':') {
        Some("the registry keeps copies of its rows under such names".to_owned())
    } else {
        unkeepable(name)
    };
    match refused {
        None => Ok(()),
        Some(why) => Err(refusal(name, "an account", &why)),
    }
}

fn unkeepable(name: &str) -> Option<String> {
    let bad = name
        .chars()
        .find(|c| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\''));
    if name.is_empty() {
        Some("it is empty".to_owned())
    } else {
        bad.map(|bad| format!("the server's access list cannot keep {bad:?}"))
    }
}

fn refusal(name: &str, what: &str, why: &str) -> EngineError {
    let detail = format!("{name:?} cannot be the name of {what}: {why}");
    EngineError::new(Fault::Invalid { detail }, "check a name")
}

/// The pattern that matches this text and no other.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '^' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// Whether a pattern may match a key of a database: by what stands before its first special character,
/// so it says yes too often and never wrongly no.
pub(super) fn may_reach(pattern: &str, database: &DatabaseName) -> bool {
    let mut literal = String::new();
    let mut whole = true;
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => literal.extend(characters.next()),
            '*' | '?' | '[' => {
                whole = false;
                break;
            }
            _ => literal.push(c),
        }
    }
    let prefix = database.prefix();
    literal.starts_with(&prefix) || (!whole && prefix.starts_with(&literal))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usual_names_stay_as_they_are() {
        let name = DatabaseName::new("shop_main-2").expect("a name");
        assert_eq!(
            (
                name.prefix().as_str(),
                name.pattern().as_str(),
                name.row().as_str()
            ),
            (
                "shop_main-2:",
                "shop_main-2:*",
                "freehold:database:shop_main-2"
            )
        );
        assert_eq!(DatabaseName::of_row(&name.row()), Some(name));
    }

    #[test]
    fn what_the_access_list_cannot_keep_is_refused() {
        let long = "a".repeat(65);
        for name in [
            "", "a b", "a\nb", "a\0b", "a:b", "a\"b", "a'b", "freehold", "FreeHold", &long,
        ] {
            let error = DatabaseName::new(name).expect_err(name);
            assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");
        }
        for name in ["", "default", "a b", "freehold:database:shop", "it's"] {
            check_login(name).expect_err(name);
        }
        check_login("freeholder").expect("an account");
    }

    #[test]
    fn a_pattern_reaches_what_it_may_match() {
        let shop = DatabaseName::new("shop").expect("a name");
        for pattern in ["*", "s*", "shop:*", "shop:a", "sh?p:*", "[st]hop:*"] {
            assert!(may_reach(pattern, &shop), "{pattern}");
        }
        for pattern in ["shop", "shopx:*", "shop\\*", "sho", "t*"] {
            assert!(!may_reach(pattern, &shop), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn no_prefix_is_within_another(
            names in proptest::collection::btree_set("[a-b*?\\[\\]^\\\\é]{1,6}", 2..5)
        ) {
            let names: Vec<DatabaseName> =
                names.iter().map(|name| DatabaseName::new(name).expect("a name")).collect();
            for one in &names {
                for other in &names {
                    let within = other.prefix().starts_with(&one.prefix());
                    prop_assert_eq!(within, one == other);
                    prop_assert_eq!(may_reach(&one.pattern(), other), one == other);
                }
            }
        }
    }
}
