//! Operations and passes on real stores. Nothing here sleeps: every wait is for the thing itself.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests do")]

mod cancelling;
mod claiming;
mod crashing;
mod faults;
mod flaky;
mod history;
mod requesting;
mod running;
mod saved_states;
mod stage;
mod stopping;
mod toy;
