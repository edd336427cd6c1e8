//! Times and sizes as people read them.

use jiff::{SignedDuration, Timestamp};

/// How long ago, in one or two units: `45s`, `12m`, `3h`, `2d5h`, `80d`.
pub(crate) fn age(now: Timestamp, then: Timestamp) -> String {
    duration(now.duration_since(then))
}

/// A hundred years: nobody means a date beyond.
const FOREVER_SECONDS: i64 = 100 * 365 * 86_400;

pub(crate) fn duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    if seconds < 0 {
        return match self::duration(-duration).as_str() {
            "ever" => "never".to_owned(),
            other => format!("in {other}"),
        };
    }
    if seconds > FOREVER_SECONDS {
        return "ever".to_owned();
    }
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0..=1) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m"),
        (0, 1..=9, _) if minutes % 60 != 0 => format!("{hours}h{}m", minutes % 60),
        (0, _, _) => format!("{hours}h"),
        (1..=9, _, _) if hours % 24 != 0 => format!("{days}d{}h", hours % 24),
        _ => format!("{days}d"),
    }
}

/// `512 B`, `1.4 MiB`, `230 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(value < 10.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_or_two_units() {
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (3_599, "59m"),
            (3_600, "1h"),
            (5_400, "1h30m"),
            (36_060, "10h"),
            (86_400, "1d"),
            (180_000, "2d2h"),
            (8_640_000, "100d"),
            (-300, "in 5m"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(SignedDuration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn sizes_keep_two_digits() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_468_006, "1.4 MiB"),
            (246_960_619_520, "230 GiB"),
            (u64::MAX, "16384 PiB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }
}
