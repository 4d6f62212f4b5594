//! Takes steps with and without the profiler in turn, and adds up what threads recorded.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vitreous_engine::ops::Op;
use vitreous_engine::profile::{Clock, Pass, ProgramFacts, Slice, Work};

use super::counters::Counters;
use super::memory::MemoryProfile;
use super::rows::{Grouping, spread};
use super::{Cost, Machine, Profile, ProfileError, Roof, Row, VERSION, What, trace};
use crate::compare::LEVEL;
use crate::config::ResolvedConfig;
use crate::models::Model;
use crate::timing::{STEPS_MIN, StepTimer, median, median_interval};

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
    /// Whether instructions, cache misses and the like are counted, where the system allows it.
    pub counters: bool,
}

impl Default for Options {
    fn default() -> Options {
        let (name, time) = ("model".to_string(), Duration::from_secs(6));
        Options { name, infer: false, time, roof_file: None, measure_roof: false, counters: false }
    }
}

/// Minimum number of pairs of steps; too few for an interval, but the slowest presets take a second for a step.
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
const PACKING: usize = 1;
const KEYS: usize = 2;
const TREE: usize = 3;
const UPDATE: usize = 4;
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

impl Sample {
    /// The whole step.
    pub fn total(&self) -> f64 {
        self.calls.iter().chain(&self.other).sum()
    }
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
    threads: usize,
    clock: Arc<Steady>,
    facts: ProgramFacts,
    samples: Vec<Sample>,
    /// Runs of each call in a step.
    runs: Vec<u64>,
    /// Steps with and without the profiler, in ms.
    pairs: Vec<[f64; 2]>,
    last: Vec<Vec<Slice>>,
    dropped: usize,
    counters: Option<Counters>,
}

impl Profiler {
    /// Prepares a profile, and takes some steps that are not measured.
    ///
    /// # Errors
    /// When the config makes no graph, or there is too little memory.
    pub fn new(config: &ResolvedConfig, options: Options) -> Result<Profiler, ProfileError> {
        // They count the threads that start later.
        let counters = options.counters.then(Counters::new);
        let mut timer =
            if options.infer { StepTimer::inference(config)? } else { StepTimer::augmented_training(config)? };
        (1..STEPS_MIN).for_each(|_| timer.step());
        let threads = timer.session().threads();
        let clock = Arc::new(Steady(Instant::now()));
        timer.session().set_clock(Some(clock.clone()));
        timer.step();
        let logits = timer.model().logits;
        let facts = match options.infer {
            true => timer.session().inference_facts(&[logits]).expect("there was one"),
            false => timer.session().training_facts(),
        };
        let (samples, runs, pairs, last) = (Vec::new(), vec![0; facts.calls.len()], Vec::new(), Vec::new());
        Ok(Profiler { options, timer, threads, clock, facts, samples, runs, pairs, last, dropped: 0, counters })
    }

    /// Takes a step without the profiler and one with it.
    fn pair(&mut self) {
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
        let Profiler { timer, clock, counters, .. } = self;
        let mut wall = 0;
        let mut step = || {
            let begin = clock.now();
            timer.step();
            wall = clock.now() - begin;
        };
        match counters {
            Some(counters) if !with => counters.count(step),
            _ => step(),
        }
        if with {
            let slices: Vec<Vec<Slice>> = self.timer.session().recorded().map(<[Slice]>::to_vec).collect();
            let is_input = inputs(self.timer.model(), &self.facts);
            self.samples.push(sample(&slices, wall, &is_input));
            self.runs = runs(&slices, &self.facts);
            self.dropped += self.timer.session().dropped();
            self.last = slices;
        }
        wall as f64 / 1e6
    }

    /// The last step with the profiler as a trace.
    pub fn trace(&self) -> String {
        trace::chrome(&self.last, &self.facts, self.timer.model(), self.timer.batch(), &self.options.name)
    }

    fn grouping(&self, roof: Roof) -> Grouping<'_> {
        Grouping {
            model: self.timer.model(),
            facts: &self.facts,
            samples: &self.samples,
            runs: &self.runs,
            roof,
            batch: self.timer.batch(),
            threads: self.threads,
        }
    }

    /// Whether a call is faster than the machine can be: a known roof may have been measured while other programs ran. A
    /// convolution may also seem faster because taps in the padding count; then measuring again costs a second.
    fn is_above(&self, roof: Roof) -> bool {
        let is_product = |row: &Row| row.op.starts_with("linear") || row.op.starts_with("conv2d");
        let is_above = |row: &Row| is_product(row) && row.gflops > ABOVE * roof.gflops;
        self.grouping(roof).calls().iter().any(is_above)
    }

    /// The profile of all pairs so far.
    fn profile(&self, roof: Roof) -> Profile {
        let (model, grouping) = (self.timer.model(), self.grouping(roof));
        let layers = grouping.layers();
        let steps_ms: Vec<f64> = self.pairs.iter().map(|[plain, _]| *plain).collect();
        let costs: Vec<f64> = self.pairs.iter().map(|[plain, with]| with / plain - 1.0).collect();
        Profile {
            version: VERSION,
            what: if self.options.infer { What::Inference } else { What::TrainingStep },
            model: self.options.name.clone(),
            machine: Machine::this(),
            threads: self.threads,
            batch: self.timer.batch(),
            chunk: self.facts.chunk,
            params: model.graph.parameter_count(),
            pairs: self.pairs.len(),
            step: spread(steps_ms.iter().copied()),
            steps_ms,
            cost: Cost { median: median(&costs), interval: median_interval(&costs, LEVEL) },
            dropped: self.dropped,
            counters: self.counters.as_ref().map(Counters::counts),
            sum_ms: layers.iter().map(|row| row.ms.median).sum(),
            roof,
            kinds: grouping.kinds(),
            calls: grouping.calls(),
            phases: grouping.phases(),
            memory: MemoryProfile::new(&self.timer.memory(), &self.facts, |call| grouping.place(call)),
            layers,
        }
    }
}

/// Profiles a step of a config.
///
/// # Errors
/// As [`Profiler::new`].
pub fn measure(config: &ResolvedConfig, options: Options) -> Result<Profile, ProfileError> {
    let [profile] = alternate([&mut Profiler::new(config, options)?]);
    Ok(profile)
}

/// Takes pairs of steps of some models in turn, until the time of the first one's options is over, and returns their
/// profiles. Those with equally many threads have the same roof.
pub fn alternate<const N: usize>(mut profilers: [&mut Profiler; N]) -> [Profile; N] {
    let (begin, time) = (Instant::now(), profilers[0].options.time);
    for pair in 0..PAIRS_MAX {
        if pair >= PAIRS_MIN && begin.elapsed() >= time {
            break;
        }
        profilers.iter_mut().for_each(|profiler| profiler.pair());
    }
    let mut roofs: BTreeMap<usize, Roof> = BTreeMap::new();
    for profiler in &profilers {
        let Options { roof_file, measure_roof, .. } = &profiler.options;
        let find = |again: bool| Roof::find(profiler.threads, roof_file.as_deref(), again);
        let roof = roofs.entry(profiler.threads).or_insert_with(|| find(*measure_roof));
        if profiler.is_above(*roof) {
            *roof = find(true).or_higher(*roof);
        }
    }
    profilers.map(|profiler| profiler.profile(roofs[&profiler.threads]))
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
                Work::Pack => PACKING,
                Work::Keys => KEYS,
                Work::Tree => TREE,
                Work::Update => UPDATE,
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
