//! The runner process: started for one migration, given bundle and credential on its standard
//! input, heard on its standard output.

use freehold_engine::ConnectTarget;
use freehold_workflow::StepContext;

use super::migrate::MigrateOutcome;
use crate::{converge::Trouble, start::Control};

/// Why a run has no outcome.
pub(super) enum RunTrouble {
    /// The bundle or the database's state does not allow it, or a script failed.
    Refused(String),
    Cancelled,
    /// The process ended without saying how: what happened is in the history table.
    Lost(String),
    Server(Trouble),
}

impl From<Trouble> for RunTrouble {
    fn from(trouble: Trouble) -> Self {
        Self::Server(trouble)
    }
}

pub(super) async fn run(
    _control: &Control,
    _step: &StepContext,
    _target: &ConnectTarget,
    _bundle: Vec<u8>,
) -> Result<MigrateOutcome, RunTrouble> {
    Err(RunTrouble::Refused("not built".to_owned()))
}
