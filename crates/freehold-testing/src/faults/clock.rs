//! A clock that runs like the machine's and can be moved.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use freehold_model::{Clock, SystemClock};
use jiff::Timestamp;

/// The machine's time plus what it was moved by. A store on this clock has leases that lapse when
/// the test says so.
#[derive(Debug, Default)]
pub struct JumpClock {
    offset_ms: AtomicI64,
}

impl JumpClock {
    pub fn forward(&self, by: Duration) {
        let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.offset_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    pub fn back(&self, by: Duration) {
        let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.offset_ms.fetch_sub(by_ms, Ordering::SeqCst);
    }
}

impl Clock for JumpClock {
    fn now(&self) -> Timestamp {
        let now = SystemClock.now();
        let moved = now.as_millisecond() + self.offset_ms.load(Ordering::SeqCst);
        Timestamp::from_millisecond(moved).unwrap_or(now)
    }
}
