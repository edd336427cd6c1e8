//! The gates as their users meet them: pages, samples, outputs, and whatever text may come.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod folder;
mod outputs;
mod pages;
mod properties;
mod samples;
mod sequences;
