//! Numbers as text: counts, bytes, operations, percentages, hashes.

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

/// Writes a number of things: `1 block`, `6 blocks`, `2 classes`, `1,009 copies`.
pub fn counted(n: usize, word: &str) -> String {
    let plural = match word.strip_suffix('y') {
        _ if n == 1 => word.to_string(),
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ if word.ends_with('s') => format!("{word}es"),
        _ => format!("{word}s"),
    };
    format!("{} {plural}", count(n as u64))
}

/// Writes a word with a capital letter.
pub fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
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

/// The unit for a column of operations: its name, and how many operations it has. Of the largest, it shows four digits or
/// more.
pub fn flops_unit(largest: u64) -> (&'static str, u64) {
    let units = [("FLOP", 1), ("kFLOP", 1_000), ("MFLOP", 1_000_000), ("GFLOP", 1_000_000_000)];
    units.into_iter().rev().find(|(_, size)| largest / size >= 1_000).unwrap_or(units[0])
}

/// Writes operations in such a unit, without its name: `1,228.8`.
pub fn in_unit(n: u64, unit: u64) -> String {
    match unit {
        1 => count(n),
        _ => {
            let tenths = (n as f64 / unit as f64 * 10.0).round() as u64;
            format!("{}.{}", count(tenths / 10), tenths % 10)
        }
    }
}

fn scaled(mut value: f64, names: &[&str]) -> String {
    let mut at = 0;
    while value >= 1000.0 && at + 1 < names.len() {
        value /= 1000.0;
        at += 1;
    }
    if at == 0 { format!("{value:.0} {}", names[0]) } else { format!("{value:.1} {}", names[at]) }
}

/// Writes a number as short as it can be: `0.05`, `3e-4`, `1e30`.
pub fn number(x: f64) -> String {
    let is_short = x == 0.0 || (1e-3..1e7).contains(&x.abs());
    if is_short || !x.is_finite() { x.to_string() } else { format!("{x:e}") }
}

/// Writes a result of a computation for programs, without the last digits, which are rounding errors.
pub fn exact(x: f64) -> String {
    number(format!("{x:.11e}").parse().unwrap_or(x))
}

/// Writes a fraction of 1 as a percentage: `97.25 %`.
pub fn percent(fraction: f64) -> String {
    format!("{:.2} %", fraction * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units_and_separators() {
        assert_eq!(count(106_122), "106,122");
        assert_eq!(count(999), "999");
        assert_eq!(bytes(1_500_000), "1.5 MB");
        assert_eq!(hexadecimal(&[0x0a, 0xff, 0]), "0aff00");
        assert_eq!(percent(0.9725), "97.25 %");
        let numbers = [0.0, 0.05, -1.0, 0.0003, 1e30, 1e-60, f64::INFINITY, f64::NAN];
        assert_eq!(numbers.map(number), ["0", "0.05", "-1", "3e-4", "1e30", "1e-60", "inf", "NaN"]);
    }

    #[test]
    fn results_have_no_rounding_errors() {
        let results = [0.8405 - 0.9339, 0.1 + 0.2, 1.25e-68, 57.0, f64::NAN];
        assert_eq!(results.map(exact), ["-0.0934", "0.3", "1.25e-68", "57", "NaN"]);
    }

    #[test]
    fn counted_words_have_their_plural() {
        assert_eq!([0, 1, 1009].map(|n| counted(n, "file")), ["0 files", "1 file", "1,009 files"]);
        assert_eq!(["class", "copy", "way"].map(|word| counted(2, word)), ["2 classes", "2 copies", "2 ways"]);
        assert_eq!(counted(1, "copy"), "1 copy");
    }
}
