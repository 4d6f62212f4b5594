//! Notes and progress bars for reading and evaluating images, on stderr.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::status::StatusLine;
use super::verbosity::{Verbosity, verbosity};
use crate::experiment::{Event, Listener};

/// A progress bar, where stderr is a terminal and one is wanted.
pub struct Bar {
    status: Option<StatusLine>,
    /// Reading that takes no time needs no bar.
    reading_since: Mutex<Option<Instant>>,
}

impl Bar {
    pub fn new(is_wanted: bool) -> Bar {
        Bar { status: if is_wanted { StatusLine::on_terminal() } else { None }, reading_since: Mutex::default() }
    }

    pub fn show(&self, event: Event) {
        match (event, &self.status) {
            (Event::Note(note), Some(status)) => status.say(&format!("note: {note}")),
            (Event::Note(note), None) => say!("note: {note}"),
            (Event::Detail(text), Some(status)) if verbosity() == Verbosity::Verbose => status.say(text),
            (Event::Detail(text), None) => detail!("{text}"),
            (Event::Reading { done, total }, Some(status)) => {
                let mut since = self.reading_since.lock().expect("no thread panics with it");
                if since.get_or_insert_with(Instant::now).elapsed() > Duration::from_millis(500) {
                    status.show_count("reading images", done, total);
                }
            }
            (Event::Evaluating { done, total }, Some(status)) => status.show_count("evaluating", done, total),
            _ => {}
        }
    }

    pub fn clear(&self) {
        self.status.iter().for_each(StatusLine::clear);
    }
}

/// As [`watched`], but returns the notes instead of printing them.
pub fn noted<T>(work: impl FnOnce(Listener) -> T) -> (T, Vec<String>) {
    let notes = Mutex::new(Vec::new());
    let result = watched(|listener| {
        work(&|event| match event {
            Event::Note(note) => notes.lock().expect("no thread panics with it").push(note.to_string()),
            event => listener(event),
        })
    });
    (result, notes.into_inner().expect("no thread panics with it"))
}

/// Runs some work with notes and a progress bar.
pub fn watched<T>(work: impl FnOnce(Listener) -> T) -> T {
    let bar = Bar::new(true);
    let result = work(&|event| bar.show(event));
    bar.clear();
    result
}
