//! What the runner counts. Labels are verbs and state names: a bounded set.

use std::time::Duration;

use crate::OperationRecord;

pub(crate) fn step(verb: &'static str, state: &str, outcome: &'static str, took: Duration) {
    metrics::counter!("freehold_workflow_steps_total",
        "verb" => verb, "state" => state.to_owned(), "outcome" => outcome)
    .increment(1);
    metrics::histogram!("freehold_workflow_step_seconds",
        "verb" => verb, "state" => state.to_owned())
    .record(took.as_secs_f64());
}

pub(crate) fn retry(verb: &'static str, state: &str) {
    metrics::counter!("freehold_workflow_retries_total",
        "verb" => verb, "state" => state.to_owned())
    .increment(1);
}

/// From the request to the end, once an operation has ended.
pub(crate) fn saved(record: &OperationRecord) {
    let Some(finished_at) = record.finished_at else {
        return;
    };
    let phase = record.view().phase;
    let took = finished_at.duration_since(record.created_at);
    metrics::counter!("freehold_workflow_operations_ended_total",
        "verb" => record.verb.clone(), "phase" => format!("{phase:?}"))
    .increment(1);
    metrics::histogram!("freehold_workflow_operation_seconds", "verb" => record.verb.clone())
        .record(took.as_secs_f64());
}

/// How many operations of a verb are due and not being driven here, at most a page.
pub(crate) fn queue(verb: &'static str, due: usize) {
    metrics::gauge!("freehold_workflow_due", "verb" => verb).set(as_gauge(due));
}

pub(crate) fn driving(count: usize) {
    metrics::gauge!("freehold_workflow_driving").set(as_gauge(count));
}

fn as_gauge(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
