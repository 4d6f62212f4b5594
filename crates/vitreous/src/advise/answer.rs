//! What a search came to: the finalists against the base, the winner, and everything that was tried.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::candidates::Distance;
use super::profiles::Profiles;
use super::record::{Round, RoundKind};
use super::search::{BASE, Search};
use super::{AdviseError, Candidate, Scope};
use crate::compare::{Against, Basis, Comparison, Difference, LEVEL, Measure, Row, RowDifference, Spread, holm, read};
use crate::config::difference::{became, changes, flat_config};
use crate::durations::duration;
use crate::layout::{Align, markdown_table};
use crate::numbers;
use crate::plot::accuracies::{Setting, scatter};
use crate::plot::{Format, Theme};
use crate::plots::record_and_marks;
use crate::record::write_atomically;
use crate::timing::Paired;

/// The file with the answer in words.
const ANSWER: &str = "answer.md";
/// The config that trains the winner.
const ADVISED: &str = "advised.toml";
/// The plot of step time and accuracy.
const PLOT: &str = "pareto";

/// Candidates that are named as the nearest, where none does both.
const NEAREST: usize = 3;

/// What a search came to.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// Whether a change does both, and how certain that is.
    pub outcome: Outcome,
    /// The name of the winner.
    pub winner: Option<String>,
    /// All of it in a paragraph.
    pub text: String,
    /// What the winner changes in the config.
    pub changes: Vec<String>,
    /// The finalists, in the order in which they were chosen.
    pub finalists: Vec<Finalist>,
    /// Everything that was tried.
    pub tried: Vec<Tried>,
    /// The base timed against itself.
    pub noise: Option<Paired>,
    /// The slowest layers of the base and the winner, as a section in Markdown.
    #[serde(skip)]
    profiles: String,
    /// The base's parameters.
    pub parameters: usize,
    /// Epochs of the finalists' runs, and of the recipe.
    pub epochs: [usize; 2],
    /// Wall-clock time of the search, in seconds.
    pub spent_s: f64,
    /// Its budget, in seconds.
    pub budget_s: f64,
    /// The config that trains the winner.
    #[serde(serialize_with = "lossy_option")]
    pub config: Option<PathBuf>,
    /// The folder of the search.
    #[serde(serialize_with = "crate::text::lossy")]
    pub folder: PathBuf,
}

fn lossy_option<S: serde::Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.display().to_string()).serialize(serializer)
}

/// Whether a change makes the model both faster and more accurate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// By more than chance, in time and in accuracy.
    Proven,
    /// It did in these runs, but chance may explain the accuracy.
    Likely,
    /// No change that was tried does.
    None,
    /// The budget ended before that could be found out; the search can be continued.
    Unfinished,
}

/// A candidate with several runs, against the base.
#[derive(Clone, Debug, Serialize)]
pub struct Finalist {
    /// What its runs are called.
    pub name: String,
    /// What it changes.
    pub what: String,
    /// How far it is from the base.
    pub distance: Distance,
    /// Number of trained values.
    pub parameters: usize,
    /// Its step against the base's.
    pub time: Paired,
    /// Validation accuracy after the same number of epochs: its own, and the base's.
    pub accuracy: [Spread; 2],
    /// Its own less the base's, with the test over the differences of each seed, adjusted for the number of finalists.
    pub difference: RowDifference,
    /// The answers to the same images, one pair of runs for each seed.
    pub same_images: Vec<SameImages>,
    /// Seconds of steps until the accuracy of the base's last epoch: its own, where it gets there, and the base's.
    pub seconds_to_accuracy: [Option<f64>; 2],
    /// The same on the test split, where it was looked at.
    pub test: Option<Tested>,
}

/// The answers of a run and the base's run of the same seed to the validation images.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SameImages {
    /// The seed.
    pub seed: u64,
    /// McNemar's p value.
    pub p: f64,
    /// Images that only the candidate gets right.
    pub only_own_right: u64,
    /// Images that only the base gets right.
    pub only_base_right: u64,
}

/// Accuracy on the test split.
#[derive(Clone, Debug, Serialize)]
pub struct Tested {
    /// The candidate's accuracy, and the base's.
    pub accuracy: [Spread; 2],
    /// Its own less the base's.
    pub difference: RowDifference,
}

/// A candidate that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Tried {
    /// What its runs are called.
    pub name: String,
    /// What it changes.
    pub what: String,
    /// Why it was tried.
    pub why: String,
    /// How far it is from the base.
    pub distance: Distance,
    /// Its step's time divided by the base's.
    pub ratio: Option<f64>,
    /// The interval of that.
    pub interval: Option<[f64; 2]>,
    /// Its validation accuracy less the base's, in the round with the most images.
    pub gain: Option<f64>,
    /// Images that it saw in that round.
    pub images: Option<usize>,
    /// What became of it.
    pub outcome: String,
}

impl Finalist {
    /// Whether it is faster and more accurate by more than chance, with several seeds, and the test split does not
    /// contradict.
    pub fn is_proven(&self) -> bool {
        does_both(&self.time, &self.difference)
            && self.difference.within_noise == Some(false)
            && matches!(self.difference.basis, Basis::Seeds { .. })
            && self.is_confirmed() != Some(false)
    }

    /// Whether it is more accurate on the test split too, where that was looked at.
    fn is_confirmed(&self) -> Option<bool> {
        self.test.as_ref().map(|test| test.difference.mean > 0.0)
    }
}

/// Whether a candidate was faster, by more than chance, and more accurate.
fn does_both(time: &Paired, difference: &RowDifference) -> bool {
    time.is_faster() && difference.mean > 0.0
}

/// The last round, with its place.
fn last<'a>(search: &'a Search) -> Option<(usize, &'a Round)> {
    let mut rounds = search.record.rounds.iter().enumerate();
    rounds.find(|(_, round)| round.kind == RoundKind::Final && round.took_s.is_some())
}

/// The rows of the base and of a candidate, of their runs of one seed, with the answers to the same images.
fn compared(search: &Search, at: usize, name: &str, seed: u64, by: Measure) -> Option<[Row; 2]> {
    let folders = [BASE, name].map(|name| search.run_folder(at, name, seed));
    let (runs, left_out) = read(&folders, by);
    let mut comparison = Comparison::new(runs, left_out, true, by);
    comparison.hold_against(Against::Named(&folders[0].to_string_lossy())).ok()?;
    let row = |folder| comparison.rows.iter().find(|row| row.folders.contains(folder)).cloned();
    Some([row(&folders[0])?, row(&folders[1])?])
}

/// A candidate's accuracy and the base's, the difference, and the answers to the same images.
type Accuracies = ([Spread; 2], RowDifference, Vec<SameImages>);

/// Compares a candidate with the base by pairs of runs of the same seed.
fn accuracies(search: &Search, at: usize, name: &str, seeds: &[u64], by: Measure) -> Option<Accuracies> {
    let pairs: Vec<[Row; 2]> = seeds.iter().map(|&seed| compared(search, at, name, seed, by)).collect::<Option<_>>()?;
    let of = |row: &Row| Some(by.of(row)?.mean);
    let values: Vec<[f64; 2]> = pairs.iter().map(|[base, own]| Some([of(own)?, of(base)?])).collect::<Option<_>>()?;
    let spread = |which: usize| Spread::of(&values.iter().map(|pair| pair[which]).collect::<Vec<_>>());
    let same_images = pairs.iter().zip(seeds).filter_map(|([_, own], &seed)| match own.difference.as_ref()?.basis {
        Basis::SameImages { p, only_own_right, only_other_right, .. } => {
            Some(SameImages { seed, p, only_own_right, only_base_right: only_other_right })
        }
        _ => None,
    });
    let Difference { mean, seeds: over_seeds } =
        Difference::paired(&values.iter().map(|[own, base]| own - base).collect::<Vec<_>>())?;
    let basis = match over_seeds {
        Some(seeds) => Basis::Seeds { p: seeds.p, interval: seeds.interval },
        None => pairs[0][1].difference.as_ref()?.basis.clone(),
    };
    let p = basis.p();
    let difference = RowDifference { mean, within_noise: p.map(|p| p >= LEVEL), p_adjusted: p, basis };
    Some(([spread(0)?, spread(1)?], difference, same_images.collect()))
}

/// The finalists against the base.
fn finalists(search: &Search) -> Vec<Finalist> {
    let Some((at, _)) = last(search) else { return Vec::new() };
    let (names, seeds) = search.complete(at);
    let Some(base_curve) = curve(search, (at, BASE), &seeds) else { return Vec::new() };
    let level = base_curve.last().map_or(1.0, |(_, accuracy)| *accuracy);
    let finalist = |name: String| {
        let candidate = search.find(&name)?;
        let (accuracy, difference, same_images) = accuracies(search, at, &name, &seeds, Measure::Validation)?;
        let test = accuracies(search, at, &name, &seeds, Measure::Test)
            .map(|(accuracy, difference, _)| Tested { accuracy, difference });
        let time = search.time(&name)?;
        let own = steps_to(&curve(search, (at, &name), &seeds)?, level).map(|steps| steps * time.second_s);
        let base = steps_to(&base_curve, level).map(|steps| steps * time.first_s);
        Some(Finalist {
            what: candidate.what(),
            distance: candidate.distance,
            parameters: candidate.parameters,
            time,
            accuracy,
            difference,
            same_images,
            seconds_to_accuracy: [own, base],
            test,
            name,
        })
    };
    let mut finalists: Vec<Finalist> = names.into_iter().filter_map(finalist).collect();
    let p: Vec<Option<f64>> = finalists.iter().map(|one| one.difference.basis.p()).collect();
    for (one, p) in finalists.iter_mut().zip(holm(&p, p.len())) {
        (one.difference.within_noise, one.difference.p_adjusted) = (p.map(|p| p >= LEVEL), p);
    }
    finalists
}

/// The mean validation accuracy over the seeds after each epoch, with the steps until there.
fn curve(search: &Search, (at, name): (usize, &str), seeds: &[u64]) -> Option<Vec<(f64, f64)>> {
    let of_seed = |seed: &u64| {
        let (record, _) = record_and_marks(&search.run_folder(at, name, *seed), name).ok()?;
        Some(record.epochs.iter().map(|epoch| (epoch.step, epoch.val_acc)).collect::<Vec<_>>())
    };
    let curves: Vec<Vec<(f64, f64)>> = seeds.iter().filter_map(of_seed).collect();
    let epochs = curves.iter().map(Vec::len).min()?;
    let mean = |at: usize| curves.iter().map(|curve| curve[at].1).sum::<f64>() / curves.len() as f64;
    Some((0..epochs).map(|at| (curves[0][at].0, mean(at))).collect())
}

/// Steps until a curve of (step, accuracy) reaches a level.
fn steps_to(points: &[(f64, f64)], level: f64) -> Option<f64> {
    let at = points.iter().position(|(_, accuracy)| *accuracy >= level - 1e-12)?;
    let (step, accuracy) = points[at];
    let before = at.checked_sub(1).map(|before| points[before]);
    Some(match before {
        Some((earlier, lower)) if accuracy > lower => earlier + (step - earlier) * (level - lower) / (accuracy - lower),
        _ => step,
    })
}

/// Chooses the winner: of the finalists that do both, those that do by more than chance; of these, those that meet the
/// goals; of these, the smallest change, and of equal ones the one that meets the goals best.
pub fn winner(search: &Search) -> Option<String> {
    let all = finalists(search);
    choose(&all, search.scope).map(|one| one.name.clone())
}

fn choose<'a>(finalists: &'a [Finalist], scope: &Scope) -> Option<&'a Finalist> {
    let score = |one: &Finalist| scope.score(one.time.ratio, one.difference.mean);
    let rank = |one: &&Finalist| (one.is_proven(), scope.is_met(one.time.ratio, one.difference.mean));
    let both: Vec<&Finalist> = finalists.iter().filter(|one| does_both(&one.time, &one.difference)).collect();
    let best = both.iter().map(rank).max()?;
    let mut equal: Vec<&Finalist> = both.into_iter().filter(|one| rank(one) == best).collect();
    equal.sort_by(|a, b| a.distance.cmp(&b.distance).then(score(b).total_cmp(&score(a))));
    equal.first().copied()
}

/// Puts the answer together.
///
/// # Errors
/// When a config cannot be read back.
pub fn answer(search: &Search) -> Result<Answer, AdviseError> {
    let finalists = finalists(search);
    let winner = search.record.winner.clone();
    let won = winner.as_ref().and_then(|name| finalists.iter().find(|one| one.name == *name));
    let outcome = match won {
        Some(won) if won.is_proven() => Outcome::Proven,
        Some(_) => Outcome::Likely,
        None if search.record.rounds.iter().any(|round| round.took_s.is_none()) => Outcome::Unfinished,
        None => Outcome::None,
    };
    let candidate = winner.as_ref().and_then(|name| search.find(name));
    let changed = candidate.as_ref().map(|candidate| changes_of(search, candidate)).transpose()?.unwrap_or_default();
    let recipe_epochs = search.base.config.train.epochs;
    let epochs = [last(search).map_or(0, |(_, round)| round.epochs), recipe_epochs];
    let tried = tried(search, &finalists);
    let profiles = winner.as_ref().and_then(|name| Profiles::of(search, name));
    let text = match (won, &candidate) {
        (Some(won), Some(candidate)) => won_text(search, (won, candidate), epochs, profiles.as_ref()),
        _ if outcome == Outcome::Unfinished => format!(
            "The budget of {} ended before the runs did from which an answer follows. The same command with a larger budget \
             continues the search.",
            duration(search.options.budget.as_secs_f64())
        ),
        _ => nearest_text(search, &tried),
    };
    Ok(Answer {
        outcome,
        text,
        changes: changed,
        finalists,
        tried,
        noise: search.record.noise,
        profiles: profiles.map_or_else(String::new, |profiles| profiles.markdown()),
        parameters: search.hood.parameters(),
        epochs,
        spent_s: search.spent_s(),
        budget_s: search.options.budget.as_secs_f64(),
        config: candidate.map(|_| search.options.folder.join(ADVISED)),
        folder: search.options.folder.clone(),
        winner,
    })
}

/// The keys that a candidate changes, with their values.
fn changes_of(search: &Search, candidate: &Candidate) -> Result<Vec<String>, AdviseError> {
    let (before, after) = (search.base.text(), search.base.advised(candidate));
    let (before, after) = (flat_config(&before, "config.toml")?, flat_config(&after, ADVISED)?);
    Ok(changes(&before, &after).into_iter().map(|(key, from, to)| became(key, from, to)).collect())
}

/// A difference of accuracies in points, with its sign.
fn points(difference: f64) -> String {
    format!("{:+.2}", difference * 100.0)
}

/// What part of its time a step saves, as `12.3 % less`.
pub fn saved(ratio: f64) -> String {
    let part = (1.0 - ratio) * 100.0;
    if part >= 0.0 { format!("{part:.1} % less") } else { format!("{:.1} % more", -part) }
}

fn won_text(
    search: &Search,
    (won, candidate): (&Finalist, &Candidate),
    [epochs, recipe]: [usize; 2],
    profiles: Option<&Profiles>,
) -> String {
    let Finalist { time, accuracy: [own, base], difference, .. } = won;
    let ms = |seconds: f64| format!("{:.1} ms", seconds * 1e3);
    let mut text = format!("Change {}. ", won.what);
    let [least, most] = [1.0 - time.interval[1], 1.0 - time.interval[0]].map(|part| part * 100.0);
    text.push_str(&format!(
        "A training step then takes {} time: {} instead of {} (95 % interval {least:.1} to {most:.1} %). ",
        saved(time.ratio),
        ms(time.second_s),
        ms(time.first_s)
    ));
    let schedule = if epochs == recipe {
        format!("the recipe's {}", numbers::counted(epochs, "epoch"))
    } else {
        format!("{} with a schedule fitted to it (the recipe has {recipe})", numbers::counted(epochs, "epoch"))
    };
    text.push_str(&format!(
        "After {schedule}, the best validation accuracy is {} instead of {}: {} points, mean of {}",
        numbers::percent(own.mean),
        numbers::percent(base.mean),
        points(difference.mean),
        numbers::counted(own.n, "seed")
    ));
    text.push_str(&interval_text(difference));
    text.push_str(". ");
    if !won.same_images.is_empty() {
        let sure =
            won.same_images.iter().filter(|one| one.p < LEVEL && one.only_own_right > one.only_base_right).count();
        text.push_str(&format!(
            "On the same images, it is more accurate than the base's run of the same seed by more than chance for {sure} of {} \
             (McNemar). ",
            numbers::counted(won.same_images.len(), "seed")
        ));
    }
    match won.seconds_to_accuracy {
        [Some(own), Some(base)] => text.push_str(&format!(
            "It reaches the accuracy of the base's last epoch after {} of steps; the base takes {}. ",
            duration(own),
            duration(base)
        )),
        [None, Some(_)] => text.push_str("It does not reach the accuracy of the base's last epoch. "),
        _ => {}
    }
    if let Some(Tested { accuracy: [own, base], difference }) = &won.test {
        text.push_str(&format!(
            "The test split, looked at after the choice, gives {} instead of {}: {} points",
            numbers::percent(own.mean),
            numbers::percent(base.mean),
            points(difference.mean)
        ));
        text.push_str(&interval_text(difference));
        text.push_str(". ");
    }
    let before = search.hood.parameters();
    text.push_str(&format!(
        "The model has {} parameters instead of {}. Reason: {}. ",
        numbers::count(won.parameters as u64),
        numbers::count(before as u64),
        candidate.why()
    ));
    text.push_str(&profiles.map_or_else(String::new, Profiles::sentence));
    text.push_str(if won.is_proven() {
        "Both gains are larger than chance explains"
    } else if won.is_confirmed() == Some(false) {
        "The test split does not confirm the gain in accuracy"
    } else {
        "Chance may explain the gain in accuracy: with a larger budget, it can be measured more closely"
    });
    if !search.scope.is_met(time.ratio, difference.mean) {
        text.push_str(&format!(
            "; the gains are smaller than those that were looked for ({:.0} % less time and {} points)",
            search.scope.faster * 100.0,
            points(search.scope.better)
        ));
    }
    text.push('.');
    text
}

/// The interval of a difference over seeds, with its p.
fn interval_text(difference: &RowDifference) -> String {
    match (&difference.basis, difference.p_adjusted) {
        (Basis::Seeds { interval: [low, high], .. }, Some(p)) => {
            format!(" (95 % interval {} to {}, {})", points(*low), points(*high), p_text(p))
        }
        _ => String::new(),
    }
}

fn p_text(p: f64) -> String {
    if p < 0.001 { "p < 0.001".to_string() } else { format!("p = {p:.3}") }
}

fn nearest_text(search: &Search, tried: &[Tried]) -> String {
    let edits = match search.scope.max_edits {
        1 => "No single change".to_string(),
        edits => format!("No change of at most {edits} edits"),
    };
    let mut known: Vec<(&Tried, f64, f64)> =
        tried.iter().filter_map(|one| Some((one, one.ratio?, one.gain?))).collect();
    let score = |ratio: f64, gain: f64| search.scope.score(ratio, gain);
    known.sort_by(|a, b| score(b.1, b.2).total_cmp(&score(a.1, a.2)));
    let nearest: Vec<String> = known
        .iter()
        .take(NEAREST)
        .map(|(one, ratio, gain)| format!("{} ({} time per step, {} points)", one.what, saved(*ratio), points(*gain)))
        .collect();
    let does = format!("{edits} that was tried makes training faster and the model more accurate");
    match nearest[..] {
        [] => format!("{does}."),
        _ => format!("{does}; the nearest are: {}.", nearest.join(", ")),
    }
}

fn tried(search: &Search, finalists: &[Finalist]) -> Vec<Tried> {
    let estimates = search.estimates();
    let rounds = &search.record.rounds;
    let mut names: Vec<String> = search.hood.singles.iter().map(|one| one.name.clone()).collect();
    let others = rounds.iter().flat_map(|round| &round.candidates).chain(search.record.times.keys());
    for name in others {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let one = |name: String| {
        let candidate = search.find(&name)?;
        let time = search.time(&name);
        let seen = rounds.iter().enumerate().rev().find(|(_, round)| round.candidates.contains(&name));
        let finalist = finalists.iter().find(|one| one.name == name);
        let gain = finalist.map(|one| one.difference.mean).or_else(|| estimates.get(&name).map(|one| one.gain));
        let outcome = match (time, seen, finalist) {
            (None, ..) if search.record.times.contains_key(&name) => "it does not fit into memory".to_string(),
            (None, ..) => "not timed, to keep the budget".to_string(),
            _ if search.record.winner.as_ref() == Some(&name) => "winner".to_string(),
            (_, _, Some(one)) if one.is_proven() => {
                "does both; a smaller change, or one that gains more, won".to_string()
            }
            (_, _, Some(_)) => "finalist, but not faster and more accurate by more than chance".to_string(),
            (Some(time), None, _) if time.is_slower() => "slower, not trained".to_string(),
            (_, None, _) => "not trained".to_string(),
            (_, Some(_), _) if gain.is_none() => "its training failed".to_string(),
            (_, Some((at, _)), _) => format!("left after round {}", at + 1),
        };
        let seen = rounds.iter().filter(|round| round.candidates.contains(&name));
        let images = seen.map(|round| search.images_of(round)).max();
        Some(Tried {
            what: candidate.what(),
            why: candidate.why(),
            distance: candidate.distance,
            ratio: time.map(|time| time.ratio),
            interval: time.map(|time| time.interval),
            gain,
            images,
            outcome,
            name,
        })
    };
    names.into_iter().filter_map(one).collect()
}

impl Answer {
    /// The table of everything that was tried, with its titles first: the finalists, then those that got farthest.
    pub fn table(&self) -> (Vec<Vec<String>>, Vec<Align>) {
        let titles = ["change", "edits", "layers", "parameters", "step time", "accuracy", "images", "outcome"];
        let mut rows = vec![titles.map(str::to_string).to_vec()];
        let mut tried: Vec<&Tried> = self.tried.iter().collect();
        tried.sort_by_key(|one| (std::cmp::Reverse(one.images), one.distance));
        let absent = || "-".to_string();
        for one in tried {
            rows.push(vec![
                one.what.clone(),
                one.distance.edits.to_string(),
                one.distance.layers.to_string(),
                numbers::count(one.distance.parameters as u64),
                one.ratio.map_or_else(absent, |ratio| format!("{:+.1} %", (ratio - 1.0) * 100.0)),
                one.gain.map_or_else(absent, points),
                one.images.map_or_else(absent, |images| numbers::count(images as u64)),
                one.outcome.clone(),
            ]);
        }
        let numbers = [Align::Right; 6];
        (rows, [Align::Wrap].into_iter().chain(numbers).chain([Align::Wrap]).collect())
    }

    /// The answer as a page in Markdown.
    pub fn markdown(&self) -> String {
        let (rows, align) = self.table();
        let mut page = format!("# The smallest change that is faster and more accurate\n\n{}\n\n", self.text);
        if !self.changes.is_empty() {
            let changes: Vec<String> = self.changes.iter().map(|change| format!("- {change}\n")).collect();
            page.push_str(&format!("## Changes of the config\n\n{}\n", changes.concat()));
            page.push_str(&format!("`{ADVISED}` trains it: `vitreous train`, with this file as its config.\n\n"));
        }
        let [epochs, recipe] = self.epochs;
        page.push_str("## How it was found\n\n");
        page.push_str(&format!(
            "The search took {} of a budget of {}. ",
            duration(self.spent_s),
            duration(self.budget_s)
        ));
        if let Some(noise) = self.noise {
            page.push_str(&format!(
                "The base's step takes {:.1} ms; timed against itself, it differs by {:.1} % at most. ",
                noise.first_s * 1e3,
                noise.noise() * 100.0
            ));
        }
        if epochs > 0 {
            page.push_str(&format!(
                "The finalists were trained for {epochs} of the recipe's {}. ",
                numbers::counted(recipe, "epoch")
            ));
        }
        page.push_str("All choices were made by the validation split.\n\n");
        page.push_str(&finalists_table(&self.finalists));
        page.push_str(&self.profiles);
        page.push_str(
            "## Everything that was tried\n\nStep time is against the base. Accuracy is that of the validation split less the \
             base's with the same images, in points; with few images, it is noisy. Parameters are those that a change adds or \
             removes.\n\n",
        );
        page.push_str(&markdown_table(&rows, &align));
        let reasons: BTreeMap<&str, &str> = super::RULES.iter().map(|rule| (rule.name, rule.reason)).collect();
        page.push_str("\n## Reasons\n\n");
        for (name, reason) in
            reasons.iter().filter(|(name, _)| self.tried.iter().any(|one| one.name.starts_with(&format!("{name}-"))))
        {
            page.push_str(&format!("- {name}: {reason}\n"));
        }
        page
    }
}

fn finalists_table(finalists: &[Finalist]) -> String {
    if finalists.is_empty() {
        return String::new();
    }
    let titles = [
        "finalist",
        "step time",
        "95 % interval",
        "accuracy",
        "95 % interval",
        "adjusted p",
        "to the base's last accuracy",
    ];
    let mut rows = vec![titles.map(str::to_string).to_vec()];
    for one in finalists {
        let percent = |ratio: f64| format!("{:+.1} %", (ratio - 1.0) * 100.0);
        let interval = match one.difference.basis {
            Basis::Seeds { interval: [low, high], .. } => format!("{} to {}", points(low), points(high)),
            _ => "-".to_string(),
        };
        let seconds = one.seconds_to_accuracy.map(|seconds| seconds.map_or_else(|| "never".to_string(), duration));
        rows.push(vec![
            one.what.clone(),
            percent(one.time.ratio),
            format!("{} to {}", percent(one.time.interval[0]), percent(one.time.interval[1])),
            points(one.difference.mean),
            interval,
            one.difference.p_adjusted.map_or_else(|| "-".to_string(), |p| format!("{p:.3}")),
            format!("{} (base {})", seconds[0], seconds[1]),
        ]);
    }
    format!("{}\n", markdown_table(&rows, &[Align::Left; 7]))
}

/// Writes the answer, the config and the plot into the folder of the search.
///
/// # Errors
/// When they cannot be written.
pub fn write(answer: &Answer, search: &Search) -> Result<(), AdviseError> {
    let folder = &search.options.folder;
    write_atomically(&folder.join(ANSWER), answer.markdown().as_bytes())?;
    if let Some(candidate) = answer.winner.as_ref().and_then(|name| search.find(name)) {
        let text = format!("# {}\n\n{}", candidate.what(), search.base.advised(&candidate));
        write_atomically(&folder.join(ADVISED), text.as_bytes())?;
    }
    if let Some(figure) = pareto(answer, search) {
        for format in [Format::Svg, Format::Png] {
            let Ok(bytes) = figure.file(format) else { continue };
            write_atomically(&folder.join(format!("{PLOT}.{format}")), &bytes)?;
        }
    }
    Ok(())
}

/// Step time against accuracy, of the round in which the most was trained.
fn pareto(answer: &Answer, search: &Search) -> Option<crate::plot::Figure> {
    let mut rounds = search.record.rounds.iter().enumerate().filter(|(_, round)| round.took_s.is_some());
    // The base is in each of them; the accuracy of each candidate is that of its own last round, held against the base there.
    let (at, round) = rounds.next_back()?;
    let found: Vec<f64> = round.seeds.iter().filter_map(|seed| search.accuracy(at, BASE, *seed)).collect();
    let base = Spread::of(&found)?;
    let point = |name: String, time_s: f64, accuracy: f64, runs: Option<Spread>| Setting {
        name,
        accuracy,
        interval: runs.map(|spread| [spread.min, spread.max]),
        cost: Some(time_s * 1e3),
    };
    let mut points = vec![point(BASE.to_string(), search.step_s(), base.mean, Some(base))];
    for one in answer.tried.iter().filter(|one| one.gain.is_some()) {
        let finalist = answer.finalists.iter().find(|other| other.name == one.name);
        let name =
            if answer.winner.as_ref() == Some(&one.name) { format!("winner: {}", one.name) } else { one.name.clone() };
        let accuracy = (base.mean + one.gain?).clamp(0.0, 1.0);
        points.push(point(name, one.ratio? * search.step_s(), accuracy, finalist.map(|one| one.accuracy[0])));
    }
    let below =
        "of each, the accuracy against the base's in its last round; lines are from the lowest seed to the highest";
    scatter(&points, ["Validation accuracy against step time", below, "Step time (ms)"], Theme::Light.style())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    fn finalist(name: &str, edits: usize, interval: [f64; 2], gain: f64, p: f64) -> Finalist {
        let ratio = (interval[0] * interval[1]).sqrt();
        let time = Paired { first_s: 1.0, second_s: ratio, ratio, interval, pairs: 16 };
        let spread = Spread::of(&[0.5, 0.5]).unwrap();
        let basis = Basis::Seeds { p, interval: [gain - 0.01, gain + 0.01] };
        Finalist {
            name: name.to_string(),
            what: String::new(),
            distance: Distance { edits, layers: edits, parameters: 0 },
            parameters: 0,
            time,
            accuracy: [spread, spread],
            difference: RowDifference { mean: gain, within_noise: Some(p >= LEVEL), p_adjusted: Some(p), basis },
            same_images: Vec::new(),
            seconds_to_accuracy: [None, None],
            test: None,
        }
    }

    #[test]
    fn the_smallest_change_that_meets_both_goals_wins() {
        let all = [
            finalist("slower", 1, [1.01, 1.1], 0.1, 0.001),
            finalist("chance", 1, [0.4, 0.5], 0.09, 0.4),
            finalist("little", 1, [0.9, 0.95], 0.05, 0.001),
            finalist("two-edits", 2, [0.6, 0.7], 0.04, 0.01),
            finalist("two-better-edits", 2, [0.5, 0.6], 0.05, 0.01),
            finalist("three-edits", 3, [0.3, 0.4], 0.08, 0.001),
        ];
        let chosen = |all: &[Finalist]| choose(all, &Scope::default()).map(|one| one.name.clone());
        assert_eq!(chosen(&all).as_deref(), Some("two-better-edits"));
        // What is proven, but less than asked for, goes before what chance may explain.
        assert_eq!(chosen(&all[..3]).as_deref(), Some("little"));
        assert_eq!(chosen(&all[..2]).as_deref(), Some("chance"));
        assert_eq!(chosen(&all[..1]), None);
        // Of as many edits, the one that changes fewer layers.
        let mut nearer = all[3].clone();
        (nearer.name, nearer.distance.layers) = ("fewer-layers".to_string(), 1);
        assert_eq!(chosen(&[all[4].clone(), nearer]).as_deref(), Some("fewer-layers"));
    }

    #[test]
    fn one_seed_or_a_test_split_that_contradicts_proves_nothing() {
        let proven = finalist("a", 1, [0.6, 0.7], 0.05, 0.01);
        let with = |change: fn(&mut Finalist)| {
            let mut one = proven.clone();
            change(&mut one);
            one.is_proven()
        };
        assert!(proven.is_proven());
        let images = |one: &mut Finalist| {
            one.difference.basis = Basis::SameImages { p: 0.01, images: 9, only_own_right: 8, only_other_right: 1 };
        };
        assert!(!with(images));
        let test = |one: &mut Finalist, mean: f64| {
            let difference = RowDifference { mean, ..one.difference.clone() };
            one.test = Some(Tested { accuracy: one.accuracy, difference });
        };
        let cases = [0.01, 0.0, -0.01].map(|mean| {
            let mut one = proven.clone();
            test(&mut one, mean);
            one.is_proven()
        });
        assert_eq!(cases, [true, false, false]);
    }

    #[test]
    fn equal_configs_are_not_declared_more_accurate_more_often_than_the_level() {
        // Twenty candidates as good as the base, of which a round on one seed chooses three; then three other seeds, which the
        // base has too, with the spread of small trainings and a part of it that a seed gives to all.
        let proven = |trial: &u64| {
            let key = Key::new(*trial);
            let reached =
                |of: u64, seed: u64| 0.6 + 0.01 * key.with(of).normal(seed) + 0.01 * key.with(99).normal(seed);
            let mut chosen: Vec<u64> = (1..=20).collect();
            chosen.sort_by(|a, b| reached(*b, 0).total_cmp(&reached(*a, 0)));
            let compared = |of: &u64| Difference::paired(&[1, 2, 3].map(|seed| reached(*of, seed) - reached(0, seed)));
            let differences: Vec<Difference> = chosen[..3].iter().filter_map(compared).collect();
            let p: Vec<Option<f64>> = differences.iter().map(|one| one.seeds.map(|seeds| seeds.p)).collect();
            let finalists: Vec<Finalist> = holm(&p, 3)
                .into_iter()
                .zip(differences)
                .map(|(p, difference)| finalist("f", 1, [0.8, 0.9], difference.mean, p.unwrap()))
                .collect();
            choose(&finalists, &Scope::default()).is_some_and(Finalist::is_proven)
        };
        let found = (0..200).filter(proven).count();
        assert!(found <= 10, "{found} of 200 at a level of 5 %");
    }

    #[test]
    fn a_level_is_reached_between_two_epochs_in_proportion() {
        let points = [(100.0, 0.4), (200.0, 0.5), (300.0, 0.7)];
        let steps = [0.3, 0.45, 0.5, 0.6, 0.8].map(|level| steps_to(&points, level));
        let expected = [Some(100.0), Some(150.0), Some(200.0), Some(250.0), None];
        for (found, expected) in steps.into_iter().zip(expected) {
            assert!((found.unwrap_or(-1.0) - expected.unwrap_or(-1.0)).abs() < 1e-9, "{found:?} {expected:?}");
        }
    }
}
