//! Tokens that were refused, counted: a stranger must be seen in the log, and must not be able to
//! fill it. The first refusal after a quiet time is written at once; those that follow are counted, and
//! written as one entry when the interval is over. A killed server loses at most one interval's count.
//!
//! One count for all, not one per address or token: whoever floods has as many of those as he likes.

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::tokens::TokenId;

/// One entry in this time, from each server.
const INTERVAL: SignedDuration = SignedDuration::from_secs(60);

/// One refused token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The id within what was sent, when it looks like a token of ours.
    pub(crate) token: Option<TokenId>,
    pub(crate) request_id: String,
}

/// What one entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) attempts: u64,
    pub(crate) since: Timestamp,
    pub(crate) last: Refusal,
}

#[derive(Debug, Default)]
pub(crate) struct RefusedLogins(Mutex<Counting>);

#[derive(Debug, Default)]
struct Counting {
    written_at: Option<Timestamp>,
    counted: Option<Summary>,
}

impl Counting {
    fn count(&mut self, more: Summary) {
        self.counted = Some(match self.counted.take() {
            None => more,
            Some(known) => Summary {
                attempts: known.attempts + more.attempts,
                since: known.since.min(more.since),
                last: more.last,
            },
        });
    }

    fn due(&mut self, now: Timestamp, everything: bool) -> Option<Summary> {
        // A clock that was set back does not silence the log.
        let quiet = self.written_at.is_none_or(|at| {
            let since = now.duration_since(at);
            since >= INTERVAL || since.is_negative()
        });
        if !quiet && !everything {
            return None;
        }
        let due = self.counted.take()?;
        self.written_at = Some(now);
        Some(due)
    }
}

impl RefusedLogins {
    fn counting(&self) -> std::sync::MutexGuard<'_, Counting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one; gives back what is to be written now.
    pub(crate) fn note(&self, now: Timestamp, seen: Refusal) -> Option<Summary> {
        let mut counting = self.counting();
        counting.count(Summary {
            attempts: 1,
            since: now,
            last: seen,
        });
        counting.due(now, false)
    }

    /// What was counted and is to be written now.
    pub(crate) fn due(&self, now: Timestamp, everything: bool) -> Option<Summary> {
        self.counting().due(now, everything)
    }

    /// What could not be written is counted on.
    pub(crate) fn give_back(&self, summary: Summary) {
        let mut counting = self.counting();
        let newer = counting.counted.take();
        counting.count(summary);
        if let Some(newer) = newer {
            counting.count(newer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn seen(request_id: &str) -> Refusal {
        Refusal {
            token: None,
            request_id: request_id.to_owned(),
        }
    }

    #[test]
    fn a_flood_is_one_entry_at_once_and_one_per_interval_that_counts_the_rest() {
        let logins = RefusedLogins::default();
        let first = logins.note(at(0), seen("first")).unwrap();
        assert_eq!((first.attempts, first.since), (1, at(0)));
        for second in 1..60 {
            assert_eq!(logins.note(at(second), seen("more")), None);
        }
        assert_eq!(logins.due(at(59), false), None);
        let rest = logins.due(at(60), false).unwrap();
        assert_eq!((rest.attempts, rest.since), (59, at(1)));
        assert_eq!(logins.due(at(200), false), None, "nothing is left");
        // After a quiet time the next one is written at once again.
        assert_eq!(logins.note(at(200), seen("later")).unwrap().attempts, 1);
    }

    #[test]
    fn what_could_not_be_written_is_written_with_the_next() {
        let logins = RefusedLogins::default();
        let lost = logins.note(at(0), seen("first")).unwrap();
        assert_eq!(logins.note(at(1), seen("second")), None);
        logins.give_back(lost);
        let all = logins.due(at(2), true).unwrap();
        assert_eq!((all.attempts, all.since), (2, at(0)));
        assert_eq!(all.last, seen("second"));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_silence_the_log() {
        let logins = RefusedLogins::default();
        assert!(logins.note(at(5_000), seen("before")).is_some());
        assert!(logins.note(at(0), seen("after")).is_some());
    }
}
