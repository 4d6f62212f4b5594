//! What people read: counts, bytes, durations, percentages, what the system says, words that were meant.

use std::io;
use std::time::Duration;

/// What [`system_error`] says when a file would get larger than `ulimit -f` allows.
pub const FILE_SIZE_LIMIT: &str = "the file size limit is reached";

/// Writes an integer with commas: `106,122`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Writes a number of bytes in decimal units: `1.5 MB`.
pub fn bytes(n: u64) -> String {
    scaled(n as f64, &["B", "kB", "MB", "GB", "TB"])
}

/// Writes bytes in hexadecimal, as of a hash.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a number of floating-point operations: `2.5 GFLOP`.
pub fn flops(n: u64) -> String {
    scaled(n as f64, &["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"])
}

fn scaled(mut value: f64, names: &[&str]) -> String {
    let mut at = 0;
    while value >= 1000.0 && at + 1 < names.len() {
        value /= 1000.0;
        at += 1;
    }
    if at == 0 { format!("{value:.0} {}", names[0]) } else { format!("{value:.1} {}", names[at]) }
}

/// Writes a duration for people: `0.42 s`, `38 s`, `4 min 05 s`, `2 h 03 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        _ if seconds < 10.0 => format!("{seconds:.2} s"),
        0..=59 => format!("{whole} s"),
        60..=3599 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Writes how long something will still take; parts of a second are none that anybody knows: `2 s`, `4 min 05 s`.
pub fn time_left(seconds: f64) -> String {
    match seconds.ceil() {
        whole if whole < 10.0 => format!("{whole:.0} s"),
        whole => duration(whole),
    }
}

/// Reads a duration as people write it: `30s`, `5m`, `1h30m`, `2d`.
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

/// Writes a number as short as it can be: `0.05`, `1e-5`, `1e30`.
pub fn number(x: f64) -> String {
    let is_short = x == 0.0 || (1e-4..1e7).contains(&x.abs());
    if is_short || !x.is_finite() { x.to_string() } else { format!("{x:e}") }
}

/// Says what the system says, without its number and without a capital in front.
pub fn system_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or folder".to_string(),
        io::ErrorKind::PermissionDenied => "permission denied".to_string(),
        io::ErrorKind::IsADirectory => "this is a folder".to_string(),
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "a file is in the way".to_string(),
        io::ErrorKind::FileTooLarge => FILE_SIZE_LIMIT.to_string(),
        io::ErrorKind::StorageFull => "no space is left".to_string(),
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_string(),
        _ => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or(&text);
            let mut letters = text.chars();
            letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
        }
    }
}

/// Writes a fraction of 1 as a percentage: `97.25 %`.
pub fn percent(fraction: f64) -> String {
    format!("{:.2} %", fraction * 100.0)
}

/// Returns the candidate closest to `word`, when one is close enough to be what was meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let limit = |candidate: &str| 1 + word.len().min(candidate.len()) / 3;
    candidates
        .into_iter()
        // Every letter more is a change: long words are not compared with short ones.
        .filter(|candidate| word.len().abs_diff(candidate.len()) <= 4 * limit(candidate))
        .map(|candidate| (edit_distance(&word, &candidate.to_lowercase()), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= limit(candidate))
        .map(|(_, candidate)| candidate)
}

/// The words in backquotes: of serde's complaint about an unknown name, that name and those it knows.
pub fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(count(106_122), "106,122");
        assert_eq!(count(999), "999");
        assert_eq!(bytes(1_500_000), "1.5 MB");
        assert_eq!(hexadecimal(&[0x0a, 0xff, 0]), "0aff00");
        assert_eq!(duration(245.0), "4 min 05 s");
        assert_eq!(percent(0.9725), "97.25 %");
        assert_eq!([0.0, 1.2, 9.5, 244.1].map(time_left), ["0 s", "2 s", "10 s", "4 min 05 s"]);
        let numbers = [0.0, 0.05, -1.0, 1e-5, 1e30, 1e-60, f64::INFINITY, f64::NAN];
        assert_eq!(numbers.map(number), ["0", "0.05", "-1", "1e-5", "1e30", "1e-60", "inf", "NaN"]);
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
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

    #[test]
    fn what_the_system_says_has_no_number() {
        let folder = tempfile::tempdir().unwrap();
        let error = std::fs::read(folder.path()).unwrap_err();
        assert_eq!(system_error(&error), "this is a folder");
        let other = io::Error::from_raw_os_error(24);
        assert!(!system_error(&other).contains("os error"), "{other}");
        assert_eq!(system_error(&io::Error::other("The file has 1.5 MB")), "the file has 1.5 MB");
    }

    #[test]
    fn a_misspelled_word_finds_its_neighbour_and_nonsense_finds_none() {
        assert_eq!(nearest("embed_dm", ["embed_dim", "depth"]), Some("embed_dim"));
        assert_eq!(nearest("zebra", ["embed_dim", "depth"]), None);
    }
}
