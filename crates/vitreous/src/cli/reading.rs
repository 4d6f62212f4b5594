//! Progress bars for reading and evaluating images.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::status::StatusLine;
use crate::experiment::{Event, Listener};

/// Runs some work with notes and a progress bar on stderr; without a terminal, or where `bar` is false, there are only notes.
pub fn watched<T>(bar: bool, work: impl FnOnce(Listener) -> T) -> T {
    let status = if bar { StatusLine::on_terminal() } else { None };
    // Reading that takes no time needs no bar.
    let reading_since = Mutex::new(None);
    let result = work(&|event| match (event, &status) {
        (Event::Note(note), Some(status)) => status.say(&format!("note: {note}")),
        (Event::Note(note), None) => say!("note: {note}"),
        (Event::Reading { done, total }, Some(status)) => {
            let since = *reading_since.lock().expect("no thread panics here").get_or_insert_with(Instant::now);
            if since.elapsed() > Duration::from_millis(500) {
                status.show_count("reading images", done, total);
            }
        }
        (Event::Evaluating { done, total }, Some(status)) => status.show_count("evaluating", done, total),
        _ => {}
    });
    status.iter().for_each(StatusLine::clear);
    result
}
