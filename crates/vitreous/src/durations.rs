//! Durations as text: formatting and parsing.

use std::time::Duration;

/// Formats a duration: `0.42 s`, `38 s`, `4 min 05 s`, `2 h 03 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        _ if seconds < 10.0 => format!("{seconds:.2} s"),
        0..=59 => format!("{whole} s"),
        60..=3599 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Formats the remaining time, in whole seconds: `2 s`, `4 min 05 s`.
pub fn time_left(seconds: f64) -> String {
    match seconds.ceil() {
        whole if whole < 10.0 => format!("{whole:.0} s"),
        whole => duration(whole),
    }
}

/// Parses a duration: `30s`, `5m`, `1h30m`, `2d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut seconds = 0.0;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit = rest[end..].chars().next()?;
        let factor = match unit {
            's' => 1.0,
            'm' => 60.0,
            'h' => 3600.0,
            'd' => 86400.0,
            _ => return None,
        };
        seconds += rest[..end].parse::<f64>().ok()? * factor;
        rest = rest[end + 1..].trim_start();
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_or_two_units() {
        assert_eq!(duration(245.0), "4 min 05 s");
        assert_eq!([0.0, 1.2, 9.5, 244.1].map(time_left), ["0 s", "2 s", "10 s", "4 min 05 s"]);
    }

    #[test]
    fn durations_are_parsed() {
        let read = |text| parse_duration(text).map(|duration| duration.as_secs_f64());
        let good =
            [("30s", 30.0), ("5m", 300.0), ("1h30m", 5400.0), ("0.5s", 0.5), ("2d", 172_800.0), ("1h 5s", 3605.0)];
        for (text, seconds) in good {
            assert_eq!(read(text), Some(seconds), "{text}");
        }
        for text in ["", "5", "m", "5x", "0s", "-5m", "5m3", "1e9s", "99999999999999999999d"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
