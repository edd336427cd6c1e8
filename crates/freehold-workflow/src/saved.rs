//! States that were saved by one release must load in the next.
//!
//! Every operation keeps a folder of saved states beside its tests, one JSON file per variant and
//! release that changed it: `saved/provision/CreateRoles.json`,
//! `saved/provision/CreateRoles.2026-11.json`. A file is never edited and never removed while a
//! store may hold such a state; a change of the enum that breaks one is a change that strands
//! somebody's operation. [`check`] loads them all and insists that no variant is without a file. The
//! list of variants comes from the type itself, so a new variant without a file fails the test.

use std::{fmt, fs, path::Path};

use serde::de::{
    DeserializeOwned,
    value::{MapDeserializer, StrDeserializer},
};

use crate::Operation;

/// Loads every saved state in `folder`; the errors are all that is wrong, in sentences.
///
/// A file is named after the variant as it stands in the JSON, with anything after a dot:
/// `<Variant>[.<anything>].json`.
pub fn check<O: Operation>(operation: &O, folder: &Path) -> Result<(), Vec<String>> {
    let mut wrong = Vec::new();
    let mut covered = Vec::new();
    let files = fs::read_dir(folder).map(|entries| {
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        files
    });
    let files = files.unwrap_or_else(|error| {
        wrong.push(format!("{}: {error}", folder.display()));
        Vec::new()
    });
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let Some((variant, _)) = name.split_once('.') else {
            continue;
        };
        let text = fs::read_to_string(&file).unwrap_or_default();
        match serde_json::from_str::<O::State>(&text) {
            Ok(state) => {
                covered.push(variant.to_owned());
                let written = serde_json::to_value(&state).ok();
                if !written.as_ref().is_some_and(|json| names(json, variant)) {
                    wrong.push(format!(
                        "{} is loaded as {}, not as {variant}",
                        file.display(),
                        operation.state_name(&state)
                    ));
                }
            }
            Err(error) => wrong.push(format!(
                "{} does not load any more: {error}. Operations saved like this are stranded; keep \
                 reading the old shape.",
                file.display()
            )),
        }
    }
    let variants = variants_of::<O::State>();
    if variants.is_empty() {
        wrong.push("the state is not an enum that serde derives".to_owned());
    }
    for variant in variants.iter().filter(|v| !covered.iter().any(|c| c == *v)) {
        wrong.push(format!(
            "{variant} has no saved state: write {}/{variant}.json",
            folder.display()
        ));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// Whether a state's JSON is of the variant: the variant's name is its tag, its only key or the
/// whole of it.
fn names(json: &serde_json::Value, variant: &str) -> bool {
    match json {
        serde_json::Value::String(text) => text == variant,
        serde_json::Value::Object(map) => {
            map.contains_key(variant) || map.values().any(|value| value == variant)
        }
        _ => false,
    }
}

/// The variants of an enum as they stand in JSON, whether it is tagged from outside or inside.
/// Empty when the type is no enum.
pub fn variants_of<T: DeserializeOwned>() -> Vec<&'static str> {
    // Serde names the variants when it meets one that does not exist, and the tag when it misses it.
    const NONE: &str = "\0";
    match T::deserialize(StrDeserializer::<Asked>::new(NONE)).err() {
        Some(Asked::Variants(variants)) => return variants.to_vec(),
        Some(Asked::Tag(_) | Asked::Other(_)) | None => {}
    }
    let empty = MapDeserializer::<_, Asked>::new(std::iter::empty::<(&str, &str)>());
    let Some(Asked::Tag(tag)) = T::deserialize(empty).err() else {
        return Vec::new();
    };
    let tagged = MapDeserializer::<_, Asked>::new(std::iter::once((tag, NONE)));
    match T::deserialize(tagged).err() {
        Some(Asked::Variants(variants)) => variants.to_vec(),
        Some(Asked::Tag(_) | Asked::Other(_)) | None => Vec::new(),
    }
}

/// An error that keeps what serde says about the type.
#[derive(Debug)]
enum Asked {
    Variants(&'static [&'static str]),
    Tag(&'static str),
    Other(String),
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variants(variants) => write!(f, "one of {variants:?} is expected"),
            Self::Tag(tag) => write!(f, "the tag {tag:?} is missing"),
            Self::Other(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Asked {}

impl serde::de::Error for Asked {
    fn custom<M: fmt::Display>(message: M) -> Self {
        Self::Other(message.to_string())
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        if expected.is_empty() {
            return Self::custom(format_args!("unknown variant {variant:?}"));
        }
        Self::Variants(expected)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Tag(field)
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, Clone, Serialize, Deserialize)]
    enum Outside {
        One,
        Two(u8),
        Three { at: u8 },
    }

    #[derive(Debug, Clone, Serialize, Deserialize)]
    #[serde(tag = "phase", rename_all = "kebab-case")]
    enum Inside {
        FirstOne,
        Second { at: u8 },
    }

    #[derive(Debug, Clone, Serialize, Deserialize)]
    #[serde(tag = "t", content = "c")]
    enum Beside {
        One,
        Two(u8),
    }

    #[test]
    fn a_type_tells_its_variants_however_it_is_tagged() {
        assert_eq!(variants_of::<Outside>(), ["One", "Two", "Three"]);
        assert_eq!(variants_of::<Inside>(), ["first-one", "second"]);
        assert_eq!(variants_of::<Beside>(), ["One", "Two"]);
        assert!(variants_of::<u32>().is_empty());
        assert!(variants_of::<String>().is_empty());
    }
}
