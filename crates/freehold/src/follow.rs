//! Waiting for an operation, with its events as they come.
//!
//! Leaving does not stop the operation: Ctrl-C ends the watching only, and says how to watch again.

use std::future::Future;

use freehold_api::client::Watched;
use freehold_model::{
    OperationId,
    kinds::{OperationEvent, OperationPhase, OperationView},
};
use indicatif::ProgressBar;

use crate::{
    arguments::Format,
    failure::{Exit, Failure, Outcome},
    output::{self, Tone},
    session::Session,
    units,
};

/// Where the events of an operation are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// They are the result.
    AsResult,
    /// They are news beside the result.
    AsNews,
}

/// Follows an operation from its beginning to its end. Fails when it does not succeed.
pub(crate) async fn follow(session: &Session, id: OperationId, show: Show) -> Outcome {
    follow_from(session, id, 0, show).await
}

pub(crate) async fn follow_from(
    session: &Session,
    id: OperationId,
    after: u64,
    show: Show,
) -> Outcome {
    let mut watch = session.client().await?.operation_watch(id, after);
    let bar = session.output.progress(format!("operation {id}"));
    let ended = loop {
        let next = unless_interrupted(watch.next()).await.ok_or_else(|| {
            bar.finish_and_clear();
            left(session, id)
        })?;
        match next.map_err(|e| lost(&bar, e.into(), id))? {
            Some(Watched::Event(event)) => {
                draw(&bar, &event);
                // Within `suspend` the bar is locked: nothing there may touch it.
                bar.suspend(|| tell(session, &event, show))?;
            }
            Some(Watched::Ended(view)) => break view,
            None => return Ok(()),
        }
    };
    bar.finish_and_clear();
    conclude(session, &ended, show)
}

/// The future's result, or `None` when the user pressed Ctrl-C.
pub(crate) async fn unless_interrupted<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        result = work => Some(result),
        _ = tokio::signal::ctrl_c() => None,
    }
}

fn left(session: &Session, id: OperationId) -> Failure {
    session.output.note(format!(
        "The operation goes on without us. Watch it again with `freehold operation watch {id}`."
    ));
    Failure::silent(Exit::Interrupted)
}

fn lost(bar: &ProgressBar, failure: Failure, id: OperationId) -> Failure {
    bar.finish_and_clear();
    let hint = format!(
        "The operation goes on without us. Watch it again with `freehold operation watch {id}`."
    );
    match &failure.hint {
        Some(first) => {
            let both = format!("{first} {hint}");
            failure.hint(both)
        }
        None => failure.hint(hint),
    }
}

fn draw(bar: &ProgressBar, event: &OperationEvent) {
    if let Some((done, total)) = event.progress {
        bar.set_style(output::counter());
        bar.set_length(total);
        bar.set_position(done);
    } else {
        bar.set_style(output::spinner());
    }
    bar.set_message(first_line(&event.message).to_owned());
}

fn tell(session: &Session, event: &OperationEvent, show: Show) -> Outcome {
    let out = &session.output;
    match (show, out.format) {
        (Show::AsResult, Format::Json | Format::Yaml) => {
            out.line(serde_json::to_string(event).expect("an event is plain data"))
        }
        (Show::AsResult, _) => out.line(event_line(event)),
        (Show::AsNews, _) => {
            // The whole of a long message stands in the outcome; once is enough.
            let first = first_line(&event.message).to_owned();
            out.note(event_line(&OperationEvent {
                message: first,
                ..event.clone()
            }));
            Ok(())
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// `12:03:01  CreateDatabase  created shop_main (3/10)`.
pub(crate) fn event_line(event: &OperationEvent) -> String {
    let time = event.at.strftime("%H:%M:%S");
    let counted = event
        .progress
        .map(|(done, total)| format!(" ({done}/{total})"))
        .unwrap_or_default();
    let message = event.message.replace('\n', "\n          ");
    format!("{time}  {}  {message}{counted}", event.state)
}

fn conclude(session: &Session, view: &OperationView, show: Show) -> Outcome {
    let spec = &view.spec;
    if show == Show::AsResult && session.output.is_structured() {
        session
            .output
            .line(serde_json::to_string(view).expect("a view is plain data"))?;
    }
    let what = format!("{} {}", spec.verb, spec.target);
    let took = spec
        .finished_at
        .map(|end| format!(" in {}", units::age(end, spec.created_at)))
        .unwrap_or_default();
    match spec.phase {
        OperationPhase::Succeeded => {
            let done = session.output.paint(Tone::Good, "done");
            session.output.note(format!("{done}: {what}{took}"));
            Ok(())
        }
        OperationPhase::Cancelled => Err(Failure::failed(format!("{what} was cancelled"))),
        OperationPhase::NeedsAttention => {
            let message = format!("{what} waits for a person: {}", spec.message);
            Err(Failure::new(Exit::Refused, message).hint(format!(
                "When it is settled: `freehold operation resume {id}`, or `freehold operation cancel {id}`.",
                id = spec.id
            )))
        }
        OperationPhase::Failed | OperationPhase::Running | OperationPhase::Waiting => {
            let hint = format!("All of it: `freehold operation get {}`.", spec.id);
            Err(Failure::failed(format!("{what} failed: {}", spec.message)).hint(hint))
        }
    }
}
