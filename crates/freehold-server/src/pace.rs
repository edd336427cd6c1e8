//! How long a body may take to arrive. A client that sends slowly, or nothing, holds a place among
//! the requests and perhaps one of the few for uploads; it is let go, and the handler that waits for
//! its body ends.
//!
//! The body is watched where it is read and not collected before: the handler first asks who sends
//! it, and how large it may be. What a body is allowed is a patience from its first read on, and a
//! time for each byte that has come; together at most half of the request's time, so that a change
//! that has not begun is not answered as one that may take effect.

use std::{fmt, time::Duration};

use axum::body::{Body, Bytes};
use futures::{StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};

/// Why a body broke off.
#[derive(Debug)]
pub(crate) struct TooSlow;

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body came too slowly")
    }
}

impl std::error::Error for TooSlow {}

/// What a body is allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) patience: Duration,
    pub(crate) bytes_per_second_min: u32,
    /// For all of it.
    pub(crate) whole: Duration,
}

impl Pace {
    /// How long after its first read a body may go on when so much of it has come.
    fn allows(self, received: u64) -> Duration {
        let rate = u64::from(self.bytes_per_second_min.max(1));
        let earned = Duration::from_millis(received.saturating_mul(1000) / rate);
        self.patience.saturating_add(earned).min(self.whole)
    }

    pub(crate) fn watch(self, body: Body) -> Body {
        let unread = Some((body.into_data_stream(), None, 0));
        Body::from_stream(stream::unfold(unread, move |state| async move {
            let (mut body, began, received) = state?;
            let began = began.unwrap_or_else(Instant::now);
            let until = began + self.allows(received);
            match timeout_at(until, body.next()).await {
                Ok(None) => None,
                Ok(Some(Ok(bytes))) => {
                    let received = received + bytes.len() as u64;
                    Some((Ok(bytes), Some((body, Some(began), received))))
                }
                Ok(Some(Err(error))) => Some((Err(error.into_inner()), None)),
                Err(_) => Some((Err::<Bytes, _>(TooSlow.into()), None)),
            }
        }))
    }
}

/// Whether an error began with a body that came too slowly.
pub(crate) fn is_too_slow(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<TooSlow>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_earned_by_bytes_up_to_the_whole() {
        let pace = Pace {
            patience: Duration::from_secs(10),
            bytes_per_second_min: 1000,
            whole: Duration::from_secs(60),
        };
        assert_eq!(pace.allows(0), Duration::from_secs(10));
        assert_eq!(pace.allows(5_500), Duration::from_millis(15_500));
        assert_eq!(pace.allows(1_000_000), Duration::from_secs(60));
        assert_eq!(pace.allows(u64::MAX), Duration::from_secs(60));
    }
}
