//! Where the key-encryption key comes from.

use std::{path::PathBuf, str::FromStr};

use freehold_model::Error;

/// Never the store. The key is 32 bytes in base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file that only its owner may read; made at first start when `generate` is set.
    File {
        path: PathBuf,
        generate: bool,
    },
    Environment {
        variable: String,
    },
    /// A program and its arguments, run without a shell; its output is the key.
    Command {
        command: String,
    },
}

impl FromStr for KeySource {
    type Err = Error;
    /// `file:/path`, `env:NAME` or `exec:command args`.
    fn from_str(_text: &str) -> Result<Self, Error> {
        unimplemented!()
    }
}
