//! The one way from hostile text to SQL text.
//!
//! A name or a value reaches a statement only as one of these types, which quote when they are
//! displayed. All of them mean the same under every `sql_mode`: names stand in backticks, where
//! neither `ANSI_QUOTES` nor `NO_BACKSLASH_ESCAPES` changes anything, and a text that is not plain
//! travels in hexadecimal.
//!
//! What MariaDB would change silently is refused instead: names longer than it keeps, trailing
//! spaces (it cuts them), and characters outside the basic multilingual plane (its catalogs hold
//! three bytes per character).
//!
//! In a grant on a database the name is a *pattern*: `team_a` also means `teamxa`. [`Pattern`] is the
//! pattern that matches one name alone, and [`matches`] is the server's own comparison.

use std::fmt;

use crate::{EngineError, Fault, Result};

/// Characters of a database's, table's or column's name.
pub(crate) const IDENTIFIER_CHARS_MAX: usize = 64;

/// Characters of an account's name, in MariaDB. (MySQL keeps 32.)
const ACCOUNT_CHARS_MAX: usize = 80;

fn refuse(name: &str, why: &str) -> EngineError {
    let shown: String = name.chars().take(80).collect();
    let detail = format!("the name {shown:?} {why}");
    EngineError::new(Fault::Invalid { detail }, "check a name")
}

fn checked(name: &str, chars_max: usize) -> Result<()> {
    let length = name.chars().count();
    if name.is_empty() {
        return Err(refuse(name, "is empty"));
    }
    if name.contains('\0') {
        return Err(refuse(name, "contains a NUL character"));
    }
    if name.ends_with(|c: char| c.is_ascii_whitespace() || c == '\u{b}') {
        return Err(refuse(
            name,
            "ends with a space, which MariaDB cuts or refuses",
        ));
    }
    if name.chars().any(|c| c > '\u{FFFF}') {
        return Err(refuse(
            name,
            "has a character that MariaDB's catalogs cannot hold (above U+FFFF)",
        ));
    }
    if length > chars_max {
        let why = format!("is {length} characters long; MariaDB keeps {chars_max}");
        return Err(refuse(name, &why));
    }
    Ok(())
}

fn backticked(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    write!(f, "`{}`", name.replace('`', "``"))
}

/// A name of a database, table or column. Displays with its backticks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Identifier(String);

impl Identifier {
    pub(crate) fn new(name: &str) -> Result<Self> {
        checked(name, IDENTIFIER_CHARS_MAX)?;
        Ok(Self(name.to_owned()))
    }

    /// For names that came out of a catalog, where every name is valid.
    pub(crate) fn from_catalog(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        backticked(f, &self.0)
    }
}

/// Who holds rights, as the catalogs write it: a user and a host. Roles have no host, and `PUBLIC`
/// is everybody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Account {
    pub(crate) user: String,
    pub(crate) host: String,
}

impl Account {
    /// A login of ours: one that may connect from anywhere.
    pub(crate) fn login(name: &str) -> Result<Self> {
        checked(name, ACCOUNT_CHARS_MAX)?;
        if name == "PUBLIC" {
            return Err(refuse(name, "means everybody"));
        }
        Ok(Self::from_catalog(name, "%"))
    }

    pub(crate) fn from_catalog(user: &str, host: &str) -> Self {
        Self {
            user: user.to_owned(),
            host: host.to_owned(),
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.is_empty() && self.user == "PUBLIC" {
            return f.write_str("PUBLIC");
        }
        backticked(f, &self.user)?;
        if self.host.is_empty() && !self.user.is_empty() {
            return Ok(());
        }
        f.write_str("@")?;
        backticked(f, &self.host)
    }
}

/// The pattern that means one database and no other. Displays with its backticks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pattern(String);

impl Pattern {
    /// Refuses a name whose pattern would not fit into the catalog's column.
    pub(crate) fn of(database: &str) -> Result<Self> {
        Identifier::new(database)?;
        let pattern = escaped(database);
        let length = pattern.chars().count();
        if length > IDENTIFIER_CHARS_MAX {
            let why = format!(
                "needs {length} characters in a grant, where each `_`, `%` and `\\` counts twice; \
                 MariaDB keeps {IDENTIFIER_CHARS_MAX}"
            );
            return Err(refuse(database, &why));
        }
        Ok(Self(pattern))
    }

    pub(crate) fn from_catalog(pattern: &str) -> Self {
        Self(pattern.to_owned())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        backticked(f, &self.0)
    }
}

fn escaped(name: &str) -> String {
    name.chars().fold(String::new(), |mut pattern, c| {
        if matches!(c, '_' | '%' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
        pattern
    })
}

/// Whether a grant's pattern means a database: `_` is any character, `%` any characters, and a
/// backslash takes a character as it is.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // Reachable places in the pattern, as the name is read: no backtracking, so no hostile pattern
    // takes long.
    let mut places = closure(&pattern, vec![0]);
    for c in name {
        let mut next = Vec::new();
        for at in places {
            match pattern.get(at) {
                Some('%') => next.push(at),
                Some('_') => next.push(at + 1),
                Some('\\') if pattern.get(at + 1) == Some(&c) => next.push(at + 2),
                Some('\\') => {}
                Some(p) if *p == c => next.push(at + 1),
                Some(_) | None => {}
            }
        }
        places = closure(&pattern, next);
    }
    places.contains(&pattern.len())
}

/// The one name that a pattern means; `None` when it has wildcards.
pub(crate) fn exact(pattern: &str) -> Option<String> {
    let mut name = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' | '_' => return None,
            '\\' => name.push(chars.next()?),
            c => name.push(c),
        }
    }
    Some(name)
}

/// Adds the places that are reached by letting `%` be nothing.
fn closure(pattern: &[char], mut places: Vec<usize>) -> Vec<usize> {
    let mut at = 0;
    while let Some(&place) = places.get(at) {
        if pattern.get(place) == Some(&'%') && !places.contains(&(place + 1)) {
            places.push(place + 1);
        }
        at += 1;
    }
    places.sort_unstable();
    places.dedup();
    places
}

/// A text value. Displays as a literal that means the same whatever `sql_mode` and character set say.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Literal<'a>(pub(crate) &'a str);

impl fmt::Display for Literal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b" _-.:/=+@*".contains(&b);
        if self.0.bytes().all(plain) {
            return write!(f, "'{}'", self.0);
        }
        f.write_str("_utf8mb4 X'")?;
        for byte in self.0.bytes() {
            write!(f, "{byte:02X}")?;
        }
        f.write_str("'")
    }
}

/// Several values, separated by commas; never an empty list, which SQL does not know.
pub(crate) fn list<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for value in values {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&Literal(value).to_string());
    }
    if text.is_empty() { "NULL".into() } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_server_would_change_is_refused() {
        for name in ["", "a\0b", "ends ", "ends\r", "🦀", &"a".repeat(65)] {
            assert!(Identifier::new(name).is_err(), "{name:?}");
        }
        assert!(Identifier::new(&"é".repeat(64)).is_ok(), "64 characters");
        assert!(Account::login(&"a".repeat(81)).is_err());
        assert!(Account::login("PUBLIC").is_err());
        assert!(Pattern::of(&"a".repeat(64)).is_ok());
        assert!(Pattern::of(&"_".repeat(33)).is_err(), "66 in the catalog");
    }

    #[test]
    fn quotes_cannot_be_left() {
        let name = Identifier::new("a`; DROP DATABASE x; --").expect("a name");
        assert_eq!(name.to_string(), "`a``; DROP DATABASE x; --`");
        let login = Account::login("a`@`localhost").expect("a name");
        assert_eq!(login.to_string(), "`a``@``localhost`@`%`");
        assert_eq!(Literal("it's").to_string(), "_utf8mb4 X'69742773'");
        assert_eq!(Literal("a_b-1").to_string(), "'a_b-1'");
        assert_eq!(list([]), "NULL");
    }

    #[test]
    fn a_pattern_means_what_the_server_says() {
        assert!(matches("team_a", "teamxa"), "the trap");
        assert!(!matches("team\\_a", "teamxa"));
        assert!(matches("team\\_a", "team_a"));
        assert!(matches("%", "anything") && matches("t%a", "team_a") && matches("a%", "a"));
        assert!(!matches("t%b", "team_a") && !matches("", "a") && matches("", ""));
    }

    proptest! {
        #[test]
        fn a_pattern_means_its_name_alone(
            name in "[ab_%\\\\]{1,8}",
            other in "[ab_%\\\\]{1,8}",
        ) {
            let pattern = Pattern::of(&name).expect("short");
            prop_assert!(matches(pattern.as_str(), &name));
            prop_assert_eq!(exact(pattern.as_str()), Some(name.clone()));
            prop_assert_eq!(matches(pattern.as_str(), &other), name == other);
        }
    }
}
