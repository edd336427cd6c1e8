use crate::failure::{Failure, Outcome};

/// One migration run, started by the server: bundle and credential come on standard input.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Reads neither configuration nor contexts: a runner holds one credential for one database.
pub(crate) fn run(_: &Args) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed("the runner cannot be started").because(&e))?;
    let exit = runtime.block_on(freehold_migrate::runner_process::runner(
        tokio::io::stdin(),
        tokio::io::stdout(),
    ));
    // Standard input stays open as long as the parent lives: nobody waits for its reader.
    runtime.shutdown_background();
    std::process::exit(exit as i32);
}
