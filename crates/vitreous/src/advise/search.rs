//! The search: timings, then rounds of runs of which fewer and fewer candidates are left, then the finalists.
//! `choosing.rs` says what is trained next.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::answer::{self, Answer};
use super::budget::Costs;
use super::finalists;
use super::record::{Record, Round, RoundKind};
use super::{AdviseError, AdviseOptions, Base, Neighborhood, Scope, Stopwatch};
use crate::config::layers::Layers;
use crate::data::SplitName;
use crate::experiment::{self, EvaluateOptions, ExperimentError, evaluate};
use crate::profile;
use crate::record::{Claim, RecordError, Run, Status};
use crate::sweep::{RunEntry, RunsOn, Sweep, SweepEvent, SweepFile, SweepOptions, Variation};
use crate::timing::Paired;
use crate::train::{TrainError, threads};

/// The name of the base's runs.
pub const BASE: &str = "base";

/// The part of the budget after which no run of the last round continues, so that the budget is kept.
const DEADLINE: f64 = 1.03;

/// Something that happens in a search.
pub enum AdviseEvent<'a> {
    /// A candidate is timed against the base.
    Timing {
        /// What is timed.
        name: &'a str,
        /// Candidates timed so far.
        done: usize,
        /// All of them; none where the base is timed against itself.
        total: usize,
    },
    /// A round begins.
    Round {
        /// Its place, from 1.
        number: usize,
        /// What it does.
        round: &'a Round,
        /// What it should take, in seconds.
        seconds: f64,
    },
    /// Something happens in a round.
    Sweep {
        /// What happens.
        event: SweepEvent<'a>,
        /// What is left of the budget, in seconds.
        left_s: f64,
    },
    /// The winner and the base are about to be evaluated on the test split.
    TestsWinner {
        /// The winner.
        name: &'a str,
    },
    /// The time of a round is used up before all its runs have ended.
    BudgetUsed,
    /// In the round that has ended, the base is not more accurate than guessing.
    Guesses {
        /// The base's accuracy.
        accuracy: f64,
        /// That of guessing.
        chance: f64,
    },
}

/// Receives the events of a search, from several threads.
pub type AdviseListener<'a> = &'a (dyn Fn(AdviseEvent) + Sync);

/// How a search ended.
pub enum Advised {
    /// It was to stop; the same command continues it.
    Stopped,
    /// All is done that the budget allows.
    Answered(Box<Answer>),
}

/// What is known of a candidate so far.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    /// Its step's time divided by the base's.
    pub ratio: f64,
    /// Its validation accuracy less the base's, in the round of both with the most images.
    pub gain: f64,
    /// Images that its run saw there.
    pub images: usize,
}

impl Estimate {
    /// How well both goals are met.
    pub fn score(&self, scope: &Scope) -> f64 {
        scope.score(self.ratio, self.gain)
    }

    /// What two edits should do together.
    pub fn and(&self, other: &Estimate) -> Estimate {
        Estimate {
            ratio: self.ratio * other.ratio,
            gain: self.gain + other.gain,
            images: self.images.min(other.images),
        }
    }
}

/// A search under way.
pub struct Search<'a> {
    pub(super) base: &'a Base,
    pub(super) hood: &'a Neighborhood,
    pub(super) scope: &'a Scope,
    pub(super) options: &'a AdviseOptions,
    pub(super) record: Record,
    pub(super) stopwatch: &'a dyn Stopwatch,
    stop: &'a AtomicBool,
    listener: AdviseListener<'a>,
    claim: Claim,
    /// Time that earlier starts took, in seconds.
    earlier_s: f64,
}

/// Finds the smallest change that makes a config faster and more accurate. Killed at any time, the same call continues.
///
/// # Errors
/// When the machine is too noisy, the budget too small, a run of the base fails, or something cannot be read or written.
pub fn advise<'a>(
    base: &'a Base,
    hood: &'a Neighborhood,
    scope: &'a Scope,
    options: &'a AdviseOptions,
    stopwatch: &'a dyn Stopwatch,
    (stop, listener): (&'a AtomicBool, AdviseListener<'a>),
) -> Result<Advised, AdviseError> {
    let folder = &options.folder;
    std::fs::create_dir_all(folder).map_err(|error| RecordError::write(folder, &error))?;
    let claim = Claim::of(folder)?;
    let timed_on = (profile::Machine::this(), threads(base.config.train.threads));
    let record = Record::open(folder, &base.text(), scope, timed_on)?;
    let earlier_s = record.spent_s;
    let mut search = Search { base, hood, scope, options, record, stopwatch, stop, listener, claim, earlier_s };
    if !search.run()? {
        search.save()?;
        return Ok(Advised::Stopped);
    }
    let answer = answer::answer(&search)?;
    answer::write(&answer, &search)?;
    search.save()?;
    Ok(Advised::Answered(Box::new(answer)))
}

impl Search<'_> {
    /// Does everything that is not done. Returns whether it came to its end.
    fn run(&mut self) -> Result<bool, AdviseError> {
        self.time_base()?;
        loop {
            let open = self.record.rounds.iter().position(|round| round.took_s.is_none());
            let at = match open {
                Some(at) => at,
                None => match self.next_round()? {
                    Some(round) => {
                        self.record.rounds.push(round);
                        self.record.next = None;
                        self.save()?;
                        self.record.rounds.len() - 1
                    }
                    None if self.is_stopped() => return Ok(false),
                    None => break,
                },
            };
            if !self.run_round(at)? {
                return Ok(false);
            }
            if self.record.rounds[at].took_s.is_none() {
                // Its time was too short for any answer; a larger budget continues it.
                break;
            }
        }
        self.test_winner()
    }

    pub(super) fn budget_s(&self) -> f64 {
        self.options.budget.as_secs_f64()
    }

    /// Time that was spent, by this start and the earlier ones.
    pub(super) fn spent_s(&self) -> f64 {
        self.earlier_s + self.stopwatch.now()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn tell(&self, event: AdviseEvent) {
        (self.listener)(event);
    }

    pub(super) fn save(&mut self) -> Result<(), AdviseError> {
        self.claim.check()?;
        self.record.spent_s = self.spent_s();
        self.record.save(&self.options.folder)
    }

    /// Time of the base's step, in seconds.
    pub(super) fn step_s(&self) -> f64 {
        self.record.noise.map_or(0.0, |noise| noise.first_s)
    }

    pub(super) fn costs(&self) -> Costs {
        Costs::new(self.base, self.step_s(), self.options.jobs, self.record.pace())
    }

    /// The last measured time of a candidate against the base.
    pub(super) fn time(&self, name: &str) -> Option<Paired> {
        self.record.time(name)
    }

    /// Images that a run of a round sees.
    pub(super) fn images_of(&self, round: &Round) -> usize {
        round.images.unwrap_or(self.base.facts.train) * round.epochs
    }

    /// What is known of each candidate that was trained: its accuracy in the round in which it saw the most images, of
    /// equal ones the last.
    pub(super) fn estimates(&self) -> BTreeMap<String, Estimate> {
        self.estimates_from(0)
    }

    /// What is known of the candidates of the last round that tells anything. Accuracies of rounds with other numbers of
    /// images cannot be ranked together: a candidate that was dropped would keep a lucky value.
    pub(super) fn latest(&self) -> BTreeMap<String, Estimate> {
        let rounds = || (0..self.record.rounds.len()).rev();
        let mut latest = rounds().map(|at| self.estimates_of(at)).find(|found| !found.is_empty()).unwrap_or_default();
        latest.retain(|name, _| !rounds().any(|at| self.has_failed(at, name)));
        latest
    }

    /// What is known of the candidates of the rounds from a place on.
    pub(super) fn estimates_from(&self, from: usize) -> BTreeMap<String, Estimate> {
        let mut rounds: Vec<usize> = (from..self.record.rounds.len()).collect();
        rounds.sort_by_key(|at| self.images_of(&self.record.rounds[*at]));
        let mut estimates: BTreeMap<String, Estimate> = BTreeMap::new();
        for at in rounds {
            estimates.retain(|name, _| !self.has_failed(at, name));
            estimates.extend(self.estimates_of(at));
        }
        estimates
    }

    /// The same of one round, once it has ended.
    fn estimates_of(&self, at: usize) -> BTreeMap<String, Estimate> {
        let round = &self.record.rounds[at];
        let Some(base) = self.mean_accuracy(at, BASE).filter(|_| round.took_s.is_some()) else {
            return BTreeMap::new();
        };
        let images = self.images_of(round);
        let estimate = |name: &String| {
            let (own, time) = (self.mean_accuracy(at, name)?, self.time(name)?);
            Some((name.clone(), Estimate { ratio: time.ratio, gain: own - base, images }))
        };
        round.candidates.iter().filter_map(estimate).collect()
    }

    /// The mean validation accuracy over the seeds of a round that have one.
    fn mean_accuracy(&self, at: usize, name: &str) -> Option<f64> {
        let seeds = self.record.rounds[at].seeds.iter();
        let found: Vec<f64> = seeds.filter_map(|seed| self.accuracy(at, name, *seed)).collect();
        (!found.is_empty()).then(|| found.iter().sum::<f64>() / found.len() as f64)
    }

    /// The base's accuracy in a round and that of guessing, where it is not higher by more than chance.
    pub(super) fn guesses(&self, at: usize) -> Option<[f64; 2]> {
        let num_classes = self.base.config.model.facts().num_classes;
        guesses(self.mean_accuracy(at, BASE)?, num_classes, self.base.facts.validation)
    }

    /// Whether a candidate or the base has an accuracy of a round.
    pub(super) fn is_known(&self, at: usize, name: &str) -> bool {
        self.mean_accuracy(at, name).is_some()
    }

    /// Whether a run of a round failed.
    pub(super) fn has_failed(&self, at: usize, name: &str) -> bool {
        let failed = |seed: &u64| {
            Run::open(&self.run_folder(at, name, *seed)).is_ok_and(|run| run.manifest().status == Status::Failed)
        };
        let round = &self.record.rounds[at];
        round.candidates.iter().any(|one| one == name) && round.seeds.iter().any(failed)
    }

    /// The folder of a run.
    pub(super) fn run_folder(&self, at: usize, name: &str, seed: u64) -> PathBuf {
        self.options.folder.join(self.record.rounds[at].folder(at)).join(Round::run(name, seed))
    }

    /// The validation accuracy of a finished run.
    pub(super) fn accuracy(&self, at: usize, name: &str, seed: u64) -> Option<f64> {
        let run = Run::open(&self.run_folder(at, name, seed)).ok()?;
        let results = run.manifest().results.clone().filter(|_| run.manifest().status.is_finished())?;
        results.best_val_acc.or(results.val_acc)
    }

    /// The candidates of a round that can be compared, and the seeds that they and the base have. A candidate of which a run
    /// failed is left out, and so is one without a finished run.
    pub(super) fn complete(&self, at: usize) -> (Vec<String>, Vec<u64>) {
        let round = &self.record.rounds[at];
        let is_known = |name: &&String| {
            round.seeds.iter().any(|seed| self.accuracy(at, name, *seed).is_some()) && !self.has_failed(at, name)
        };
        let names: Vec<String> = round.candidates.iter().filter(is_known).cloned().collect();
        let has_all = |seed: &&u64| {
            let mut all = names.iter().map(String::as_str).chain([BASE]);
            !names.is_empty() && all.all(|name| self.accuracy(at, name, **seed).is_some())
        };
        let seeds = round.seeds.iter().filter(has_all).copied().collect();
        (names, seeds)
    }

    /// The time at which a round ends at the latest: those before the last leave it what is reserved for it.
    pub(super) fn end_s(&self, kind: RoundKind) -> f64 {
        if kind == RoundKind::Final { self.budget_s() * DEADLINE } else { self.budget_s() - self.record.final_s }
    }

    /// Trains the runs of a round, until its time is used up. Returns whether it was not to stop.
    fn run_round(&mut self, at: usize) -> Result<bool, AdviseError> {
        let round = self.record.rounds[at].clone();
        self.tell(AdviseEvent::Round { number: at + 1, round: &round, seconds: round.planned_s * self.record.pace() });
        let begin = self.stopwatch.now() - round.spent_s;
        let all = || [BASE.to_string()].into_iter().chain(round.candidates.iter().cloned());
        let entries = round.seeds.iter().flat_map(|seed| all().map(|name| Round::run(&name, *seed)));
        let file = SweepFile {
            run: entries.map(|name| RunEntry { name, ..RunEntry::default() }).collect(),
            ..SweepFile::default()
        };
        let options = |jobs: usize| SweepOptions {
            name: round.folder(at),
            out: self.options.folder.clone(),
            jobs,
            evaluate: Vec::new(),
            is_validated: round.kind == RoundKind::Final,
            test_winner: false,
            command: self.options.command.clone(),
            plots: None,
            runs_on: RunsOn::Here,
        };
        let start = |variation: &Variation| -> Result<Layers, AdviseError> {
            let (name, seed) = variation.name.rsplit_once("_seed=").expect("the names are made here");
            let candidate = self.hood.find(name);
            let seed = seed.parse().expect("the names are made here");
            Ok(self.base.run(candidate.as_ref(), (round.images, round.epochs), seed)?)
        };
        let plan = |jobs: usize| Sweep::plan(file.clone(), options(jobs), start, &|_: experiment::Event| ());
        let mut sweep = with_fewer(self.options.jobs, plan)?;
        let end = self.end_s(round.kind) - self.earlier_s;
        let is_late = || self.stopwatch.now() > end;
        let halt = AtomicBool::new(self.is_stopped() || is_late());
        let snapshot = Mutex::new(self.record.clone());
        let listener = |event: SweepEvent| {
            let now = self.stopwatch.now();
            if self.is_stopped() || now > end {
                halt.store(true, Ordering::Relaxed);
            }
            if let SweepEvent::Trained { .. } = event {
                let mut record = snapshot.lock().expect("no thread panics with the lock");
                record.spent_s = self.earlier_s + now;
                record.rounds[at].spent_s = now - begin;
                // A time that cannot be written does not stop the search.
                let _ = record.save(&self.options.folder);
            }
            let left_s = (self.budget_s() - self.earlier_s - now).max(0.0);
            self.tell(AdviseEvent::Sweep { event, left_s });
        };
        let claimed = sweep.claim::<AdviseError>(&halt, &listener)?;
        let failed = claimed.train();
        claimed.check()?;
        for (name, error) in failed {
            if name.rsplit_once("_seed=").is_some_and(|(of, _)| of == BASE) {
                return Err(AdviseError::Base(Box::new(error)));
            }
            if has_no_room(&error) {
                return Err(error.into());
            }
        }
        self.record.rounds[at].spent_s = self.stopwatch.now() - begin;
        if self.is_stopped() {
            return Ok(false);
        }
        let is_cut = halt.load(Ordering::Relaxed);
        self.record.rounds[at].is_cut = is_cut;
        if is_cut {
            self.tell(AdviseEvent::BudgetUsed);
        }
        // Without the first and the last round there is no answer: a larger budget continues them.
        let is_needed = matches!(round.kind, RoundKind::Singles | RoundKind::Final);
        if !is_cut || !is_needed || !self.complete(at).1.is_empty() {
            self.record.rounds[at].took_s = Some(self.record.rounds[at].spent_s);
        }
        if let Some([accuracy, chance]) = self.guesses(at) {
            self.tell(AdviseEvent::Guesses { accuracy, chance });
        }
        self.save()?;
        Ok(true)
    }

    /// Chooses the winner, and only then looks at the test split: once for the winner, and for the base. Returns whether it
    /// came to its end.
    fn test_winner(&mut self) -> Result<bool, AdviseError> {
        if self.record.winner.is_none() {
            self.record.winner = finalists::winner(self);
            self.save()?;
        }
        let Some(winner) = self.record.winner.clone().filter(|_| self.base.facts.has_test()) else { return Ok(true) };
        let Some(at) = self.record.rounds.iter().position(|round| round.kind == RoundKind::Final) else {
            return Ok(true);
        };
        let mut is_announced = false;
        for seed in self.record.rounds[at].seeds.clone() {
            for name in [BASE, &winner] {
                let folder = self.run_folder(at, name, seed);
                let Ok(run) = Run::open(&folder) else { continue };
                let is_known = run.manifest().evaluation(SplitName::Test).is_some();
                if is_known || !run.manifest().status.is_finished() {
                    continue;
                }
                if self.is_stopped() {
                    return Ok(false);
                }
                if !std::mem::replace(&mut is_announced, true) {
                    self.tell(AdviseEvent::TestsWinner { name: &winner });
                }
                let options = EvaluateOptions {
                    split: Some(SplitName::Test),
                    default_data_dir: self.base.config.data.dir.clone(),
                    ..EvaluateOptions::default()
                };
                evaluate(&folder, &options, &|_| ())?.written.map_err(ExperimentError::from)?;
            }
        }
        Ok(true)
    }
}

/// An accuracy on some images and that of guessing, where it is not higher by more than chance: two standard deviations.
fn guesses(accuracy: f64, num_classes: usize, images: usize) -> Option<[f64; 2]> {
    let chance = 1.0 / num_classes as f64;
    let deviation = (chance * (1.0 - chance) / images.max(1) as f64).sqrt();
    (accuracy <= chance + 2.0 * deviation).then_some([accuracy, chance])
}

/// Whether a training failed because of the disk, and not because of its model: the same command may succeed later.
fn has_no_room(error: &ExperimentError) -> bool {
    fn of_training(error: &TrainError) -> bool {
        match error {
            TrainError::InRun { error, .. } => of_training(error),
            other => matches!(other, TrainError::Record(_) | TrainError::Disk { .. }),
        }
    }
    match error {
        ExperimentError::Train(error) => of_training(error),
        other => matches!(other, ExperimentError::Record(_)),
    }
}

/// Plans runs side by side; where they do not fit into memory together, with fewer at a time. Each fits by itself.
fn with_fewer<T>(mut jobs: usize, plan: impl Fn(usize) -> Result<T, AdviseError>) -> Result<T, AdviseError> {
    loop {
        match plan(jobs) {
            Err(error) if error.is_side_by_side() && jobs > 1 => jobs -= 1,
            planned => return planned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Work;

    #[test]
    fn an_accuracy_near_that_of_guessing_tells_nothing() {
        // 0.1 and two times 0.0134 of 500 images.
        assert_eq!(guesses(0.1131, 10, 500), Some([0.1131, 0.1]));
        assert_eq!([0.126, 0.128].map(|accuracy| guesses(accuracy, 10, 500).is_some()), [true, false]);
        assert!(guesses(0.126, 10, 5000).is_none());
    }

    #[test]
    fn a_full_disk_is_not_the_failure_of_a_model() {
        let full = || RecordError::write("run".as_ref(), &std::io::Error::from(std::io::ErrorKind::StorageFull));
        let in_run =
            |error| ExperimentError::Train(TrainError::InRun { run: PathBuf::from("run"), error: Box::new(error) });
        assert!(has_no_room(&ExperimentError::Record(full())) && has_no_room(&in_run(TrainError::Record(full()))));
        let of_model = in_run(TrainError::AllSkipped { epoch: 1, step: 9 });
        assert!(!has_no_room(&of_model));
    }

    #[test]
    fn runs_that_do_not_fit_into_memory_together_are_trained_with_fewer_at_a_time() {
        let too_large = |work| {
            AdviseError::Experiment(ExperimentError::Train(TrainError::Memory {
                work,
                needed: 9,
                available: 3,
                activations: 1,
                fewer_images: false,
            }))
        };
        let plan = |fits: usize, work| with_fewer(4, |jobs| if jobs <= fits { Ok(jobs) } else { Err(too_large(work)) });
        assert_eq!([plan(2, Work::SideBySide).ok(), plan(1, Work::SideBySide).ok()], [Some(2), Some(1)]);
        // A run that does not fit by itself is an error at once.
        assert!(plan(0, Work::SideBySide).is_err() && plan(2, Work::Training).is_err());
    }
}
