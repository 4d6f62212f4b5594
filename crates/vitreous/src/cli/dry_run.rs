//! `vitreous train --dry-run`: reports the memory, disk space and time that a run needs, and problems in its data;
//! writes nothing.

use serde::Serialize;

use super::advice::Context;
use super::progress::seconds_in_all;
use super::screen::{Align, indented, sentence, table};
use super::{CliError, json, show};
use crate::advice::Verb;
use crate::data::{Duplicates, Problem};
use crate::train::{Job, Preflight, Rehearsal};
use crate::{durations, numbers};

/// Duplicates that are listed with all their files.
const COPIES_SHOWN: usize = 5;

/// The report.
#[derive(Serialize)]
struct Report<'a> {
    model: String,
    parameters: usize,
    threads: usize,
    data: &'a str,
    train: usize,
    validation: usize,
    classes: usize,
    #[serde(flatten)]
    preflight: &'a Preflight,
    /// Steps and epochs of the whole run.
    steps: u64,
    epochs: usize,
    /// Whether it ends at its step limit, before its last epoch does.
    #[serde(skip)]
    is_limited: bool,
    /// The timed steps.
    timed: Rehearsal,
    /// Expected time of the whole run, in seconds.
    seconds: f64,
    notes: &'a [String],
    problems: Vec<Problem>,
}

/// Takes a few steps and prints the report.
pub fn run(job: &Job, preflight: &Preflight, notes: &[String], as_json: bool) -> Result<(), CliError> {
    let (timed, data) = (Rehearsal::of(job), job.data());
    let report = Report {
        model: job.config().model.describe(),
        parameters: job.model().graph.parameter_count(),
        threads: job.threads(),
        data: &data.name,
        train: data.train,
        validation: data.validation,
        classes: data.class_names.len(),
        preflight,
        steps: job.steps(),
        epochs: job.config().train.epochs,
        is_limited: job.steps() < (job.config().train.epochs as u64).saturating_mul(job.steps_per_epoch()),
        timed,
        seconds: seconds_in_all(job, &timed),
        notes,
        problems: preflight.problems(),
    };
    show(&if as_json { json(&report) } else { text(&report) })
}

fn text(report: &Report) -> String {
    let count = |n: usize| numbers::count(n as u64);
    let available = |bytes: Option<u64>| match bytes {
        Some(bytes) => format!("{} are available", numbers::bytes(bytes)),
        None => "how much is available is unknown".to_string(),
    };
    let Preflight { memory_needed, memory_available, disk_needed, disk_available, ref out, .. } = *report.preflight;
    let Rehearsal { steps, seconds, .. } = report.timed;
    let step_ms = 1e3 * seconds / steps.max(1) as f64;
    let rows = [
        ["model".to_string(), format!("{}, {} parameters", report.model, count(report.parameters))],
        [
            "data".to_string(),
            format!(
                "{}: {} training images, {} validation images, {} classes",
                report.data,
                count(report.train),
                count(report.validation),
                count(report.classes)
            ),
        ],
        [
            "memory".to_string(),
            format!("needs {} at its peak; {}", numbers::bytes(memory_needed), available(memory_available)),
        ],
        [
            "disk".to_string(),
            format!("needs up to {} in {}; {}", numbers::bytes(disk_needed), out.display(), available(disk_available)),
        ],
        [
            "time".to_string(),
            format!(
                "about {} on {}: {}{}, {step_ms:.1} ms per step (measured over {}), and validation",
                durations::duration(report.seconds),
                numbers::counted(report.threads, "thread"),
                numbers::counted(report.steps as usize, "step"),
                if report.is_limited {
                    " (step limit)".to_string()
                } else {
                    format!(" in {}", numbers::counted(report.epochs, "epoch"))
                },
                numbers::counted(steps as usize, "step"),
            ),
        ],
    ];
    let mut text = table(&rows, &[Align::Left, Align::Left]);
    text.push('\n');
    if report.problems.is_empty() {
        text.push_str("no problems with the data\n");
    } else {
        text.push_str(&problems_text(
            &report.problems,
            &report.preflight.images.duplicates,
            &Context::of(Verb::Train, false),
        ));
    }
    text + "\n" + &sentence("nothing was written: the same command without --dry-run trains")
}

/// Problems, each with its fix, then the duplicates.
pub fn problems_text(problems: &[Problem], duplicates: &Duplicates, context: &Context) -> String {
    let mut text = "problems\n".to_string();
    for Problem { what, fix } in problems {
        let fix = format!("    fix: {}", context.render(fix, None));
        text.push_str(&(indented(&format!("  {what}"), 2) + &indented(&fix, 9)));
    }
    if !duplicates.places.is_empty() {
        text.push_str("\nduplicate images\n");
        for copies in duplicates.places.iter().take(COPIES_SHOWN) {
            let names: Vec<String> = copies.iter().map(|at| format!("{} ({})", at.image, at.class)).collect();
            text.push_str(&indented(&format!("  {}", names.join(", ")), 4));
        }
        if duplicates.places.len() > COPIES_SHOWN {
            let more = numbers::count((duplicates.places.len() - COPIES_SHOWN) as u64);
            text.push_str(&format!("  and {more} more: --json lists all\n"));
        }
    }
    text
}
