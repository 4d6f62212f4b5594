//! `vitreous profile --epoch`: the time of an epoch with its data.

use std::time::Instant;

use serde::Serialize;

use super::super::reading::watched;
use super::super::screen::{Align, sentence, table};
use super::super::{CliError, json, show};
use super::{Format, ProfileArgs};
use crate::config::CheckedConfig;
use crate::experiment::Prepared;
use crate::layout::markdown_table;
use crate::profile::{EpochProfile, measure};
use crate::{csv, durations, numbers};

/// What is printed as JSON.
#[derive(Serialize)]
struct Answer {
    model: String,
    threads: usize,
    step_ms: f64,
    #[serde(flatten)]
    epoch: EpochProfile,
}

/// Runs the command.
pub fn run(args: &ProfileArgs, name: String, checked: &CheckedConfig) -> Result<(), CliError> {
    let begin = Instant::now();
    let prepared = watched(|listener| Prepared::new(checked, listener))?;
    prepared.notes.iter().for_each(|note| say!("note: {note}"));
    let job = watched(|listener| prepared.load(listener))?;
    let read_s = begin.elapsed().as_secs_f64();
    let profile = measure(job.config(), args.how.options(name, false)?)?;
    let epoch = EpochProfile::of(&job, read_s, &profile);
    let (model, threads, step_ms) = (profile.model, profile.threads, profile.step.median);
    let (cells, align) = (cells(&epoch), [Align::Left, Align::Right, Align::Right, Align::Wrap]);
    match args.format() {
        Format::Json => show(&json(&Answer { model, threads, step_ms, epoch })),
        Format::Csv => show(&cells.iter().map(|row| csv::line(row.iter().map(String::as_str))).collect::<String>()),
        Format::Markdown => show(&markdown_table(&cells, &align)),
        Format::Text => {
            let heading = format!(
                "{model}: {} for an epoch of {} in {} ({step_ms:.1} ms each, measured); {}",
                durations::duration(epoch.total_s()),
                numbers::counted(epoch.images, "image"),
                numbers::counted(usize::try_from(epoch.steps).unwrap_or(usize::MAX), "step"),
                numbers::counted(threads, "thread")
            );
            show(&format!("{}\n{}", sentence(&heading), table(&cells, &align)))
        }
    }
}

fn cells(epoch: &EpochProfile) -> Vec<Vec<String>> {
    let share = |seconds: f64| format!("{:.1} %", seconds / epoch.total_s() * 100.0);
    let row = |name: &str, seconds: f64, share: String, note: &str| {
        vec![name.to_string(), format!("{seconds:.3}"), share, note.to_string()]
    };
    let images = numbers::counted(epoch.validation_images, "image");
    let steps = match epoch.has_short_step {
        true => "without augmentation; the last one has fewer images",
        false => "without augmentation",
    };
    vec![
        ["phase", "s", "share", ""].map(str::to_string).to_vec(),
        row("reading data", epoch.read_s, String::new(), "once in a run, not in each epoch"),
        row("augmentation", epoch.augmentation_s, share(epoch.augmentation_s), "in the steps"),
        row("steps", epoch.steps_s, share(epoch.steps_s), steps),
        row("validation", epoch.validation_s, share(epoch.validation_s), &images),
        row("saving", epoch.saving_s, share(epoch.saving_s), "copying; a thread of its own writes"),
    ]
}
