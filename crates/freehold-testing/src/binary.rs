//! Where the program under test is, for tests that use it from outside.

use std::env;
use std::path::PathBuf;

/// Names the program to test instead of the one that was built beside the tests.
pub const VARIABLE: &str = "FREEHOLD_BIN";

/// The built `freehold` program: `$FREEHOLD_BIN`, or the one in the profile directory in which the
/// running test was built.
///
/// Cargo rebuilds it before the tests of the crate that holds it, and `cargo xtask test` builds it
/// before all tests; a single test of another crate runs what was built last.
///
/// # Panics
/// When it has not been built.
pub fn freehold() -> PathBuf {
    if let Some(path) = env::var_os(VARIABLE) {
        let path = PathBuf::from(path);
        assert!(
            path.is_file(),
            "{VARIABLE} names {}, which is no file",
            path.display()
        );
        return path;
    }
    let test = env::current_exe().expect("a running program has a path");
    // target/<profile>/deps/<test> or target/<profile>/examples/<example>
    let profile = test
        .ancestors()
        .nth(2)
        .expect("a test lies two folders deep");
    let path = profile.join(format!("freehold{}", env::consts::EXE_SUFFIX));
    assert!(
        path.is_file(),
        "{} does not exist; `cargo build -p freehold` makes it",
        path.display()
    );
    path
}
