//! A report in the forms that people and tools read.

mod github;
mod gitlab;
mod sarif;
mod text;

pub use github::annotations as github;
pub use gitlab::code_quality as gitlab;
pub use sarif::log as sarif;
pub use text::{Paint, Tone, plain, text};
