//! A status line on a terminal, which is rewritten as the work progresses.

use std::fmt::Display;
use std::io::{Write, stderr};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::screen;
use super::verbosity::{Verbosity, verbosity};
use crate::{durations, numbers, text};

/// Minimum time between two updates of the line.
const STAYS: Duration = Duration::from_millis(100);

/// Maximum and minimum width of the bar, including its ends; a shorter one is not drawn.
const BAR: [usize; 2] = [24, 10];

/// Parts from this number on are dropped before the bar.
const BEHIND_THE_BAR: usize = 3;

/// Columns at the end that stay free: a line of full width would wrap on some terminals, and Ctrl-C is shown as `^C`.
const FREE: usize = 3;

/// The parts of a line. When there is no room, the part with the highest number is dropped first; parts with number 0
/// always stay.
pub type Parts<'a> = &'a [(usize, String)];

/// The line.
pub struct StatusLine {
    start: Instant,
    drawn: Mutex<Drawn>,
}

/// The text on the terminal.
struct Drawn {
    /// Its width in columns.
    width: usize,
    /// When it was drawn.
    time: Option<Instant>,
}

impl StatusLine {
    /// Starts with an empty line; there is none where stderr is not a terminal, or with `--quiet`.
    pub fn on_terminal() -> Option<StatusLine> {
        let drawn = Mutex::new(Drawn { width: 0, time: None });
        let is_shown = screen::stderr_columns().is_some() && verbosity() > Verbosity::Quiet;
        is_shown.then(|| StatusLine { start: Instant::now(), drawn })
    }

    /// Shows the fraction of the work that is done.
    pub fn show(&self, done: f64, parts: Parts) {
        let mut drawn = self.drawn();
        if drawn.time.is_none_or(|time| time.elapsed() >= STAYS) {
            let columns = screen::stderr_columns().unwrap_or(screen::COLUMNS);
            let line = with_bar(done, parts, columns.saturating_sub(FREE));
            drawn.replace(&line);
            drawn.width = text::width(&line);
        }
    }

    /// Shows the number of items done and the estimated time left.
    pub fn show_count(&self, what: impl Display, done: usize, total: usize) {
        let part = done as f64 / total.max(1) as f64;
        let left = self.start.elapsed().as_secs_f64() * (1.0 / part.max(1e-9) - 1.0);
        let [done, total] = [done, total].map(|n| numbers::count(n as u64));
        let left = if part > 0.0 { format!("{} left", durations::time_left(left)) } else { String::new() };
        self.show(part, &[(0, format!("{what} {done}/{total}")), (1, left)]);
    }

    /// Prints a permanent line above this one.
    pub fn say(&self, line: &str) {
        self.drawn().replace(&screen::message(line));
    }

    /// Erases the line.
    pub fn clear(&self) {
        self.drawn().replace("");
    }

    fn drawn(&self) -> MutexGuard<'_, Drawn> {
        self.drawn.lock().expect("no thread panics while drawing")
    }
}

impl Drawn {
    /// Replaces the line by a text. Blanks erase it, because not every terminal supports the escape sequence.
    fn replace(&mut self, text: &str) {
        let blanks = if self.width > 0 { self.width + FREE - 1 } else { 0 };
        // The terminal may be closed; the work continues.
        let _ = stderr().write_all(format!("\r{}\r{text}", " ".repeat(blanks)).as_bytes());
        (self.width, self.time) = (0, Some(Instant::now()));
    }
}

/// Joins as many parts as fit, with a bar before them if it fits too.
fn with_bar(done: f64, parts: Parts, columns: usize) -> String {
    let mut parts: Vec<&(usize, String)> = parts.iter().filter(|(_, part)| !part.is_empty()).collect();
    let [most, least] = BAR;
    let text = loop {
        let text = parts.iter().map(|(_, part)| part.as_str()).collect::<Vec<_>>().join("  ");
        let last = parts.iter().enumerate().max_by_key(|(_, (number, _))| *number);
        let has_room = |more: usize| text::width(&text) + more <= columns;
        match last {
            Some((at, (BEHIND_THE_BAR.., _))) if !has_room(least + 1) => drop(parts.remove(at)),
            Some((at, (1.., _))) if !has_room(0) => drop(parts.remove(at)),
            _ => break text::shortened(&text, columns),
        }
    };
    let width = columns.saturating_sub(text::width(&text) + 1).min(most);
    if width < least {
        return text;
    }
    let inside = width - 2;
    let full = ((done.clamp(0.0, 1.0) * inside as f64) as usize).min(inside);
    let head = if full < inside { ">" } else { "" };
    let bar = format!("{}{head}", "=".repeat(full));
    format!("[{bar:inside$}] {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_into_its_terminal_and_says_what_matters_most() {
        let parts = [
            (0, "epoch 10/16".to_string()),
            (1, "loss 0.1234".to_string()),
            (3, "acc 97.25 %".to_string()),
            (4, "12,345 img/s".to_string()),
            (2, "4 min 05 s left".to_string()),
        ];
        let text = "epoch 10/16  loss 0.1234  acc 97.25 %  12,345 img/s  4 min 05 s left";
        assert_eq!(with_bar(0.5, &parts, 79), format!("[====>   ] {text}"));
        assert_eq!(with_bar(0.5, &parts, 79).len(), 79);
        assert_eq!(with_bar(0.5, &parts, 119), format!("[===========>          ] {text}"));
        let shorter = "epoch 10/16  loss 0.1234  acc 97.25 %  4 min 05 s left";
        assert_eq!(with_bar(0.5, &parts, 78), format!("[==========>          ] {shorter}"));
        assert_eq!(with_bar(0.5, &parts, 54), "[=====>    ] epoch 10/16  loss 0.1234  4 min 05 s left");
        assert_eq!(with_bar(0.5, &parts, 41), "epoch 10/16  loss 0.1234  4 min 05 s left");
        assert_eq!(with_bar(0.5, &parts, 39), "[======>     ] epoch 10/16  loss 0.1234");
        assert_eq!(with_bar(0.5, &parts, 22), "[====>   ] epoch 10/16");
        assert_eq!(with_bar(0.5, &parts, 11), "epoch 10/16");
        assert_eq!(with_bar(0.5, &parts, 7), "epoch~");
        for columns in 1..130 {
            assert!(text::width(&with_bar(0.5, &parts, columns)) <= columns, "{columns}");
        }
    }

    #[test]
    fn a_bar_is_empty_before_the_work_and_full_after_it() {
        let part = [(0, "a".to_string())];
        assert_eq!(with_bar(0.0, &part, 79), format!("[>{}] a", " ".repeat(21)));
        assert_eq!(with_bar(1.0, &part, 79), format!("[{}] a", "=".repeat(22)));
    }
}
