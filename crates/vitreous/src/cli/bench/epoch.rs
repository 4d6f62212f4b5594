//! `vitreous bench epoch`: the time that reading, shuffling and augmenting images adds to an epoch's steps.
//!
//! Blocks of steps on the epoch's images alternate with blocks of steps on prepared images, so that a change of the
//! processor's speed affects both.

use std::num::NonZeroUsize;
use std::time::Instant;

use serde::Serialize;
use vitreous_engine::{Examples, Step};

use super::super::reading::watched;
use super::super::{CliError, json, show};
use crate::config::CheckedConfig;
use crate::data::{self, Wanted};
use crate::experiment::{Event, inspect, square_facts};
use crate::models;
use crate::numbers;
use crate::random::{Purpose, stream};
use crate::timing::{RandomImages, STEPS_MIN};
use crate::train::{
    BufferPool, Job, StepExamples, Work, available_memory, changes_of_epoch, check_decoding, check_memory,
    memory_needed, order_of_epoch, threads,
};

/// Steps in a block.
const BLOCK: usize = 16;

/// What was measured, in seconds.
#[derive(Serialize)]
struct EpochTiming {
    bench: &'static str,
    model: String,
    batch: usize,
    params: usize,
    threads: usize,
    instruction_set: &'static str,
    images: usize,
    steps: usize,
    /// Reading the images from disk.
    read_s: f64,
    /// The epoch's steps, with augmentation.
    epoch_s: f64,
    /// As many steps on prepared images.
    ready_s: f64,
    /// `(read_s + epoch_s) / ready_s`
    ratio: f64,
    images_per_s: f64,
}

/// Runs the command.
pub fn run(checked: &CheckedConfig, name: String, as_json: bool) -> Result<(), CliError> {
    let begin = Instant::now();
    let spec = &checked.config().data;
    let facts = watched(|listener| inspect(checked, listener))?;
    let mut config = checked.resolve(square_facts(&facts)?)?;
    if let Some(note) = checked.fit_batch(&mut config, facts.train) {
        say!("note: {note}");
    }
    Job::check_batch(&config, facts.train)?;
    let model = models::build_for_training(&config)?;
    let threads = threads(config.train.threads);
    let (memory, images) = memory_needed(&config, &model, &facts, threads);
    let needed = (memory, images + RandomImages::bytes(&model, config.train.step_images()));
    let (decoding, available) = (facts.decoding_bytes(Wanted::TrainAndValidation, threads), available_memory(threads));
    check_decoding(images, decoding, available)?;
    check_memory(Work::Training, needed, facts.is_folder(), available)?;
    let loaded = watched(|listener| {
        let progress = |done, total| listener(Event::Reading { done, total });
        data::load(spec, &facts, Wanted::TrainAndValidation, threads, &progress)
    })?;
    let job = Job::new(config, model, &facts, loaded)?;
    let read_s = begin.elapsed().as_secs_f64();

    let (model, recipe, set) = (job.model(), &job.config().train, job.train_set());
    let (batch, mut session) = (recipe.step_images(), job.session());
    let mut step = |images: usize, examples: &dyn Examples, first: usize| {
        let begin = Instant::now();
        let dropout = stream(recipe.seed, Purpose::Dropout);
        let micro_batches = NonZeroUsize::new(images.div_ceil(recipe.batch_size)).expect("a step has images");
        let step = Step { dropout, first: first as u64, micro_batches, ..Step::new(images, examples, recipe.lr) };
        std::hint::black_box(session.train_step(&step).loss);
        begin.elapsed().as_secs_f64()
    };

    let (augment, ready, buffers) =
        (job.augment(), RandomImages::new(model, batch, recipe.seed), BufferPool::default());
    for _ in 0..STEPS_MIN {
        step(batch, &ready, 0);
    }
    let begin = Instant::now();
    let order = order_of_epoch(recipe.seed, 0, set.len());
    let (mut epoch_s, mut ready_s) = (begin.elapsed().as_secs_f64(), 0.0);
    let key = changes_of_epoch(recipe.seed, 0);
    let last = job.epoch_images();
    let firsts: Vec<usize> = (0..last).step_by(batch).collect();
    let images = |first: usize| batch.min(last - first);
    for block in firsts.chunks(BLOCK) {
        for &first in block {
            let (augment, buffers, order) = (&augment, &buffers, &order[..]);
            let examples = StepExamples { set, augment, buffers, epoch: 0, order, first, key };
            epoch_s += step(images(first), &examples, first);
        }
        for &first in block {
            ready_s += step(images(first), &ready, first);
        }
    }
    let timing = EpochTiming {
        bench: "epoch",
        model: name,
        batch,
        params: model.graph.parameter_count(),
        threads,
        instruction_set: session.isa().name(),
        images: last,
        steps: firsts.len(),
        read_s,
        epoch_s,
        ready_s,
        ratio: (read_s + epoch_s) / ready_s,
        images_per_s: last as f64 / (read_s + epoch_s),
    };
    if as_json {
        show(&json(&timing))?;
    } else {
        show(&text(&timing))?;
    }
    Ok(())
}

fn text(timing: &EpochTiming) -> String {
    let EpochTiming { model, images, steps, read_s, epoch_s, ready_s, ratio, images_per_s, .. } = timing;
    format!(
        "{model}: {:.2} s for an epoch of {} images in {steps} steps (reading {read_s:.2} s, steps {epoch_s:.2} s)\n\
         {ready_s:.2} s for the same steps on images that lie ready: ratio {ratio:.3}, {} images/s\n",
        read_s + epoch_s,
        numbers::count(*images as u64),
        numbers::count(*images_per_s as u64),
    )
}
