//! From a database's name to the folder and the file that hold it.
//!
//! The mapping is total on the names that are allowed, and injective also where the file system
//! ignores case or folds Unicode: lower-case letters, digits, `_` and `-` stay, every other byte is
//! written `~` and two hexadecimal digits (`Shop` becomes `~53hop`). What comes out has no meaning to
//! a path or a URI, so it can neither leave the directory nor need escaping in a binding.

use std::fmt::Write as _;

use crate::{EngineError, Fault, Result};

/// As on PostgreSQL. Written out it takes at most three times as much, within what file systems allow.
pub(crate) const NAME_BYTES_MAX: usize = 63;

/// The folder of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder(String);

impl Folder {
    /// # Errors
    /// `Invalid` for a name that is empty, too long, has control characters, or looks like a path.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let wrong = if name.is_empty() {
            Some("is empty")
        } else if name.len() > NAME_BYTES_MAX {
            Some("is longer than 63 bytes")
        } else if name.chars().any(char::is_control) {
            Some("has control characters")
        } else if name.contains(['/', '\\']) || name == "." || name == ".." {
            Some("looks like a path")
        } else {
            None
        };
        match wrong {
            None => Ok(Self(encode(name))),
            Some(wrong) => {
                let detail = format!("{name:?} cannot be the name of a database: it {wrong}");
                Err(EngineError::new(
                    Fault::Invalid { detail },
                    "name a database",
                ))
            }
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The file in the folder.
    pub(crate) fn file(&self) -> String {
        format!("{}.db", self.0)
    }
}

fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_') || (byte == b'-' && !encoded.is_empty())
        {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "~{byte:02x}");
        }
    }
    encoded
}

/// The name that a folder stands for; `None` for a folder that Freehold did not name.
pub(crate) fn decode(folder: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = folder.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'~' {
            let digits = [rest.next()?, rest.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    (Folder::new(&name).ok()?.as_str() == folder).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usual_names_stay_as_they_are() {
        let folder = Folder::new("shop_main-2").expect("a name");
        assert_eq!(
            (folder.as_str(), folder.file()),
            ("shop_main-2", "shop_main-2.db".into())
        );
    }

    #[test]
    fn what_could_leave_the_directory_is_refused() {
        let long = "a".repeat(64);
        let refused = ["", ".", "..", "/etc", "a/b", "..\\x", "a\0b", "a\nb", &long];
        for name in refused {
            let error = Folder::new(name).expect_err(name);
            assert!(matches!(error.fault, Fault::Invalid { .. }), "{error}");
        }
    }

    proptest! {
        #[test]
        fn names_differ_as_folders_on_any_file_system(
            names in proptest::collection::btree_set("[a-cA-C~é%.5ß -]{1,12}", 2..6)
        ) {
            let mut seen = std::collections::BTreeSet::new();
            for name in &names {
                let folder = Folder::new(name);
                if name == "." || name == ".." {
                    prop_assert!(folder.is_err());
                    continue;
                }
                let folder = folder.expect("allowed");
                let path = Path::new(folder.as_str());
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
                prop_assert!(folder.as_str().is_ascii() && folder.file().len() < 255);
                prop_assert_eq!(decode(folder.as_str()), Some(name.clone()));
                prop_assert!(seen.insert(folder.as_str().to_lowercase()));
            }
        }
    }
}
