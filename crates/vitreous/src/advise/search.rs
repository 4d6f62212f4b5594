//! The search: timings, then rounds of runs of which fewer and fewer candidates are left, then the finalists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::answer::{self, Answer};
use super::budget::{Costs, SEEDS};
use super::candidates::identity;
use super::record::{Record, Round, RoundKind};
use super::{AdviseError, AdviseOptions, Base, Candidate, Neighborhood, Scope, Stopwatch};
use crate::config::layers::Layers;
use crate::data::SplitName;
use crate::experiment::{self, EvaluateOptions, ExperimentError, evaluate};
use crate::profile;
use crate::record::{Claim, RecordError, Run, Status};
use crate::sweep::{RunEntry, RunsOn, Sweep, SweepEvent, SweepFile, SweepOptions, Variation};
use crate::timing::{Paired, Precision, TimingError, alternate};
use crate::train::threads;

/// The name of the base's runs.
pub const BASE: &str = "base";

/// The base timed against itself may differ by this much, or by half of the time that is to be saved; with more, a gain of
/// that size is lost.
const NOISE_MAX: f64 = 0.1;

/// The part of the budget in which the base is timed against itself, and in which the best are timed again.
const NOISE: f64 = 0.03;

/// The part of the budget in which single edits are timed, and after which those that are left are not.
const TIMING: f64 = 0.12;
const TIMING_MAX: f64 = 0.25;

/// Single edits that are trained again.
const AGAIN: usize = 8;

/// Pairs of edits that are timed and trained, and how many of them may have an edit in common.
const SEVERAL: usize = 10;
const IN_COMMON: usize = 4;

/// Candidates of the round before the last.
const NARROW: usize = 4;

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
}

impl Estimate {
    /// How well both goals are met.
    pub fn score(&self, scope: &Scope) -> f64 {
        scope.score(self.ratio, self.gain)
    }

    fn and(&self, other: &Estimate) -> Estimate {
        Estimate { ratio: self.ratio * other.ratio, gain: self.gain + other.gain }
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
        let is_new = self.record.rounds.is_empty();
        if is_new && !self.time_singles()? {
            return Ok(false);
        }
        if is_new {
            let budget_s = self.budget_s();
            let left = budget_s - self.spent_s();
            self.record.final_s = self.costs().reserve(left, budget_s)?;
            self.save()?;
        }
        loop {
            let open = self.record.rounds.iter().position(|round| round.took_s.is_none());
            let at = match open {
                Some(at) => at,
                None => match self.next_round()? {
                    Some(round) => {
                        self.record.rounds.push(round);
                        self.record.best = None;
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

    fn budget_s(&self) -> f64 {
        self.options.budget.as_secs_f64()
    }

    /// Time that was spent, by this start and the earlier ones.
    pub(super) fn spent_s(&self) -> f64 {
        self.earlier_s + self.stopwatch.now()
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn save(&mut self) -> Result<(), AdviseError> {
        self.claim.check()?;
        self.record.spent_s = self.spent_s();
        self.record.save(&self.options.folder)
    }

    /// Time of the base's step, in seconds.
    pub(super) fn step_s(&self) -> f64 {
        self.record.noise.map_or(0.0, |noise| noise.first_s)
    }

    fn costs(&self) -> Costs {
        Costs::new(self.base, self.step_s(), self.options.jobs, self.record.pace())
    }

    /// The candidate of a name: a single edit, or several joined by `+`.
    pub(super) fn find(&self, name: &str) -> Option<Candidate> {
        let single = |name: &str| self.hood.singles.iter().find(|one| one.name == name).cloned();
        let mut parts = name.split('+').map(single);
        let first = parts.next()??;
        parts.try_fold(first, |all, next| self.hood.both(&all, &next?))
    }

    /// The last measured time of a candidate against the base.
    pub(super) fn time(&self, name: &str) -> Option<Paired> {
        self.record.final_times.get(name).copied().or_else(|| self.record.times.get(name).copied().flatten())
    }

    fn time_singles(&mut self) -> Result<bool, AdviseError> {
        if self.record.noise.is_none() {
            (self.listener)(AdviseEvent::Timing { name: BASE, done: 0, total: 0 });
            let [mut first, mut second] =
                [self.stopwatch.steps(&self.base.config)?, self.stopwatch.steps(&self.base.config)?];
            // The first step is slower, because its memory was never touched before.
            let step_s = f64::min(first(), first());
            let pairs = NOISE * self.budget_s() / (2.0 * step_s);
            let noise = alternate(&mut first, &mut second, Precision::RATIO.within(pairs as usize));
            noise.check_noise(NOISE_MAX.min(self.scope.faster / 2.0))?;
            self.record.noise = Some(noise);
        }
        if !self.record.is_timed {
            let names = in_turn(self.hood.singles.iter());
            if !self.time_all(&names, TIMING_MAX)? {
                return Ok(false);
            }
            self.record.is_timed = true;
        }
        Ok(true)
    }

    /// Times candidates that were not timed yet, up to a part of the budget. Returns whether it came to its end.
    fn time_all(&mut self, names: &[String], part: f64) -> Result<bool, AdviseError> {
        let (mut base, until) = (None, self.spent_s() + part * self.budget_s());
        let pairs = TIMING * self.budget_s() / (2.0 * self.step_s() * names.len().max(1) as f64);
        let precision = Precision::SIGN.within(pairs as usize);
        for (done, name) in names.iter().enumerate() {
            if self.is_stopped() {
                return Ok(false);
            }
            if self.record.times.contains_key(name) {
                continue;
            }
            if self.spent_s() > until {
                break;
            }
            (self.listener)(AdviseEvent::Timing { name, done, total: names.len() });
            if base.is_none() {
                base = Some(self.stopwatch.steps(&self.base.config)?);
            }
            let time = self.pair(name, base.as_mut().expect("it was made"), precision)?;
            self.record.times.insert(name.clone(), time);
            self.save()?;
        }
        Ok(true)
    }

    fn pair(
        &self,
        name: &str,
        base: &mut dyn FnMut() -> f64,
        precision: Precision,
    ) -> Result<Option<Paired>, AdviseError> {
        let Some(candidate) = self.find(name) else { return Ok(None) };
        match self.stopwatch.steps(&self.base.timed(&candidate)) {
            Ok(mut steps) => Ok(Some(alternate(base, &mut steps, precision))),
            // The others may still fit into memory.
            Err(TimingError::Train(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Chooses the next round; none where the search has come to its end, or is to stop.
    fn next_round(&mut self) -> Result<Option<Round>, AdviseError> {
        let several = (2..=self.scope.max_edits).map(RoundKind::Several);
        let kinds: Vec<RoundKind> = [RoundKind::Singles, RoundKind::Again]
            .into_iter()
            .chain(several)
            .chain([RoundKind::Narrow, RoundKind::Final])
            .collect();
        let done = self.record.rounds.last().map(|round| round.kind);
        let from = kinds.iter().position(|kind| Some(*kind) == done).map_or(0, |at| at + 1);
        // An earlier start has chosen the kind, and what is timed for it.
        let chosen = self.record.best.as_ref().map(|(kind, _)| *kind);
        let from = kinds.iter().position(|kind| Some(*kind) == chosen).unwrap_or(from);
        for &kind in &kinds[from..] {
            // The first round has the reserved part of the budget still before it; the others may have used up the rest.
            let is_late = !matches!(kind, RoundKind::Singles | RoundKind::Final) && self.spent_s() >= self.end_s(kind);
            if is_late {
                continue;
            }
            let candidates = match kind {
                RoundKind::Singles => self.worth_training(),
                RoundKind::Again => self.best_singles(),
                RoundKind::Several(edits) => self.best_of_several(edits)?,
                RoundKind::Narrow | RoundKind::Final => self.best_of_all(kind)?,
            };
            if self.is_stopped() {
                return Ok(None);
            }
            if candidates.is_empty() {
                continue;
            }
            let round = self.round(kind, candidates);
            // With no more images than before, it would tell nothing new of the same candidates.
            let is_again = matches!(kind, RoundKind::Again | RoundKind::Narrow);
            let before = self.record.rounds.iter().map(|round| self.images_of(round)).max();
            if !is_again || Some(self.images_of(&round)) > before {
                return Ok(Some(round));
            }
        }
        Ok(None)
    }

    /// A round of this kind, as long as the budget allows.
    fn round(&self, kind: RoundKind, mut candidates: Vec<String>) -> Round {
        let costs = self.costs();
        let ratios: Vec<f64> = candidates.iter().map(|name| self.time(name).map_or(1.0, |time| time.ratio)).collect();
        let left = self.budget_s() - self.spent_s();
        let seed = self.base.config.train.seed;
        let (images, epochs, count, seeds) = if kind == RoundKind::Final {
            // Other seeds than those that chose the finalists.
            let (count, epochs) = costs.finalists(&ratios, left);
            (None, epochs, count, (0..SEEDS as u64).map(|next| seed.wrapping_add(1 + next) % (1 << 62)).collect())
        } else {
            let (images, epochs, count) =
                costs.length(&ratios, Costs::share(kind, left - self.record.final_s * self.record.pace()));
            (images, epochs, count, vec![seed])
        };
        candidates.truncate(count);
        let mut round = Round { kind, candidates, images, epochs, seeds, planned_s: 0.0, spent_s: 0.0, took_s: None };
        round.planned_s = costs.round(&round, &ratios[..count]);
        round
    }

    /// Single edits that may be faster, and slower ones with which another edit may still save the time that is asked for.
    fn worth_training(&self) -> Vec<String> {
        let singles: Vec<(&Candidate, Paired)> =
            self.hood.singles.iter().filter_map(|one| Some((one, self.time(&one.name)?))).collect();
        let partner = |one: &Candidate| {
            let partners = singles.iter().filter(|(other, _)| other.edits[0].goes_with(&one.edits[0]));
            partners.map(|(_, time)| time.ratio).min_by(f64::total_cmp).filter(|_| self.scope.max_edits > 1)
        };
        let is_worth = |(one, time): &&(&Candidate, Paired)| is_worth(time, partner(one), self.scope);
        in_turn(singles.iter().filter(is_worth).map(|(one, _)| *one))
    }

    /// The single edits that do best, alone or as the parts of a pair; none where few were tried.
    fn best_singles(&self) -> Vec<String> {
        let estimates = self.latest();
        if estimates.len() <= AGAIN {
            return Vec::new();
        }
        let mut best: Vec<String> = self.ranked(&estimates).into_iter().take(AGAIN / 2).collect();
        for (parts, _) in self.combinations(&estimates, 2) {
            for part in parts {
                if best.len() < AGAIN && !best.contains(&part) {
                    best.push(part);
                }
            }
        }
        best
    }

    /// Candidates of so many edits that should meet both goals, and the best of fewer edits; none where a single edit does
    /// both.
    fn best_of_several(&mut self, edits: usize) -> Result<Vec<String>, AdviseError> {
        let latest = self.latest();
        let deviation = self.accuracy_deviation();
        let is_met = |one: &Estimate| self.scope.is_met(one.ratio, one.gain - deviation);
        let is_single = |name: &String| !name.contains('+');
        // What learns fast in part of an epoch may fall behind later.
        let is_long = self.record.rounds.last().is_some_and(|round| round.images.is_none());
        if is_long && latest.iter().any(|(name, one)| is_single(name) && is_met(one)) {
            return Ok(Vec::new());
        }
        let mut chosen: Vec<String> = Vec::new();
        let mut uses: BTreeMap<String, usize> = BTreeMap::new();
        // Edits that come to the same model are tried once, in whatever order they are made.
        let trained = self.record.rounds.iter().flat_map(|round| &round.candidates);
        let mut seen: BTreeSet<String> = trained.filter_map(|name| Some(identity(&self.find(name)?.config))).collect();
        // Single edits that were dropped before the last round of them do not come back as parts.
        let is_singles = |round: &Round| matches!(round.kind, RoundKind::Singles | RoundKind::Again);
        let from = self.record.rounds.iter().rposition(is_singles).unwrap_or(0);
        let estimates = self.estimates_from(from);
        for (parts, predicted) in self.combinations(&estimates, edits) {
            if chosen.len() == SEVERAL || predicted.score(self.scope) <= 0.0 {
                break;
            }
            let is_fresh = parts.iter().all(|part| uses.get(part).is_none_or(|uses| *uses < IN_COMMON));
            let name = parts.join("+");
            let Some(candidate) = self.find(&name) else { continue };
            if is_fresh && seen.insert(identity(&candidate.config)) {
                parts.into_iter().for_each(|part| *uses.entry(part).or_default() += 1);
                chosen.push(name);
            }
        }
        if !self.time_all(&chosen, 1.0)? {
            return Ok(Vec::new());
        }
        chosen.retain(|name| self.time(name).is_some_and(|time| !time.is_slower() && time.ratio < 1.0));
        if !chosen.is_empty() {
            chosen.extend(self.ranked(&latest).into_iter().take(2));
        }
        Ok(chosen)
    }

    /// The best candidates of the last round, however many edits they have, timed again. They are written down before, so
    /// that no timing decides which are timed. The times of the finalists prove: they are new, and each has its share of
    /// the level.
    fn best_of_all(&mut self, kind: RoundKind) -> Result<Vec<String>, AdviseError> {
        if self.record.best.as_ref().is_none_or(|(of, _)| *of != kind) {
            let most = if kind == RoundKind::Final { SEEDS } else { NARROW };
            let best: Vec<String> = self.ranked(&self.latest()).into_iter().take(most).collect();
            if best.is_empty() || kind == RoundKind::Narrow && best.len() < 2 {
                return Ok(Vec::new());
            }
            let earlier = std::mem::take(&mut self.record.final_times);
            self.record.times.extend(earlier.into_iter().map(|(name, time)| (name, Some(time))));
            self.record.best = Some((kind, best));
            self.save()?;
        }
        let best = self.record.best.clone().map_or_else(Vec::new, |(_, best)| best);
        let pairs = NOISE * self.budget_s() / (2.0 * self.step_s() * best.len() as f64);
        let shares = if kind == RoundKind::Final { best.len() } else { 1 };
        let precision = Precision::RATIO.within(pairs as usize).shared_by(shares);
        let mut base: Option<Box<dyn FnMut() -> f64>> = None;
        for (done, name) in best.iter().enumerate() {
            if self.is_stopped() {
                return Ok(Vec::new());
            }
            if self.record.final_times.contains_key(name) {
                continue;
            }
            (self.listener)(AdviseEvent::Timing { name, done, total: best.len() });
            if base.is_none() {
                base = Some(self.stopwatch.steps(&self.base.config)?);
            }
            if let Some(time) = self.pair(name, base.as_mut().expect("it was made"), precision)? {
                self.record.final_times.insert(name.clone(), time);
                self.save()?;
            }
        }
        self.record.best = None;
        // By the better timing.
        let again = self.ranked(&self.latest());
        Ok(again.into_iter().filter(|name| best.contains(name)).collect())
    }

    /// Two standard deviations of a difference in accuracy, of models that disagree on a quarter of the validation images.
    fn accuracy_deviation(&self) -> f64 {
        2.0 * (0.25 / self.base.facts.validation.max(1) as f64).sqrt()
    }

    /// Candidates that are faster and more accurate as far as is known, the best first.
    pub(super) fn ranked(&self, estimates: &BTreeMap<String, Estimate>) -> Vec<String> {
        let mut ranked: Vec<(&String, f64)> = estimates
            .iter()
            .map(|(name, one)| (name, one.score(self.scope)))
            .filter(|(_, score)| *score > 0.0)
            .collect();
        ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        ranked.into_iter().map(|(name, _)| name.clone()).collect()
    }

    /// So many edits together, by what each does alone: the names of the parts and the estimate, the best first.
    fn combinations(&self, estimates: &BTreeMap<String, Estimate>, edits: usize) -> Vec<(Vec<String>, Estimate)> {
        let of = |count: usize| -> Vec<(Candidate, Estimate)> {
            let has = |name: &str| name.split('+').count() == count;
            estimates
                .iter()
                .filter(|(name, _)| has(name))
                .filter_map(|(name, one)| Some((self.find(name)?, *one)))
                .collect()
        };
        let (firsts, singles) = (of(edits - 1), of(1));
        let mut found: Vec<(Vec<String>, Estimate)> = Vec::new();
        for (first, one) in &firsts {
            for (single, other) in &singles {
                let go_together = first.edits.iter().all(|edit| edit.goes_with(&single.edits[0]));
                // Of two single edits, each pair once.
                if go_together && (edits > 2 || first.name < single.name) {
                    found.push((vec![first.name.clone(), single.name.clone()], one.and(other)));
                }
            }
        }
        found.sort_by(|(_, a), (_, b)| b.score(self.scope).total_cmp(&a.score(self.scope)));
        found
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

    /// What is known of the candidates of the last round. Accuracies of rounds with other numbers of images cannot be
    /// ranked together: a candidate that was dropped would keep a lucky value.
    fn latest(&self) -> BTreeMap<String, Estimate> {
        self.estimates_from(self.record.rounds.len().saturating_sub(1))
    }

    /// The same of the rounds from a place on.
    fn estimates_from(&self, from: usize) -> BTreeMap<String, Estimate> {
        let mut estimates = BTreeMap::new();
        let ended = self.record.rounds.iter().enumerate().filter(|(_, round)| round.took_s.is_some());
        let mut ended: Vec<(usize, &Round)> = ended.filter(|(at, _)| *at >= from).collect();
        ended.sort_by_key(|(_, round)| self.images_of(round));
        for (at, round) in ended {
            let accuracy = |name: &str| {
                let found = round.seeds.iter().filter_map(|seed| self.accuracy(at, name, *seed));
                let found: Vec<f64> = found.collect();
                (!found.is_empty()).then(|| found.iter().sum::<f64>() / found.len() as f64)
            };
            let Some(base) = accuracy(BASE) else { continue };
            for name in &round.candidates {
                match (accuracy(name), self.time(name)) {
                    (Some(own), Some(time)) => {
                        estimates.insert(name.clone(), Estimate { ratio: time.ratio, gain: own - base });
                    }
                    // It diverged.
                    _ => drop(estimates.remove(name)),
                }
            }
        }
        estimates
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
        let has_failed = |name: &str, seed: u64| {
            Run::open(&self.run_folder(at, name, seed)).is_ok_and(|run| run.manifest().status == Status::Failed)
        };
        let is_known = |name: &&String| {
            round.seeds.iter().any(|seed| self.accuracy(at, name, *seed).is_some())
                && !round.seeds.iter().any(|seed| has_failed(name, *seed))
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
    fn end_s(&self, kind: RoundKind) -> f64 {
        if kind == RoundKind::Final { self.budget_s() * DEADLINE } else { self.budget_s() - self.record.final_s }
    }

    /// Trains the runs of a round, until its time is used up. Returns whether it was not to stop.
    fn run_round(&mut self, at: usize) -> Result<bool, AdviseError> {
        let round = self.record.rounds[at].clone();
        (self.listener)(AdviseEvent::Round {
            number: at + 1,
            round: &round,
            seconds: round.planned_s * self.record.pace(),
        });
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
            let candidate = self.find(name);
            let seed = seed.parse().expect("the names are made here");
            Ok(self.base.run(candidate.as_ref(), (round.images, round.epochs), seed)?)
        };
        let mut jobs = self.options.jobs;
        let mut sweep = loop {
            match Sweep::plan(file.clone(), options(jobs), start, &|_: experiment::Event| ()) {
                Ok(sweep) => break sweep,
                // Each fits into memory by itself.
                Err(error) if error.is_side_by_side() && jobs > 1 => jobs -= 1,
                Err(error) => return Err(error),
            }
        };
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
            (self.listener)(AdviseEvent::Sweep { event, left_s });
        };
        let claimed = sweep.claim::<AdviseError>(&halt, &listener)?;
        let failed = claimed.train();
        claimed.check()?;
        if let Some((_, error)) =
            failed.into_iter().find(|(name, _)| name.rsplit_once("_seed=").is_some_and(|(of, _)| of == BASE))
        {
            return Err(AdviseError::Base(Box::new(error)));
        }
        self.record.rounds[at].spent_s = self.stopwatch.now() - begin;
        if self.is_stopped() {
            return Ok(false);
        }
        let is_cut = halt.load(Ordering::Relaxed);
        if is_cut {
            (self.listener)(AdviseEvent::BudgetUsed);
        }
        if !is_cut || !self.complete(at).1.is_empty() {
            self.record.rounds[at].took_s = Some(self.record.rounds[at].spent_s);
        }
        self.save()?;
        Ok(true)
    }

    /// Chooses the winner, and only then looks at the test split: once for the winner, and for the base. Returns whether it
    /// came to its end.
    fn test_winner(&mut self) -> Result<bool, AdviseError> {
        if self.record.winner.is_none() {
            self.record.winner = answer::winner(self);
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
                    (self.listener)(AdviseEvent::TestsWinner { name: &winner });
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

/// Whether an edit may be faster, or can be with the fastest edit that goes with it.
fn is_worth(time: &Paired, partner: Option<f64>, scope: &Scope) -> bool {
    !time.is_slower() || partner.is_some_and(|ratio| time.ratio * ratio <= 1.0 - scope.faster)
}

/// The names of single edits, the first of each rule in front, then the second ones: should not all fit, each rule has a
/// part of those that do.
fn in_turn<'a>(singles: impl Iterator<Item = &'a Candidate>) -> Vec<String> {
    let mut of_rule: BTreeMap<&str, usize> = BTreeMap::new();
    let mut numbered: Vec<(usize, String)> = Vec::new();
    for one in singles {
        let number = of_rule.entry(one.edits[0].rule).or_default();
        numbered.push((*number, one.name.clone()));
        *number += 1;
    }
    numbered.sort_by_key(|(number, _)| *number);
    numbered.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slower_edit_is_trained_only_where_another_one_makes_up_for_it() {
        let time = |ratio: f64| Paired { ratio, interval: [ratio - 0.01, ratio + 0.01], ..Paired::default() };
        let is_worth = |ratio: f64, partner: Option<f64>| is_worth(&time(ratio), partner, &Scope::default());
        assert_eq!([0.8, 1.0, 1.1].map(|ratio| is_worth(ratio, None)), [true, true, false]);
        // 15 % less time: 1.2 times 0.7, but not 0.72.
        assert_eq!([0.7, 0.72].map(|partner| is_worth(1.2, Some(partner))), [true, false]);
    }
}
