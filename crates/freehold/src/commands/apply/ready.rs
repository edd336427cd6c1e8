//! Waiting until a resource is ready, and saying all the while why it is not.
//!
//! What a person has to repair is not waited for to the limit: when a reason that no further look can
//! change has stood for several of the server's looks, waiting ends with that reason. It is not
//! believed at once, because it may be from before the repair.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use freehold_model::{ConditionStatus, ConditionType, Kind, Resource, ResourceKey};

use crate::{
    failure::{Exit, Failure, Outcome},
    follow,
    session::Session,
    tables::Observed,
};

const POLL_INTERVAL: Duration = Duration::from_millis(300);

/// Three of the looks that a server takes at its instances by default.
const PATIENCE: Duration = Duration::from_secs(45);

/// Reasons that stay until a person acts: another server answers at the address, the same server is
/// registered twice, the admin login lacks a right.
const FOR_A_PERSON: &[&str] = &["ServerMismatch", "SameServer", "AdminLacksRight"];

/// What is known of a resource that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Ready,
    /// No look at what was just applied has been reported yet.
    Unseen,
    Waiting(Why),
}

/// A condition's reason and its message, which says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Why {
    reason: String,
    message: String,
}

/// What is being waited for at the moment, for whoever ends the waiting from outside.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting(Arc<Mutex<Option<(ResourceKey, State)>>>);

impl Waiting {
    fn set(&self, key: &ResourceKey, state: &State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((key.clone(), state.clone()));
    }

    /// The failure of waiting longer than the limit.
    pub(super) fn out_of_time(&self, limit: Duration) -> Failure {
        let message = format!("not everything was ready within {} s", limit.as_secs());
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((key, state)) = &*waiting else {
            return Failure::new(Exit::Unavailable, message)
                .hint("It goes on without us: `freehold operation list` shows what is running.");
        };
        let mut failure = Failure::new(Exit::Unavailable, message);
        failure.causes = vec![told(key, state)];
        failure.hint(format!("It goes on without us: `{}`.", describe(key)))
    }
}

/// Waits until the resource is ready, and tells each reason why it is not when it is new.
pub(super) async fn ready(key: &ResourceKey, waiting: &Waiting, session: &Session) -> Outcome {
    if !matches!(key.kind, Kind::Database | Kind::Access | Kind::Instance) {
        return Ok(());
    }
    let bar = session.output.progress(format!("waiting for {key}"));
    let mut last = State::Unseen;
    let mut since = Instant::now();
    loop {
        let resource = session.client().await?.resource_get(key).await?;
        let state = state_of(&resource);
        waiting.set(key, &state);
        if state == State::Ready {
            bar.finish_and_clear();
            return Ok(());
        }
        if state != last {
            if reason(&state) != reason(&last) {
                since = Instant::now();
            }
            let text = told(key, &state);
            bar.set_message(format!("waiting: {text}"));
            bar.suspend(|| session.output.note(&text));
            last = state;
        }
        if is_hopeless(&last, since.elapsed()) {
            bar.finish_and_clear();
            return Err(hopeless(key, &last));
        }
        let pause = tokio::time::sleep(POLL_INTERVAL);
        if follow::unless_interrupted(pause).await.is_none() {
            bar.finish_and_clear();
            session
                .output
                .note(format!("It goes on without us: `{}`.", describe(key)));
            return Err(Failure::silent(Exit::Interrupted));
        }
    }
}

/// How the present generation is doing.
fn state_of(resource: &Resource) -> State {
    let status = Observed::of(resource);
    let Some(condition) = status.conditions.get(ConditionType::Ready) else {
        return State::Unseen;
    };
    let seen = condition
        .observed_generation
        .max(status.observed_generation);
    if seen < resource.metadata.generation {
        return State::Unseen;
    }
    if condition.status == ConditionStatus::True {
        return State::Ready;
    }
    State::Waiting(Why {
        reason: condition.reason.clone(),
        message: condition.message.clone(),
    })
}

fn reason(state: &State) -> Option<&str> {
    match state {
        State::Waiting(why) => Some(&why.reason),
        State::Ready | State::Unseen => None,
    }
}

fn is_hopeless(state: &State, stood: Duration) -> bool {
    reason(state).is_some_and(|reason| FOR_A_PERSON.contains(&reason)) && stood >= PATIENCE
}

fn hopeless(key: &ResourceKey, state: &State) -> Failure {
    let message = format!("{key} will not be ready by waiting: somebody has to act");
    let mut failure = Failure::new(Exit::Refused, message);
    failure.causes = vec![told(key, state)];
    failure.hint(format!("`{}` shows all its conditions.", describe(key)))
}

/// One line: the resource, the reason, and what the condition says to do about it.
fn told(key: &ResourceKey, state: &State) -> String {
    match state {
        State::Ready => format!("{key} is ready"),
        State::Unseen => format!("{key} has not been looked at yet"),
        State::Waiting(why) if why.message.is_empty() => {
            format!("{key} is not ready ({})", why.reason)
        }
        State::Waiting(why) => format!("{key} is not ready ({}): {}", why.reason, why.message),
    }
}

fn describe(key: &ResourceKey) -> String {
    let kind = key.kind.as_str().to_ascii_lowercase();
    format!("freehold describe {kind} {}", key.name)
}

#[cfg(test)]
mod tests {
    use freehold_model::Name;
    use serde_json::json;

    use super::*;

    fn resource(generation: u64, observed: u64, status: &str) -> Resource {
        serde_json::from_value(json!({
            "apiVersion": "freehold.dev/v1alpha1",
            "kind": "Instance",
            "metadata": {"name": "pg-1", "generation": generation},
            "spec": {},
            "status": {
                "observedGeneration": observed,
                "conditions": [{
                    "type": "Ready", "status": status, "reason": "R", "message": "m",
                    "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": observed,
                }],
            },
        }))
        .unwrap()
    }

    fn key() -> ResourceKey {
        ResourceKey {
            kind: Kind::Instance,
            environment: Some(Name::new("local").unwrap()),
            team: None,
            name: Name::new("pg-1").unwrap(),
        }
    }

    fn waiting(reason: &str) -> State {
        State::Waiting(Why {
            reason: reason.to_owned(),
            message: "Do this.".to_owned(),
        })
    }

    #[test]
    fn ready_means_ready_for_what_was_just_applied() {
        assert_eq!(state_of(&resource(2, 2, "True")), State::Ready);
        assert_eq!(state_of(&resource(2, 1, "True")), State::Unseen);
        let why = Why {
            reason: "R".to_owned(),
            message: "m".to_owned(),
        };
        let unknown = state_of(&resource(1, 1, "Unknown"));
        assert_eq!(unknown, State::Waiting(why));
    }

    #[test]
    fn only_what_a_person_must_repair_ends_the_waiting_early_and_not_at_once() {
        let short = PATIENCE - Duration::from_secs(1);
        assert!(is_hopeless(&waiting("ServerMismatch"), PATIENCE));
        assert!(!is_hopeless(&waiting("ServerMismatch"), short));
        for passing in ["Unreachable", "ServerReadOnly", "NoCandidate"] {
            assert!(!is_hopeless(&waiting(passing), PATIENCE * 10), "{passing}");
        }
        assert!(!is_hopeless(&State::Unseen, PATIENCE * 10));
    }

    #[test]
    fn whoever_waited_in_vain_learns_why_and_what_to_do() {
        let seen = Waiting::default();
        seen.set(&key(), &waiting("Unreachable"));
        let failure = seen.out_of_time(Duration::from_secs(5));
        insta::assert_snapshot!(crate::output::render(&failure, false), @r"
        error: not everything was ready within 5 s
          caused by: instance/pg-1 in local is not ready (Unreachable): Do this.
        hint: It goes on without us: `freehold describe instance pg-1`.
        ");
        let failure = hopeless(&key(), &waiting("SameServer"));
        insta::assert_snapshot!(crate::output::render(&failure, false), @r"
        error: instance/pg-1 in local will not be ready by waiting: somebody has to act
          caused by: instance/pg-1 in local is not ready (SameServer): Do this.
        hint: `freehold describe instance pg-1` shows all its conditions.
        ");
        assert_eq!(failure.exit, Exit::Refused);
    }
}
