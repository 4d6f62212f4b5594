//! Progress of reading images, for those who wait for many.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::data::Progress;

/// Calls `read` with a progress bar on stderr; where stderr is no terminal, nothing is shown.
pub fn reading<T>(read: impl FnOnce(Progress) -> T) -> T {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    let style = ProgressStyle::with_template("reading images {bar:30} {human_pos}/{human_len}, {eta} left");
    bar.set_style(style.expect("the template is well-formed"));
    // What takes no time needs no bar.
    let start = std::time::Instant::now();
    let result = read(&|done, total| {
        if start.elapsed() > Duration::from_millis(500) {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        }
    });
    bar.finish_and_clear();
    result
}

/// Calls `evaluate` with a progress bar on stderr for so many images.
pub fn evaluating<T>(images: usize, evaluate: impl FnOnce(&mut dyn FnMut(usize)) -> T) -> T {
    let bar = ProgressBar::with_draw_target(Some(images as u64), ProgressDrawTarget::stderr_with_hz(10));
    let style = ProgressStyle::with_template("evaluating {bar:30} {human_pos}/{human_len}, {per_sec}, {eta} left");
    bar.set_style(style.expect("the template is well-formed"));
    let result = evaluate(&mut |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    result
}
