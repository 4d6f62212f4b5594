//! The terminal: how wide it is, and tables and sentences that fit into it.

use std::io::{ErrorKind, IsTerminal, Write};

use crate::layout;
pub use crate::layout::Align;

/// Assumed columns of a terminal of unknown width, and of help pages in a pipe.
pub const COLUMNS: usize = 80;

/// Longest line of sentences: longer ones are hard to read.
const SENTENCE_MAX: usize = 100;

/// Columns of a terminal.
#[cfg(unix)]
fn columns_of(terminal: impl std::os::fd::AsFd) -> usize {
    let size = rustix::termios::tcgetwinsize(terminal).map_or(0, |size| usize::from(size.ws_col));
    if size > 0 { size } else { COLUMNS }
}

#[cfg(not(unix))]
fn columns_of<T>(_: T) -> usize {
    COLUMNS
}

/// Columns of stdout where it is a terminal. A file or a pipe has none: rows and sentences stay whole there.
pub fn stdout_columns() -> Option<usize> {
    let stdout = std::io::stdout();
    stdout.is_terminal().then(|| columns_of(stdout))
}

/// The same of stderr.
pub fn stderr_columns() -> Option<usize> {
    let stderr = std::io::stderr();
    stderr.is_terminal().then(|| columns_of(stderr))
}

/// Columns of help pages.
pub fn help_columns() -> usize {
    stdout_columns().unwrap_or(COLUMNS).min(SENTENCE_MAX)
}

/// A table for stdout; its first row holds the titles.
pub fn table(rows: &[impl AsRef<[String]>], align: &[Align]) -> String {
    layout::table(rows, align, stdout_columns())
}

/// A sentence for stdout, in as many lines as it needs there.
pub fn sentence(text: &str) -> String {
    indented(text, 0)
}

/// As [`sentence`]; its lines after the first are indented by so many blanks.
pub fn indented(text: &str, indent: usize) -> String {
    layout::paragraph(text, stdout_columns().map(|columns| columns.min(SENTENCE_MAX)), indent)
}

/// A message for stderr; its lines are indented after a label such as `note: ` or `error: `.
pub fn message(text: &str) -> String {
    let start = text.find(": ").map_or(0, |at| at + 2);
    let is_label = ["note: ", "warning: ", "error: ", "hint: "].contains(&&text[..start]);
    layout::paragraph(text, stderr_columns().map(|columns| columns.min(SENTENCE_MAX)), if is_label { start } else { 0 })
}

/// Writes a message to stderr. Errors are ignored: the work continues when stderr is closed.
pub fn say(text: &str) {
    let _ = write_to_stderr(text);
}

/// Writes a message to stderr; returns whether anything still reads it.
pub fn write_to_stderr(text: &str) -> bool {
    let written = std::io::stderr().write_all(message(text).as_bytes());
    !written.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
