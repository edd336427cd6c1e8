//! Cargo's own plug-ins.

use crate::{Result, command, workspace};

pub(super) fn install() -> Result {
    let root = workspace::root();
    if command::succeeds(command::cargo(&root).args(["nextest", "--version"])) {
        println!("cargo-nextest: there");
        return Ok(());
    }
    println!("cargo-nextest: missing, it is built from source once, which takes minutes");
    command::run(command::cargo(&root).args(["install", "--locked", "cargo-nextest"]))
}
