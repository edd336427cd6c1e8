//! Where the story is told: on standard output, or on standard error when standard output is for a
//! summary that a program reads.
//!
//! A reader that goes away ends the demo as Ctrl-C would: nobody is left who sees what it shows.

use super::interruption::Interruption;
use crate::output::Output;

#[derive(Clone)]
pub(crate) struct Voice {
    output: Output,
    interruption: Interruption,
}

impl Voice {
    pub(crate) fn new(output: Output, interruption: Interruption) -> Self {
        Self {
            output,
            interruption,
        }
    }

    pub(crate) fn say(&self, text: &str) {
        if self.output.is_structured() {
            self.output.note(text);
        } else if self.output.line(text).is_err() {
            self.interruption.raise();
        }
    }

    /// Shows the output of a command below it. Its lines may be long; the terminal wraps them.
    pub(crate) fn indented<'a>(&self, lines: impl IntoIterator<Item = &'a str>) {
        for line in lines {
            self.say(&format!("     {line}"));
        }
    }

    pub(crate) fn interruption(&self) -> &Interruption {
        &self.interruption
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::{
        arguments::Format,
        output::testing::{Written, captured as output},
    };

    /// A voice, and what it said.
    pub(crate) fn captured(interruption: &Interruption) -> (Voice, Written) {
        let (output, said, _) = output(Format::Table);
        (Voice::new(output, interruption.clone()), said)
    }
}
