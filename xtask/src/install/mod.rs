//! `cargo xtask install`: everything that `test` and `demo` need and cargo does not bring.
//!
//! What is there already is left alone, so the second run takes a fraction of a second. What cannot
//! be installed is an error that says what to run by hand; nothing goes on with less.

mod cargo_tools;
mod debian;
mod postgres;

use crate::Result;

pub(crate) fn run() -> Result {
    debian::install()?;
    cargo_tools::install()?;
    postgres::install()
}
