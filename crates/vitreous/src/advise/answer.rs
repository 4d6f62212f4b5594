//! What a search came to, in words, tables and files: the winner, the finalists, and everything that was tried.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::candidates::Distance;
use super::finalists::{Finalist, Tested, finalists, last};
use super::profiles::Profiles;
use super::search::{BASE, Search};
use super::{AdviseError, Candidate};
use crate::compare::{Basis, LEVEL, RowDifference};
use crate::config::difference::{became, changes, flat_config};
use crate::durations::duration;
use crate::layout::{Align, markdown_table};
use crate::numbers;
use crate::plot::accuracies::{Setting, scatter_of};
use crate::plot::{Format, Theme};
use crate::record::write_atomically;
use crate::timing::Paired;

/// The file with the answer in words.
const ANSWER: &str = "answer.md";
/// The config that trains the winner.
const ADVISED: &str = "advised.toml";
/// The plot of step time and accuracy.
const PLOT: &str = "pareto";

/// Columns of a terminal in which the table of what was tried has all columns.
pub const WIDE: usize = 130;

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
    /// Number of trained values.
    pub parameters: usize,
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
    let candidate = winner.as_ref().and_then(|name| search.hood.find(name));
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
    } + &guesses_text(search, outcome);
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
    let verdict = if won.is_proven() { "Proven" } else { "Likely, not proven" };
    let mut text = format!("{verdict}. The change: {}. ", won.what);
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
    if p < 0.001 { "adjusted p < 0.001".to_string() } else { format!("adjusted p = {p:.3}") }
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

/// Says that the accuracies tell nothing, where the last ones are those of guessing.
fn guesses_text(search: &Search, outcome: Outcome) -> String {
    let last = (0..search.record.rounds.len()).rev().find(|at| search.is_known(*at, BASE));
    let Some([accuracy, chance]) = last.and_then(|at| search.guesses(at)).filter(|_| outcome != Outcome::Proven) else {
        return String::new();
    };
    format!(
        " In the last round, the base is right on {} of the validation images, no more than guessing ({}): accuracies of so \
         short a training tell nothing. A larger budget trains on more images.",
        numbers::percent(accuracy),
        numbers::percent(chance)
    )
}

fn tried(search: &Search, finalists: &[Finalist]) -> Vec<Tried> {
    let estimates = search.estimates();
    let rounds = &search.record.rounds;
    let mut names: Vec<String> = search.hood.singles.iter().map(|one| one.name.clone()).collect();
    let timed = search.record.timings.iter().map(|timing| &timing.name);
    for name in rounds.iter().flat_map(|round| &round.candidates).chain(timed) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let one = |name: String| {
        let candidate = search.hood.find(&name)?;
        let time = search.time(&name);
        let seen = rounds.iter().enumerate().rev().find(|(_, round)| round.candidates.contains(&name));
        let finalist = finalists.iter().find(|one| one.name == name);
        let gain = finalist.map(|one| one.difference.mean).or_else(|| estimates.get(&name).map(|one| one.gain));
        let outcome = match (time, seen, finalist) {
            (None, ..) if search.record.is_timed(&name, None) => "it does not fit into memory".to_string(),
            (None, ..) => "not timed, to keep the budget".to_string(),
            _ if search.record.winner.as_ref() == Some(&name) => "winner".to_string(),
            (_, _, Some(one)) if one.is_proven() => {
                "does both; a smaller change, or one that gains more, won".to_string()
            }
            (_, _, Some(_)) => "finalist, but not faster and more accurate by more than chance".to_string(),
            (Some(time), None, _) if time.is_slower() => "slower, not trained".to_string(),
            (_, None, _) => "not trained".to_string(),
            (_, Some((at, _)), _) if search.has_failed(at, &name) => "its training failed".to_string(),
            (_, Some((at, _)), _) if !search.is_known(at, &name) => {
                format!("the time of round {} ended before its run", at + 1)
            }
            (_, Some((at, _)), _) => format!("dropped after round {}", at + 1),
        };
        let last = seen.map(|(_, round)| search.images_of(round)).filter(|_| finalist.is_some());
        let images = last.or(estimates.get(&name).map(|one| one.images));
        Some(Tried {
            what: candidate.what(),
            why: candidate.why(),
            distance: candidate.distance,
            parameters: candidate.parameters,
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
    /// The table of what was tried, with its titles first: the finalists, then those that got farthest. In fewer columns of
    /// a terminal than `WIDE`, it has what decides.
    pub fn table<'a>(
        &self,
        tried: impl Iterator<Item = &'a Tried>,
        width: Option<usize>,
    ) -> (Vec<Vec<String>>, Vec<Align>) {
        let absent = || "-".to_string();
        let parameters = |one: &Tried| {
            let sign = if one.parameters < self.parameters { "-" } else { "+" };
            format!("{sign}{}", numbers::count(one.distance.parameters as u64))
        };
        type Column<'c> = (&'static str, Align, bool, &'c dyn Fn(&Tried) -> String);
        let columns: [Column; 9] = [
            ("change", Align::Wrap, false, &|one| one.what.clone()),
            ("name", Align::Wrap, true, &|one| one.name.clone()),
            ("edits", Align::Right, true, &|one| one.distance.edits.to_string()),
            ("layers", Align::Right, true, &|one| one.distance.layers.to_string()),
            ("parameters", Align::Right, true, &parameters),
            ("step time", Align::Right, false, &|one| {
                one.ratio.map_or_else(absent, |ratio| format!("{:+.1} %", (ratio - 1.0) * 100.0))
            }),
            ("accuracy", Align::Right, false, &|one| one.gain.map_or_else(absent, points)),
            ("images seen", Align::Right, false, &|one| {
                one.images.map_or_else(absent, |images| numbers::count(images as u64))
            }),
            ("outcome", Align::Wrap, false, &|one| one.outcome.clone()),
        ];
        let is_wide = width.is_none_or(|width| width >= WIDE);
        let shown: Vec<&Column> = columns.iter().filter(|(_, _, needs_room, _)| is_wide || !needs_room).collect();
        let mut sorted: Vec<&Tried> = tried.collect();
        sorted.sort_by_key(|one| (std::cmp::Reverse(one.images), one.distance));
        let titles = shown.iter().map(|(title, ..)| (*title).to_string()).collect();
        let rows = sorted.iter().map(|one| shown.iter().map(|(.., cell)| cell(one)).collect());
        ([titles].into_iter().chain(rows).collect(), shown.iter().map(|(_, align, ..)| *align).collect())
    }

    /// The answer as a page in Markdown.
    pub fn markdown(&self) -> String {
        let (rows, align) = self.table(self.tried.iter(), None);
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
             removes. Images seen are the training images of a run times its epochs. Names are those of runs and of the points in \
             the plot.\n\n",
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
        "time to the base's last accuracy",
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
    if let Some(candidate) = answer.winner.as_ref().and_then(|name| search.hood.find(name)) {
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

/// Step time against what was gained in accuracy: that of each candidate is against the base in its own last round, since
/// accuracies of rounds with other numbers of images are not comparable.
fn pareto(answer: &Answer, search: &Search) -> Option<crate::plot::Figure> {
    let point = |name: String, ratio: f64, gain: f64, interval: Option<[f64; 2]>| Setting {
        name,
        accuracy: gain,
        interval,
        cost: Some(ratio * search.step_s() * 1e3),
    };
    // The first ones are sure of a place for their names.
    let mut points = vec![point(BASE.to_string(), 1.0, 0.0, None)];
    for one in answer.tried.iter() {
        let (Some(ratio), Some(gain)) = (one.ratio, one.gain) else { continue };
        let is_winner = answer.winner.as_ref() == Some(&one.name);
        let name = if is_winner { format!("winner: {}", one.name) } else { one.name.clone() };
        let finalist = answer.finalists.iter().find(|other| other.name == one.name);
        let interval = finalist.and_then(|one| match one.difference.basis {
            Basis::Seeds { interval, .. } => Some(interval),
            _ => None,
        });
        points.insert(if is_winner { 0 } else { points.len() }, point(name, ratio, gain, interval));
    }
    let titles = [
        "Accuracy gained against step time",
        "each against the base in its last round; lines are 95 % intervals of finalists",
        "Validation accuracy less the base's (points)",
        "Step time (ms)",
    ];
    scatter_of(&points, titles, [-1.0, 1.0], Theme::Light.style())
}
