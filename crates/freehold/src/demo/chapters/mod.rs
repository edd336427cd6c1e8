//! The story, one file per chapter. Each chapter builds on those before it.
//!
//! What the people in it apply and run lies in the repository's folder `samples/demo`.

mod access;
mod audit;
mod drift;
mod engines;
mod migrate;
mod people;
mod place;
mod platform;
mod quarantine;
mod strangers;

use super::Chapter;

/// In the order in which they are told.
pub(crate) const ALL: &[Chapter] = &[
    platform::CHAPTER,
    place::CHAPTER,
    migrate::CHAPTER,
    access::CHAPTER,
    strangers::CHAPTER,
    drift::CHAPTER,
    quarantine::CHAPTER,
    engines::CHAPTER,
    audit::CHAPTER,
];
