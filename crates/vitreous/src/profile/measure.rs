//! Takes steps with and without the profiler in turn, and adds up what threads recorded.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vitreous_engine::ops::Op;
use vitreous_engine::profile::{Clock, Pass, ProgramFacts, Slice, Work};

use super::memory::MemoryProfile;
use super::rows::{Grouping, spread};
use super::{Machine, Profile, ProfileError, Roof, Row, VERSION, What, trace};
use crate::config::ResolvedConfig;
use crate::models::Model;
use crate::timing::{STEPS_MIN, StepTimer};

/// How to profile.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name of what is profiled.
    pub name: String,
    /// Whether to profile an inference instead of a training step.
    pub infer: bool,
    /// Time in which new pairs of steps begin.
    pub time: Duration,
    /// The file in which the machine's roof is kept.
    pub roof_file: Option<PathBuf>,
    /// Whether the roof is measured, even if it is known.
    pub measure_roof: bool,
}

impl Default for Options {
    fn default() -> Options {
        let (name, time) = ("model".to_string(), Duration::from_secs(6));
        Options { name, infer: false, time, roof_file: None, measure_roof: false }
    }
}

/// Minimum number of pairs of steps.
const PAIRS_MIN: usize = 3;

/// Maximum number of pairs of steps: more make no figure better.
const PAIRS_MAX: usize = 200;

/// Part of the roof above which the roof must be wrong.
const ABOVE: f64 = 1.05;

/// What belongs to no layer, with its place in [`Sample::other`].
pub(super) const OTHER: [&str; 8] = [
    "augmentation",
    "packing weights",
    "dropout keys",
    "gradient tree",
    "optimizer",
    "waiting at barriers",
    "idle threads",
    "between phases",
];
const AUGMENTATION: usize = 0;
const WAITING: usize = 5;
const IDLE: usize = 6;
const BETWEEN: usize = 7;

/// The time of one step in ms, thread by thread, divided by the number of threads.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// Of each call.
    pub calls: Vec<f64>,
    /// Of what belongs to no layer.
    pub other: [f64; OTHER.len()],
}

/// The clock that the engine is given.
struct Steady(Instant);

impl Clock for Steady {
    fn now(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A model that is being profiled.
pub struct Profiler {
    options: Options,
    timer: StepTimer,
    clock: Arc<Steady>,
    facts: ProgramFacts,
    samples: Vec<Sample>,
    /// Runs of each call in a step.
    runs: Vec<u64>,
    /// Steps with and without the profiler, in ms.
    pairs: Vec<[f64; 2]>,
    last: Vec<Vec<Slice>>,
    roof: Roof,
}

impl Profiler {
    /// Prepares a profile, and takes some steps that are not measured.
    ///
    /// # Errors
    /// When the config makes no graph, or there is too little memory.
    pub fn new(config: &ResolvedConfig, options: Options) -> Result<Profiler, ProfileError> {
        let mut timer =
            if options.infer { StepTimer::inference(config)? } else { StepTimer::augmented_training(config)? };
        (1..STEPS_MIN).for_each(|_| timer.step());
        let threads = timer.session().threads();
        let roof = Roof::find(threads, options.roof_file.as_deref(), options.measure_roof);
        let clock = Arc::new(Steady(Instant::now()));
        timer.session().set_clock(Some(clock.clone()));
        timer.step();
        let logits = timer.model().logits;
        let facts = match options.infer {
            true => timer.session().inference_facts(&[logits]).expect("there was one"),
            false => timer.session().training_facts(),
        };
        let (samples, runs, pairs, last) = (Vec::new(), vec![0; facts.calls.len()], Vec::new(), Vec::new());
        Ok(Profiler { options, timer, clock, facts, samples, runs, pairs, last, roof })
    }

    /// Takes a step without the profiler and one with it.
    pub fn pair(&mut self) {
        let mut times = [0.0; 2];
        // Whichever comes second may gain or lose by it, so they take turns.
        for with in if self.pairs.len().is_multiple_of(2) { [false, true] } else { [true, false] } {
            times[usize::from(with)] = self.step(with);
        }
        self.pairs.push(times);
    }

    /// Takes a step and returns its time in ms.
    fn step(&mut self, with: bool) -> f64 {
        let clock: Option<Arc<dyn Clock>> = if with { Some(self.clock.clone()) } else { None };
        self.timer.session().set_clock(clock);
        let begin = self.clock.now();
        self.timer.step();
        let wall = self.clock.now() - begin;
        if with {
            let slices: Vec<Vec<Slice>> = self.timer.session().recorded().map(<[Slice]>::to_vec).collect();
            let is_input = inputs(self.timer.model(), &self.facts);
            self.samples.push(sample(&slices, wall, &is_input));
            self.runs = runs(&slices, &self.facts);
            self.last = slices;
        }
        wall as f64 / 1e6
    }

    /// Number of pairs so far.
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// The last step with the profiler as a trace.
    pub fn trace(&self) -> String {
        trace::chrome(&self.last, &self.facts, self.timer.model(), &self.options.name)
    }

    /// The profile of all pairs so far.
    ///
    /// # Panics
    /// When there is no pair.
    pub fn profile(&mut self) -> Profile {
        let (threads, batch) = (self.timer.session().threads(), self.timer.batch());
        let (memory, model) = (self.timer.memory(), self.timer.model());
        let mut grouping = Grouping {
            model,
            facts: &self.facts,
            samples: &self.samples,
            runs: &self.runs,
            roof: self.roof,
            batch: batch as u64,
        };
        // A known roof may have been measured while other programs ran. A convolution may seem faster than the machine,
        // because taps in the padding count, a linear layer cannot.
        let is_above = |row: &Row| row.op.starts_with("linear") && row.gflops > ABOVE * self.roof.gflops;
        if grouping.calls().iter().any(is_above) {
            self.roof = Roof::find(threads, self.options.roof_file.as_deref(), true).or_higher(self.roof);
            grouping.roof = self.roof;
        }
        let layers = grouping.layers();
        let plain: Vec<f64> = self.pairs.iter().map(|[plain, _]| *plain).collect();
        let costs: Vec<f64> = self.pairs.iter().map(|[plain, with]| with / plain - 1.0).collect();
        Profile {
            version: VERSION,
            what: if self.options.infer { What::Inference } else { What::TrainingStep },
            model: self.options.name.clone(),
            machine: Machine::this(),
            threads,
            batch,
            chunk: self.facts.chunk,
            params: model.graph.parameter_count(),
            pairs: self.pairs.len(),
            step: spread(&plain),
            cost: spread(&costs),
            sum_ms: layers.iter().map(|row| row.ms.median).sum(),
            roof: self.roof,
            kinds: grouping.kinds(),
            calls: grouping.calls(),
            phases: grouping.phases(),
            memory: MemoryProfile::new(&memory, &self.facts, |call| grouping.place(call)),
            layers,
        }
    }
}

/// Profiles a step of a config.
///
/// # Errors
/// As [`Profiler::new`].
pub fn measure(config: &ResolvedConfig, options: Options) -> Result<Profile, ProfileError> {
    let mut profiler = Profiler::new(config, options)?;
    alternate(&mut [&mut profiler]);
    Ok(profiler.profile())
}

/// Takes pairs of steps of some models in turn, until the time of the first one's options is over.
pub fn alternate(profilers: &mut [&mut Profiler]) {
    let (begin, time) = (Instant::now(), profilers[0].options.time);
    while profilers[0].pairs() < PAIRS_MIN || begin.elapsed() < time && profilers[0].pairs() < PAIRS_MAX {
        profilers.iter_mut().for_each(|profiler| profiler.pair());
    }
}

/// Whether each call makes the model's input.
pub(super) fn inputs(model: &Model, facts: &ProgramFacts) -> Vec<bool> {
    let is_input = |call: &vitreous_engine::profile::CallFacts| {
        call.is_copy && call.pass == Pass::Forward && model.graph.node(call.layers[0]).op == Op::Input
    };
    facts.calls.iter().map(is_input).collect()
}

/// Adds up a step that took `wall` nanoseconds.
pub(super) fn sample(slices: &[Vec<Slice>], wall: u64, is_input: &[bool]) -> Sample {
    let ms = |nanoseconds: u64| nanoseconds as f64 / 1e6 / slices.len().max(1) as f64;
    let mut sample = Sample { calls: vec![0.0; is_input.len()], ..Sample::default() };
    for (thread, slices) in slices.iter().enumerate() {
        let (mut busy, mut has_images) = (0, false);
        for slice in slices {
            let time = slice.end - slice.start;
            busy += time;
            let other = match slice.work {
                Work::Call(call) => {
                    has_images |= slice.images > 0;
                    if !is_input[call as usize] {
                        sample.calls[call as usize] += ms(time);
                        continue;
                    }
                    AUGMENTATION
                }
                Work::Pack => 1,
                Work::Keys => 2,
                Work::Tree => 3,
                Work::Update => 4,
                Work::Wait => WAITING,
            };
            sample.other[other] += ms(time);
        }
        let rest = match thread {
            _ if !has_images => IDLE,
            0 => BETWEEN,
            _ => WAITING,
        };
        sample.other[rest] += ms(wall.saturating_sub(busy));
    }
    sample
}

/// How often each call ran in a step. Threads divide a call for the whole batch; its pieces are one run.
fn runs(slices: &[Vec<Slice>], facts: &ProgramFacts) -> Vec<u64> {
    let mut runs = vec![0; facts.calls.len()];
    for slice in slices.iter().flatten() {
        if let Work::Call(call) = slice.work {
            runs[call as usize] += 1;
        }
    }
    runs.iter().zip(&facts.calls).map(|(&runs, call)| if call.is_whole { 1 } else { runs }).collect()
}
