//! A binding as a directory of files.

use std::{io, path::Path};

use super::Credentials;

/// Writes one file per key below `directory`, replacing all of them at once for a reader that
/// resolves the directory's `..data` link.
pub fn write_directory(_directory: &Path, _credentials: &Credentials) -> io::Result<()> {
    unimplemented!()
}
