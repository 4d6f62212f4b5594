//! Messages of the operating system, in the program's style.

use std::io;

/// The message of [`system_error`] when a file would get larger than `ulimit -f` allows.
pub const FILE_SIZE_LIMIT: &str = "the file size limit is reached";

/// Returns the system's message without its error number and without a capital first letter.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_no_error_number_and_no_capital() {
        let folder = tempfile::tempdir().unwrap();
        let error = std::fs::read(folder.path()).unwrap_err();
        assert_eq!(system_error(&error), "this is a folder");
        let other = io::Error::from_raw_os_error(24);
        assert!(!system_error(&other).contains("os error"), "{other}");
        assert_eq!(system_error(&io::Error::other("The file has 1.5 MB")), "the file has 1.5 MB");
    }
}
