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

fn scaled(mut value: f64, names: &[&str]) -> String {
    let mut at = 0;
    while value >= 1000.0 && at + 1 < names.len() {
        value /= 1000.0;
        at += 1;
    }
    if at == 0 { format!("{value:.0} {}", names[0]) } else { format!("{value:.1} {}", names[at]) }
}

/// Writes a number as short as it can be: `0.05`, `1e-5`, `1e30`.
pub fn number(x: f64) -> String {
    let is_short = x == 0.0 || (1e-4..1e7).contains(&x.abs());
    if is_short || !x.is_finite() { x.to_string() } else { format!("{x:e}") }
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
        let numbers = [0.0, 0.05, -1.0, 1e-5, 1e30, 1e-60, f64::INFINITY, f64::NAN];
        assert_eq!(numbers.map(number), ["0", "0.05", "-1", "1e-5", "1e30", "1e-60", "inf", "NaN"]);
    }

    #[test]
    fn counted_words_have_their_plural() {
        assert_eq!([0, 1, 1009].map(|n| counted(n, "file")), ["0 files", "1 file", "1,009 files"]);
        assert_eq!(["class", "copy", "way"].map(|word| counted(2, word)), ["2 classes", "2 copies", "2 ways"]);
        assert_eq!(counted(1, "copy"), "1 copy");
    }
}
