//! The runner as a process of its own, for the tests: what `freehold runner` is in the binary.

use std::process::ExitCode;

use freehold_migrate::runner_process::runner_main;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs nothing that a process does not have");
    let exit = runtime.block_on(runner_main(tokio::io::stdin(), tokio::io::stdout()));
    // A read of standard input is still under way, and the runtime would wait for it.
    runtime.shutdown_background();
    exit
}
