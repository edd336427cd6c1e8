//! How long to pause before the next attempt.

use std::time::Duration;

use freehold_model::Entropy;

/// Doubles from `first` up to `max`; half of the pause is random, so that many that failed together
/// do not come back together. `attempt` counts from 1.
pub(crate) fn pause(
    attempt: u32,
    first: Duration,
    max: Duration,
    entropy: &dyn Entropy,
) -> Duration {
    let doublings = attempt.saturating_sub(1).min(30);
    let full = first.saturating_mul(1 << doublings).min(max);
    let mut random = [0u8; 2];
    entropy.fill(&mut random);
    let fraction = f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX);
    full.mul_f64(0.5 + fraction / 2.0)
}

/// Pauses inside one call that waits for the store: from 10 ms up to 1 s.
#[derive(Debug, Default)]
pub(crate) struct Patience(u32);

impl Patience {
    pub(crate) async fn wait(&mut self) {
        let pause = Duration::from_millis(10 << self.0.min(7)).min(Duration::from_secs(1));
        self.0 += 1;
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Always(u8);

    impl Entropy for Always {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_vary_by_half() {
        let (first, max) = (Duration::from_secs(1), Duration::from_secs(300));
        let longest = |attempt| pause(attempt, first, max, &Always(0xff));
        assert_eq!(longest(1), Duration::from_secs(1));
        assert_eq!(longest(2), Duration::from_secs(2));
        assert_eq!(longest(5), Duration::from_secs(16));
        assert_eq!(longest(20), max);
        assert_eq!(longest(u32::MAX), max, "no overflow after years of trying");
        assert_eq!(pause(5, first, max, &Always(0)), Duration::from_secs(8));
    }
}
