//! What a step claims, and whether it held. Every claim is told as it is checked.

use std::fmt::Debug;

use serde::Serialize;

use super::{Result, voice::Voice};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    pub claim: String,
    pub held: bool,
}

pub(crate) struct Checks {
    voice: Voice,
    all: Vec<Check>,
}

impl Checks {
    pub(super) fn new(voice: Voice) -> Self {
        Self {
            voice,
            all: Vec::new(),
        }
    }

    /// Claims something that is true or not.
    pub(crate) fn that(&mut self, claim: &str, holds: bool) {
        let sign = if holds { "✓" } else { "✗" };
        self.voice.say(&format!("   {sign} {claim}"));
        self.all.push(Check {
            claim: claim.to_owned(),
            held: holds,
        });
    }

    /// Claims that a text holds a part; shows the text when it does not.
    pub(crate) fn contains(&mut self, claim: &str, text: &str, part: &str) {
        let holds = text.contains(part);
        self.that(claim, holds);
        if !holds {
            let expected = format!("     expected to find {part:?} in:\n{text}");
            self.voice.say(&expected);
        }
    }

    /// Claims that two values are equal; shows both when they are not.
    pub(crate) fn equal<T: PartialEq + Debug>(&mut self, claim: &str, actual: &T, expected: &T) {
        let holds = actual == expected;
        self.that(claim, holds);
        if !holds {
            let both = format!("     expected {expected:?}, got {actual:?}");
            self.voice.say(&both);
        }
    }

    pub(super) fn verdict(&self) -> Result {
        if self.all.is_empty() {
            return Err("it checked nothing".to_owned());
        }
        let broken = self.all.iter().filter(|check| !check.held);
        let broken: Vec<&str> = broken.map(|check| check.claim.as_str()).collect();
        if broken.is_empty() {
            Ok(())
        } else {
            Err(format!("not true: {}", broken.join("; ")))
        }
    }

    pub(super) fn into_all(self) -> Vec<Check> {
        self.all
    }
}
