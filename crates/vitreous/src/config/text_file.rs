//! Reads a file that was written by hand as text: UTF-8, up to a size.

use std::fs::File;
use std::path::Path;

use crate::regular::{self, CONFIG_MAX};
use crate::system_errors;

/// Why a file cannot be read as text, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotText {
    /// What is wrong.
    pub reason: String,
    /// What to do, where it is known.
    pub hint: Option<String>,
}

/// Reads a config or another file that was written by hand.
///
/// # Errors
/// When it cannot be read, is larger than `CONFIG_MAX`, or is not UTF-8.
pub fn read(path: &Path) -> Result<String, NotText> {
    // Shells replace `<(command)` by the path of a pipe, which is read like a file.
    let is_of_shell = ["/dev/fd", "/dev/stdin", "/proc/self/fd"].iter().any(|place| path.starts_with(place));
    let bytes = match is_of_shell {
        true => File::open(path).and_then(|file| regular::read_all(file, CONFIG_MAX)),
        false => regular::read(path, CONFIG_MAX),
    };
    text(&bytes.map_err(|error| NotText { reason: system_errors::system_error(&error), hint: None })?)
}

/// Returns bytes as text, without the mark that Windows puts in front of it.
fn text(bytes: &[u8]) -> Result<String, NotText> {
    // Without a mark in front, half of the first letter is zero.
    if matches!(bytes, [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, 1..=255, ..] | [1..=255, 0, ..]) {
        let hint = "PowerShell's `>` writes UTF-16: write the file with `| Out-File -Encoding utf8 FILE`";
        return Err(NotText { reason: "it is UTF-16, not UTF-8".to_string(), hint: Some(hint.to_string()) });
    }
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    std::str::from_utf8(bytes).map(str::to_string).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
        let hint = Some("save the file as UTF-8".to_string());
        NotText { reason: format!("not valid UTF-8 (line {line})"), hint }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_windows_is_read_or_refused_by_name() {
        let toml = "[train]\r\nseed = 5\r\n";
        assert_eq!(text(format!("\u{feff}{toml}").as_bytes()).unwrap(), toml);
        let utf16 = |bytes: fn(u16) -> [u8; 2], mark: &str| -> Vec<u8> {
            format!("{mark}{toml}").encode_utf16().flat_map(bytes).collect()
        };
        for bytes in
            [utf16(u16::to_le_bytes, "\u{feff}"), utf16(u16::to_be_bytes, "\u{feff}"), utf16(u16::to_le_bytes, "")]
        {
            let error = text(&bytes).unwrap_err();
            assert_eq!(error.reason, "it is UTF-16, not UTF-8");
            assert!(error.hint.unwrap().contains("PowerShell's `>`"));
        }
        let latin1 = text(b"[data]\nname = \"caf\xE9\"\n").unwrap_err();
        assert_eq!(latin1.reason, "not valid UTF-8 (line 2)");
    }

    #[test]
    fn a_file_that_is_too_large_or_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.toml");
        File::create(&path).unwrap().set_len(CONFIG_MAX + 1).unwrap();
        assert_eq!(read(&path).unwrap_err().reason, "the file is larger than 16.8 MB");
        assert_eq!(read(folder.path()).unwrap_err().reason, "this is a folder");
    }
}
