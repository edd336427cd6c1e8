use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{arguments::Cli, failure::Outcome, output::Output};

/// Print a shell's completion script
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold completion bash > ~/.local/share/bash-completion/completions/freehold
  freehold completion zsh > ~/.zfunc/_freehold
  freehold completion fish > ~/.config/fish/completions/freehold.fish")]
pub(crate) struct Args {
    #[arg(value_parser = clap::value_parser!(Shell))]
    shell: Shell,
}

pub(crate) fn run(args: &Args, output: &Output) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "freehold", &mut script);
    output.write_bytes(&script)
}
