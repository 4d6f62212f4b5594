//! Progress of reading images, for those who wait for many.

use std::time::{Duration, Instant};

use super::status::StatusLine;
use crate::data::Progress;

/// Calls `read` with a progress bar on stderr; where stderr is no terminal, nothing is shown.
pub fn reading<T>(read: impl FnOnce(Progress) -> T) -> T {
    let status = StatusLine::on_terminal();
    // What takes no time needs no bar.
    let start = Instant::now();
    let result = read(&|done, total| {
        if let Some(status) = &status
            && start.elapsed() > Duration::from_millis(500)
        {
            status.show_count("reading images", done, total);
        }
    });
    status.iter().for_each(StatusLine::clear);
    result
}

/// Calls `evaluate` with a progress bar on stderr for so many images.
pub fn evaluating<T>(images: usize, evaluate: impl FnOnce(&mut dyn FnMut(usize)) -> T) -> T {
    let status = StatusLine::on_terminal();
    let result = evaluate(&mut |done| {
        if let Some(status) = &status {
            status.show_count("evaluating", done, images);
        }
    });
    status.iter().for_each(StatusLine::clear);
    result
}
