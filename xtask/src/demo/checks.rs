//! What a step claims, and whether it held. Every claim is printed as it is checked.

use crate::Result;

#[derive(Debug, Default)]
pub(crate) struct Checks {
    held: usize,
    broken: Vec<String>,
}

impl Checks {
    /// Claims something that is true or not.
    pub(crate) fn that(&mut self, claim: &str, holds: bool) {
        println!("   {} {claim}", if holds { "✓" } else { "✗" });
        if holds {
            self.held += 1;
        } else {
            self.broken.push(claim.to_owned());
        }
    }

    /// Claims that a text holds a part; shows the text when it does not.
    pub(crate) fn contains(&mut self, claim: &str, text: &str, part: &str) {
        let holds = text.contains(part);
        self.that(claim, holds);
        if !holds {
            println!("     expected to find {part:?} in:\n{text}");
        }
    }

    /// Claims that two values are equal; shows both when they are not.
    pub(crate) fn equal<T: PartialEq + std::fmt::Debug>(
        &mut self,
        claim: &str,
        actual: &T,
        expected: &T,
    ) {
        let holds = actual == expected;
        self.that(claim, holds);
        if !holds {
            println!("     expected {expected:?}, got {actual:?}");
        }
    }

    pub(super) fn held(&self) -> usize {
        self.held
    }

    pub(super) fn verdict(&self) -> Result {
        match (self.held, self.broken.as_slice()) {
            (0, []) => Err("it checked nothing".to_owned()),
            (_, []) => Ok(()),
            (_, broken) => Err(format!("not true: {}", broken.join("; "))),
        }
    }
}
