//! What is trained next: the candidates of each kind of round, and how long they are trained.
//!
//! A choice is written down before its candidates are timed, so that no timing decides which are timed, and a search that
//! was killed in between makes the same one.

use std::collections::{BTreeMap, BTreeSet};

use super::budget::{Costs, SEEDS};
use super::candidates::identity;
use super::record::{Round, RoundKind, Timing};
use super::search::{BASE, Estimate, Search};
use super::{AdviseError, AdviseEvent, Candidate, Neighborhood, Scope};
use crate::timing::{Paired, Precision, TimingError, alternate};

/// The base timed against itself may differ by this much, or by half of the time that is to be saved; with more, a gain of
/// that size is lost.
const NOISE_MAX: f64 = 0.1;

/// The part of the budget in which the base is timed against itself, and in which the best are timed again.
const NOISE: f64 = 0.03;

/// The part of the budget in which edits are timed, and after which single edits that are left are not.
const TIMING: f64 = 0.12;
const TIMING_MAX: f64 = 0.25;

/// Single edits that are trained again.
const AGAIN: usize = 8;

/// Pairs of edits that are timed and trained, and how many of them may have an edit in common.
const SEVERAL: usize = 10;
const IN_COMMON: usize = 4;

/// The best of fewer edits that are trained next to them.
const FEWER: usize = 2;

/// Candidates of the round before the last.
const NARROW: usize = 4;

impl Search<'_> {
    /// Times the base against itself.
    pub(super) fn time_base(&mut self) -> Result<(), AdviseError> {
        if self.record.noise.is_none() {
            self.tell(AdviseEvent::Timing { name: BASE, done: 0, total: 0 });
            let [mut first, mut second] =
                [self.stopwatch.steps(&self.base.config)?, self.stopwatch.steps(&self.base.config)?];
            // The first step is slower, because its memory was never touched before.
            let step_s = f64::min(first(), first());
            let pairs = NOISE * self.budget_s() / (2.0 * step_s);
            let noise = alternate(&mut first, &mut second, Precision::RATIO.within(pairs as usize));
            noise.check_noise(NOISE_MAX.min(self.scope.faster / 2.0))?;
            self.record.noise = Some(noise);
        }
        // Whether a change fits into what the timing of the single edits leaves is known before they are timed.
        if self.record.rounds.is_empty() { self.costs().check(self.budget_s(), TIMING_MAX) } else { Ok(()) }
    }

    /// Chooses the next round; none where the search has come to its end, or is to stop.
    pub(super) fn next_round(&mut self) -> Result<Option<Round>, AdviseError> {
        let several = (2..=self.scope.max_edits).map(RoundKind::Several);
        let kinds = [RoundKind::Singles, RoundKind::Again].into_iter().chain(several);
        let kinds: Vec<RoundKind> = kinds.chain([RoundKind::Narrow, RoundKind::Final]).collect();
        let place = |of: Option<RoundKind>| kinds.iter().position(|kind| Some(*kind) == of);
        let begun = place(self.record.next.as_ref().map(|(kind, _)| *kind));
        let after = place(self.record.rounds.last().map(|round| round.kind)).map_or(0, |at| at + 1);
        for &kind in &kinds[begun.unwrap_or(after)..] {
            // The first round has the reserved part of the budget still before it; the others may have used up the rest.
            let is_late = !matches!(kind, RoundKind::Singles | RoundKind::Final) && self.spent_s() >= self.end_s(kind);
            if is_late {
                continue;
            }
            if self.record.next.as_ref().is_none_or(|(of, _)| *of != kind) {
                self.record.next = Some((kind, self.choose(kind)));
                self.save()?;
            }
            let chosen = self.record.next.clone().map_or_else(Vec::new, |(_, chosen)| chosen);
            if !self.time_all(kind, &chosen)? {
                return Ok(None);
            }
            if kind == RoundKind::Singles {
                let budget_s = self.budget_s();
                self.record.final_s = self.costs().reserve(budget_s - self.spent_s(), budget_s)?;
            }
            let candidates = self.worth_training(kind, chosen);
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
        // With a larger budget, there may be time for what was left out.
        self.record.next = None;
        Ok(None)
    }

    /// The candidates that a round of this kind may have, before they are timed for it.
    fn choose(&self, kind: RoundKind) -> Vec<String> {
        let best = |most: usize| self.ranked(&self.latest()).into_iter().take(most).collect::<Vec<String>>();
        match kind {
            RoundKind::Singles => in_turn(self.hood.singles.iter()),
            RoundKind::Again => self.best_singles(),
            RoundKind::Several(edits) => self.best_of_several(edits),
            RoundKind::Narrow => Some(best(NARROW)).filter(|best| best.len() > 1).unwrap_or_default(),
            RoundKind::Final => best(SEEDS),
        }
    }

    /// Times the candidates of a round, each once: the last ones anew, since their earlier times chose them. The times of
    /// finalists prove: each has its share of the level. Returns whether it was not to stop.
    fn time_all(&mut self, kind: RoundKind, names: &[String]) -> Result<bool, AdviseError> {
        let is_anew = matches!(kind, RoundKind::Narrow | RoundKind::Final);
        let part = if is_anew { NOISE } else { TIMING };
        let pairs = (part * self.budget_s() / (2.0 * self.step_s() * names.len().max(1) as f64)) as usize;
        let precision = match kind {
            RoundKind::Final => Precision::RATIO.within(pairs).shared_by(names.len()),
            RoundKind::Narrow => Precision::RATIO.within(pairs),
            _ => Precision::SIGN.within(pairs),
        };
        let mut base: Option<Box<dyn FnMut() -> f64>> = None;
        for (done, name) in names.iter().enumerate() {
            if self.is_stopped() {
                return Ok(false);
            }
            if self.record.is_timed(name, is_anew.then_some(kind)) {
                continue;
            }
            if kind == RoundKind::Singles && self.spent_s() > TIMING_MAX * self.budget_s() {
                break;
            }
            self.tell(AdviseEvent::Timing { name, done, total: names.len() });
            if base.is_none() {
                base = Some(self.stopwatch.steps(&self.base.config)?);
            }
            let time = self.pair(name, base.as_mut().expect("it was made"), precision)?;
            self.record.timings.push(Timing { name: name.clone(), round: kind, time });
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
        let Some(candidate) = self.hood.find(name) else { return Ok(None) };
        match self.stopwatch.steps(&self.base.timed(&candidate)) {
            Ok(mut steps) => Ok(Some(alternate(base, &mut steps, precision))),
            // The others may still fit into memory.
            Err(TimingError::Train(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Those of a round's candidates that are worth their training by their times, the best first.
    fn worth_training(&self, kind: RoundKind, mut chosen: Vec<String>) -> Vec<String> {
        match kind {
            RoundKind::Singles => self.singles_worth_training(),
            RoundKind::Again => chosen,
            RoundKind::Several(_) => {
                chosen.retain(|name| self.time(name).is_some_and(|time| !time.is_slower() && time.ratio < 1.0));
                // In front: where not all fit into the time, the smaller change stays.
                let fewer = self.ranked(&self.latest()).into_iter().take(FEWER).filter(|_| !chosen.is_empty());
                fewer.chain(chosen.iter().cloned()).collect()
            }
            RoundKind::Narrow | RoundKind::Final => {
                self.ranked(&self.latest()).into_iter().filter(|name| chosen.contains(name)).collect()
            }
        }
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
        let [planned_s, spent_s] = [0.0; 2];
        let mut round =
            Round { kind, candidates, images, epochs, seeds, planned_s, spent_s, took_s: None, is_cut: false };
        round.planned_s = costs.round(&round, &ratios[..count]);
        round
    }

    /// Single edits that may be faster, and slower ones with which another edit may still save the time that is asked for.
    fn singles_worth_training(&self) -> Vec<String> {
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
        for (parts, _) in combinations((self.hood, self.scope), &estimates, 2) {
            for part in parts {
                if best.len() < AGAIN && !best.contains(&part) {
                    best.push(part);
                }
            }
        }
        best
    }

    /// Candidates of so many edits that should meet both goals; none where a single edit does both.
    fn best_of_several(&self, edits: usize) -> Vec<String> {
        let latest = self.latest();
        let deviation = self.accuracy_deviation();
        let is_met = |one: &Estimate| self.scope.is_met(one.ratio, one.gain - deviation);
        let is_single = |name: &String| !name.contains('+');
        // What learns fast in part of an epoch may fall behind later.
        let is_long = self.record.rounds.last().is_some_and(|round| round.images.is_none());
        if is_long && latest.iter().any(|(name, one)| is_single(name) && is_met(one)) {
            return Vec::new();
        }
        // Single edits that were dropped before the last round of them do not come back as parts.
        let is_singles = |round: &Round| matches!(round.kind, RoundKind::Singles | RoundKind::Again);
        let from = self.record.rounds.iter().rposition(is_singles).unwrap_or(0);
        let trained: Vec<&String> = self.record.rounds.iter().flat_map(|round| &round.candidates).collect();
        together((self.hood, self.scope), &self.estimates_from(from), &trained, edits)
    }

    /// Two standard deviations of a difference in accuracy, of models that disagree on a quarter of the validation images.
    fn accuracy_deviation(&self) -> f64 {
        2.0 * (0.25 / self.base.facts.validation.max(1) as f64).sqrt()
    }

    /// Candidates that are faster and more accurate as far as is known, the best first.
    fn ranked(&self, estimates: &BTreeMap<String, Estimate>) -> Vec<String> {
        let mut ranked: Vec<(&String, f64)> = estimates
            .iter()
            .map(|(name, one)| (name, one.score(self.scope)))
            .filter(|(_, score)| *score > 0.0)
            .collect();
        ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        ranked.into_iter().map(|(name, _)| name.clone()).collect()
    }
}

/// The best candidates of so many edits by what their parts do, which no round has trained.
fn together(
    of: (&Neighborhood, &Scope),
    estimates: &BTreeMap<String, Estimate>,
    trained: &[&String],
    edits: usize,
) -> Vec<String> {
    let mut chosen: Vec<String> = Vec::new();
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    let (hood, scope) = of;
    // Edits that come to the same model are tried once, in whatever order they are made.
    let known = trained.iter().filter_map(|name| Some(identity(&hood.find(name)?.config)));
    let mut seen: BTreeSet<String> = known.collect();
    for (parts, predicted) in combinations(of, estimates, edits) {
        if chosen.len() == SEVERAL || predicted.score(scope) <= 0.0 {
            break;
        }
        let is_fresh = parts.iter().all(|part| uses.get(part).is_none_or(|uses| *uses < IN_COMMON));
        let name = parts.join("+");
        let Some(candidate) = hood.find(&name) else { continue };
        if is_fresh && seen.insert(identity(&candidate.config)) {
            parts.into_iter().for_each(|part| *uses.entry(part).or_default() += 1);
            chosen.push(name);
        }
    }
    chosen
}

/// So many edits together, by what each does alone: the names of the parts and the estimate, the best first.
fn combinations(
    (hood, scope): (&Neighborhood, &Scope),
    estimates: &BTreeMap<String, Estimate>,
    edits: usize,
) -> Vec<(Vec<String>, Estimate)> {
    let of = |count: usize| -> Vec<(Candidate, Estimate)> {
        let has = |name: &str| name.split('+').count() == count;
        let found = estimates.iter().filter(|(name, _)| has(name));
        found.filter_map(|(name, one)| Some((hood.find(name)?, *one))).collect()
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
    found.sort_by(|(_, a), (_, b)| b.score(scope).total_cmp(&a.score(scope)));
    found
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
    use crate::config::layers::Layers;
    use crate::config::model::ImageFacts;

    #[test]
    fn a_slower_edit_is_trained_only_where_another_one_makes_up_for_it() {
        let time = |ratio: f64| Paired { ratio, interval: [ratio - 0.01, ratio + 0.01], ..Paired::default() };
        let is_worth = |ratio: f64, partner: Option<f64>| is_worth(&time(ratio), partner, &Scope::default());
        assert_eq!([0.8, 1.0, 1.1].map(|ratio| is_worth(ratio, None)), [true, true, false]);
        // 15 % less time: 1.2 times 0.7, but not 0.72.
        assert_eq!([0.7, 0.72].map(|partner| is_worth(1.2, Some(partner))), [true, false]);
    }
    #[test]
    fn edits_that_come_to_the_same_model_are_trained_once() {
        let model = Layers::preset("cifar-cnn4").unwrap().finish().unwrap();
        let facts = ImageFacts { image_size: 32, channels: 3, num_classes: 10 };
        let model = model.config().model.with_facts(facts).unwrap();
        let scope = Scope { max_edits: 3, ..Scope::default() };
        let hood = Neighborhood::new(&model, &scope).unwrap();
        let named = |what: &str| hood.singles.iter().find(|one| one.what() == what).unwrap().name.clone();
        let [a, b, c] =
            ["layers.0: conv 32 -> conv 16", "layers.2: conv 32 -> conv 32 k1", "layers.11: flatten -> globalpool"]
                .map(named);
        let good = Estimate { ratio: 0.8, gain: 0.02, images: 100 };
        let mut estimates: BTreeMap<String, Estimate> =
            [&a, &b, &c].into_iter().map(|name| (name.clone(), good)).collect();
        let pairs = together((&hood, &scope), &estimates, &[&a, &b, &c], 2);
        assert_eq!(pairs.len(), 3, "{pairs:?}");
        // Each of the pairs and the third edit come to one and the same model.
        estimates.extend(pairs.iter().map(|pair| (pair.clone(), good)));
        let triples = together((&hood, &scope), &estimates, &[&a, &b, &c], 3);
        assert_eq!(triples.len(), 1, "{triples:?}");
        assert!(together((&hood, &scope), &estimates, &[&triples[0]], 3).is_empty());
        // What should not be faster is not tried.
        let slow = estimates.into_keys().map(|name| (name, Estimate { ratio: 1.1, ..good })).collect();
        assert!(together((&hood, &scope), &slow, &[], 2).is_empty());
    }
}
