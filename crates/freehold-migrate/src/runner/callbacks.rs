//! Runs callbacks: scripts that belong to a moment of the run and leave no row.
//!
//! Those around a single script are sent by its [`Execution`], in its transaction. All others run here, each
//! in a transaction of its own where it has one. One that fails, fails the run; after a failure one more is
//! only worth a word.

use freehold_engine::ScriptSession;

use super::{
    Around, Migrator, Turn,
    event::{Observer, RunEvent},
    execute::Execution,
    failure::RunFailure,
    load,
    seat::Seat,
};
use crate::{CallbackEvent, Migration, Migrations};

/// The callbacks of one event, in their order.
pub(super) fn of<'m, 'a>(
    migrations: &'m Migrations<'a>,
    event: CallbackEvent,
) -> Vec<&'m Migration<'a>> {
    let callbacks = migrations.callbacks.iter();
    callbacks
        .filter(|(of, _)| *of == event)
        .map(|(_, callback)| callback)
        .collect()
}

impl<S: ScriptSession> Migrator<'_, S> {
    pub(super) async fn call(
        &mut self,
        seat: &Seat,
        migrations: &Migrations<'_>,
        event: CallbackEvent,
        observer: &mut impl Observer,
    ) -> Result<(), RunFailure> {
        for script in load(&of(migrations, event))? {
            self.stop.check(Some(script.path))?;
            let around = Around::default();
            let turn = Turn {
                script: &script,
                around: &around,
                reset: &[],
                rank: 0,
                is_first: false,
            };
            let execution = Execution::of(self.session, seat, &self.stop, observer, turn);
            Box::pin(execution.call(self.options.lock_attempts)).await?;
        }
        Ok(())
    }

    /// What it comes to changes nothing about the failure.
    pub(super) async fn call_after_failure(
        &mut self,
        seat: &Seat,
        migrations: &Migrations<'_>,
        event: CallbackEvent,
        observer: &mut impl Observer,
    ) {
        if let Err(failure) = self.call(seat, migrations, event, observer).await {
            let message = format!("a callback after the failure failed too: {failure}");
            let file = String::new();
            observer.observe(RunEvent::Notice { file, message }).await;
        }
    }
}
