//! `vitreous bench`: times a training step or an inference on random images in memory, and the work on data in an epoch
//! (`epoch.rs`).

mod epoch;

use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;

use super::settings::{SettingsArgs, image_facts};
use super::{CliError, json, show};
use crate::config::ResolvedConfig;
use crate::models::summary;
use crate::numbers;
use crate::timing::{STEPS_MIN, StepTimer, quantile};

/// Measures how long training steps and inference take
#[derive(clap::Args)]
pub struct Args {
    /// What to measure
    what: What,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Images in one step [default: the preset's]
    #[arg(short, long, value_name = "N")]
    batch_size: Option<usize>,
    /// Numbers to compute with
    #[arg(long, value_name = "NAME", default_value = "f32")]
    precision: String,
    /// Minimum measuring time; an epoch is always measured as a whole
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    seconds: f64,
    /// Threads [default: one for each processor]
    #[arg(short = 'j', long, value_name = "N")]
    threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum What {
    /// One training step
    Step,
    /// The logits of a batch, without dropout
    Infer,
    /// One epoch from disk with augmentation, compared with the same steps on prepared images
    Epoch,
}

/// What was measured.
#[derive(Serialize)]
struct Timing {
    bench: What,
    model: String,
    batch: usize,
    params: usize,
    threads: usize,
    precision: &'static str,
    instruction_set: &'static str,
    steps: usize,
    /// Median.
    ms: f64,
    ms_min: f64,
    ms_p10: f64,
    ms_max: f64,
    images_per_s: f64,
    gflops: f64,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), CliError> {
    if args.precision != "f32" {
        let error = format!("invalid precision `{}` (--precision)", args.precision);
        return Err(CliError::user(error, Some("use --precision f32".to_string())));
    }
    let Ok(length) = Duration::try_from_secs_f64(args.seconds) else {
        let error = format!("invalid time `{}` (--seconds)", args.seconds);
        return Err(CliError::user(error, Some("use --seconds 5".to_string())));
    };
    let numbers = [("train.batch_size", args.batch_size, "--batch-size"), ("train.threads", args.threads, "--threads")];
    let checked = args.settings.checked(&numbers)?;
    if args.what == What::Epoch {
        return epoch::run(&checked, args.settings.name(), args.json);
    }
    let config = checked.resolve(image_facts(&checked)?.0)?;
    let timing = measure(args.what, args.settings.name(), &config, length)?;
    if args.json {
        show(&json(&timing))?;
    } else {
        show(&text(&timing))?;
    }
    Ok(())
}

fn measure(what: What, name: String, config: &ResolvedConfig, length: Duration) -> Result<Timing, CliError> {
    let batch = config.train.batch_size;
    let mut timer = if what == What::Step { StepTimer::training(config) } else { StepTimer::inference(config) }?;
    let times = times(length, || timer.step());
    let summary = summary::summarise(timer.model());
    let flops = summary.flops_forward + if what == What::Step { summary.flops_backward } else { 0 };
    let ms = quantile(&times, 0.5);
    Ok(Timing {
        bench: what,
        model: name,
        batch,
        params: timer.model().graph.parameter_count(),
        threads: timer.session().threads(),
        precision: "f32",
        instruction_set: timer.session().isa().name(),
        steps: times.len(),
        ms,
        ms_min: times[0],
        ms_p10: quantile(&times, 0.1),
        ms_max: times[times.len() - 1],
        images_per_s: batch as f64 / ms * 1e3,
        gflops: flops as f64 * batch as f64 / ms / 1e6,
    })
}

/// Repeats some work for a given time; returns the times in ms, the shortest first.
fn times(length: Duration, mut work: impl FnMut()) -> Vec<f64> {
    (0..STEPS_MIN).for_each(|_| work());
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < STEPS_MIN || start.elapsed() < length {
        let begin = Instant::now();
        work();
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    times
}

fn text(timing: &Timing) -> String {
    let Timing { model, batch, params, threads, instruction_set, steps, ms, ms_min, ms_p10, ms_max, .. } = timing;
    let what = if timing.bench == What::Step { "training step" } else { "inference" };
    format!(
        "{model}: {ms:.2} ms for one {what} of {batch} images, median of {steps} ({ms_min:.2} least, {ms_p10:.2} 10th \
         percentile, {ms_max:.2} largest)\n{} images/s, {:.1} GFLOP/s; {} parameters, {threads} threads, \
         {instruction_set}\n",
        numbers::count(timing.images_per_s as u64),
        timing.gflops,
        numbers::count(*params as u64),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_three_are_timed_after_three_that_are_not() {
        let mut calls = 0;
        let times = times(Duration::ZERO, || calls += 1);
        assert_eq!((times.len(), calls), (3, 6));
    }
}
