//! A clock that stands still until a test moves it.

use std::sync::{Arc, Mutex, PoisonError};

use freehold_model::Clock;
use jiff::{SignedDuration, Timestamp};

/// Clones share one time, so a test keeps one and hands the other over.
#[derive(Debug, Clone)]
pub struct TestClock(Arc<Mutex<Timestamp>>);

impl TestClock {
    pub fn new(start: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(start)))
    }

    /// Moves forward, as time does.
    ///
    /// # Panics
    /// When the duration is negative; that is what [`TestClock::jump`] is for.
    pub fn advance(&self, by: SignedDuration) {
        assert!(
            !by.is_negative(),
            "time does not run backwards; use `jump` for a clock that is set"
        );
        self.shift(by);
    }

    /// Jumps in either direction, as a machine's clock does when somebody sets it.
    pub fn jump(&self, by: SignedDuration) {
        self.shift(by);
    }

    pub fn set(&self, to: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }

    fn shift(&self, by: SignedDuration) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = now
            .checked_add(by)
            .expect("a test stays within the range of time stamps");
    }
}

/// The first second of 2026.
impl Default for TestClock {
    fn default() -> Self {
        Self::new(Timestamp::from_second(1_767_225_600).expect("a valid time stamp"))
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_time_and_it_moves_only_when_told() {
        let clock = TestClock::default();
        let other = clock.clone();
        let start = other.now();
        assert_eq!(start.to_string(), "2026-01-01T00:00:00Z");
        clock.advance(SignedDuration::from_secs(90));
        assert_eq!(
            other.now().duration_since(start),
            SignedDuration::from_secs(90)
        );
        clock.jump(SignedDuration::from_hours(-1));
        assert!(other.now() < start);
    }

    #[test]
    #[should_panic(expected = "time does not run backwards")]
    fn advancing_backwards_is_refused() {
        TestClock::default().advance(SignedDuration::from_secs(-1));
    }
}
