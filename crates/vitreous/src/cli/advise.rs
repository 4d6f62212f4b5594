//! `vitreous advise`: finds the smallest change of an architecture that is faster and more accurate.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use toml::Value;

use super::presets::preset_of;
use super::reading::watched;
use super::screen::{Align, sentence, stdout_columns, table};
use super::settings::SettingsArgs;
use super::train::{INTERRUPTED, base, command, time, watch_interrupts, watch_warnings};
use super::{CliError, json, show};
use crate::advise::{
    AdviseEvent, AdviseOptions, Advised, Answer, Base, Candidate, Clock, Neighborhood, Round, RoundKind, Scope, advise,
};
use crate::config::layers::Layers;
use crate::record::{RecordError, base_name, is_name};
use crate::sweep::SweepEvent;
use crate::train;
use crate::{durations, experiment, numbers};

/// Columns of a terminal in which a list of changes has all columns.
const WIDE: usize = 100;

/// Runs side by side where nothing is said: each on its own threads, since small models use few of them well.
const JOBS_MAX: usize = 4;

/// Finds the smallest change of an architecture that trains faster and is more accurate
#[derive(clap::Args)]
pub struct Args {
    /// Improve the model of this preset, such as cifar-cnn4
    #[arg(value_name = "PRESET", conflicts_with = "preset")]
    start: Option<String>,
    /// Time for the whole search, such as 30m or 2h; with a larger budget, finalists are trained longer
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "30m")]
    budget: Duration,
    /// Kinds of changes to try, such as channels,pool [default: all; --list shows them]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    rules: Vec<String>,
    /// Layers or model keys that must stay, such as layers.3 or patch_size
    #[arg(long, value_name = "PART,...", value_delimiter = ',')]
    keep: Vec<String>,
    /// Maximum number of parameters
    #[arg(long, value_name = "N")]
    max_params: Option<usize>,
    /// Maximum number of changes that are made together
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=4))]
    max_edits: u8,
    /// Percentage of a step's time that a change is to save
    #[arg(long, value_name = "PERCENT", default_value_t = 15.0)]
    faster: f64,
    /// Percentage points of accuracy that a change is to gain
    #[arg(long, value_name = "POINTS", default_value_t = 1.5)]
    better: f64,
    /// Runs side by side; threads are divided among them [default: one for each thread, at most 4]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Threads [default: one for each processor]
    #[arg(short = 'j', long, value_name = "N")]
    threads: Option<usize>,
    /// The name of the search's folder [default: the preset's with -advise]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Folder for searches
    #[arg(long, value_name = "DIR", default_value = "runs")]
    out: PathBuf,
    /// Only list the single changes that would be tried
    #[arg(long)]
    list: bool,
    /// Print the answer, or with --list the changes, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// The name of a search's folder.
fn name(args: &Args) -> String {
    let own = || args.start.clone().unwrap_or_else(|| base(&args.settings));
    args.name.clone().unwrap_or_else(|| format!("{}-advise", base_name(&own())))
}

/// The folder of a search.
pub fn folder(args: &Args) -> PathBuf {
    args.out.join(name(args))
}

/// Runs the command.
pub fn run(mut args: Args) -> Result<ExitCode, CliError> {
    let stop = watch_warnings()?;
    let clock = Clock::new();
    let part = |value: f64, flag: &str, example: &str| {
        let is_part = value.is_finite() && (0.0..100.0).contains(&value) && value > 0.0;
        let hint = || Some(format!("use {flag} {example}"));
        if is_part {
            Ok(value / 100.0)
        } else {
            Err(CliError::user(format!("invalid value `{value}` ({flag})"), hint()))
        }
    };
    let scope = Scope {
        rules: args.rules.clone(),
        keep: args.keep.clone(),
        max_params: args.max_params,
        max_edits: usize::from(args.max_edits),
        faster: part(args.faster, "--faster", "15")?,
        better: part(args.better, "--better", "1.5")?,
    };
    let name = name(&args);
    if !is_name(&name) {
        return Err(RecordError::Name { name }.into());
    }
    if let Some(start) = args.start.take() {
        args.settings.preset = Some(preset_of(start)?);
    }
    let threads = args.threads.map(|threads| Value::Integer(i64::try_from(threads).unwrap_or(i64::MAX)));
    let layers: Layers = args.settings.layers(threads.map(|threads| ("train.threads", threads, "--threads")))?;
    let base = watched(|listener| Base::new(layers, listener))?;
    let hood = Neighborhood::new(&base.config.model, &scope)?;
    if args.list {
        return list(&hood, args.json).map(|()| ExitCode::SUCCESS);
    }
    let folder = args.out.join(&name);
    let most = train::threads(base.config.train.threads);
    let jobs = args.jobs.unwrap_or(most.min(JOBS_MAX));
    if !(1..=most).contains(&jobs) {
        let error = format!("jobs {jobs} is not between 1 and {most}, the number of threads (--jobs)");
        return Err(CliError::user(error, Some(format!("use --jobs {}", jobs.clamp(1, most)))));
    }
    let options = AdviseOptions { folder: folder.clone(), budget: args.budget, jobs, command: command() };
    watch_interrupts(&stop)?;
    say!(
        "advise: {} of {}, {} to find a faster and more accurate one, into {}",
        numbers::counted(hood.singles.len(), "single change"),
        base.config.model.describe(),
        durations::duration(args.budget.as_secs_f64()),
        folder.display()
    );
    base.notes.iter().for_each(|note| say!("note: {note}"));
    let screen = Screen::default();
    let listener = |event: AdviseEvent| screen.show(event);
    match advise(&base, &hood, &scope, &options, &clock, (&stop, &listener))? {
        Advised::Stopped => {
            debug_assert!(stop.load(Ordering::Relaxed), "only a signal stops a search");
            let text = "interrupted: the same command continues the search\n".to_string();
            show(&if args.json { json(&serde_json::json!({ "interrupted": true })) } else { text })?;
            Ok(ExitCode::from(INTERRUPTED))
        }
        Advised::Answered(answer) => {
            show(&if args.json { json(&answer) } else { text(&answer) })?;
            say!("{} has the table of everything that was tried, with reasons", folder.join("answer.md").display());
            if let Some(config) = &answer.config {
                say!("train it: vitreous train --config {}", super::settings::shell_word(config));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn list(hood: &Neighborhood, as_json: bool) -> Result<(), CliError> {
    if as_json {
        let change = |one: &Candidate| {
            serde_json::json!({ "name": one.name, "what": one.what(), "why": one.why(), "distance": one.distance,
                "parameters": one.parameters })
        };
        return show(&json(&serde_json::json!({ "changes": hood.singles.iter().map(change).collect::<Vec<_>>() })));
    }
    // Sentences need the room of a narrow terminal.
    let is_wide = stdout_columns().is_none_or(|columns| columns >= WIDE);
    let row = |name: &str, what: &str, sizes: [String; 2], why: &str| {
        let sizes = sizes.into_iter().filter(|_| is_wide);
        [name, what].map(str::to_string).into_iter().chain(sizes).chain([why.to_string()]).collect::<Vec<String>>()
    };
    let mut rows = vec![row("name", "change", ["layers", "parameters"].map(str::to_string), "why")];
    rows.extend(hood.singles.iter().map(|one| {
        let sizes = [one.distance.layers.to_string(), numbers::count(one.parameters as u64)];
        row(&one.name, &one.what(), sizes, &one.why())
    }));
    let sizes = [Align::Right; 2].into_iter().filter(|_| is_wide);
    let align: Vec<Align> = [Align::Left, Align::Wrap].into_iter().chain(sizes).chain([Align::Wrap]).collect();
    show(&table(&rows, &align))
}

fn text(answer: &Answer) -> String {
    let trained = || answer.tried.iter().filter(|one| one.images.is_some());
    let (rows, align) = answer.table(trained(), stdout_columns());
    let (trained, more) = (trained().count(), answer.tried.len() - trained().count());
    // The answer comes last, where a terminal stays.
    let mut text = String::new();
    if trained > 0 {
        text.push_str(&table(&rows, &align));
    }
    if more > 0 {
        text.push_str(&sentence(&format!("{} that were not trained are not shown", numbers::counted(more, "change"))));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&sentence(&answer.text));
    if !answer.changes.is_empty() {
        text.push('\n');
        answer.changes.iter().for_each(|change| text.push_str(&sentence(change)));
    }
    text
}

/// Shows a search on stderr, with a line per run.
#[derive(Default)]
struct Screen {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    runs: usize,
    done: usize,
    accuracies: BTreeMap<String, f64>,
}

impl Screen {
    fn show(&self, event: AdviseEvent) {
        let mut state = self.state.lock().expect("no thread panics with it");
        match event {
            AdviseEvent::Timing { total: 0, .. } => say!("timing the base against itself"),
            AdviseEvent::Timing { name, done: 0, total } => {
                say!("timing {} against the base, a step of each in turn", numbers::counted(total, "change"));
                detail!("timing {name}");
            }
            AdviseEvent::Timing { name, done, total } if done % 10 == 0 => say!("timed {done} of {total}, now {name}"),
            AdviseEvent::Timing { name, .. } => detail!("timing {name}"),
            AdviseEvent::Round { number, round, seconds } => {
                (state.runs, state.done) = ((round.candidates.len() + 1) * round.seeds.len(), 0);
                say!("round {number}: {}, about {}", what(round), durations::duration(seconds));
            }
            AdviseEvent::Sweep { event: SweepEvent::Run { run, event }, .. } => match event {
                experiment::Event::Training(train::Event::Epoch { row, .. }) => {
                    if let Some(found) = row.validation {
                        state.accuracies.insert(run.to_string(), found.accuracy);
                    }
                }
                experiment::Event::Note(note) => detail!("note: {run}: {note}"),
                _ => {}
            },
            AdviseEvent::Sweep { event: SweepEvent::Evaluated { run, seconds, .. }, left_s } => {
                state.done += 1;
                let accuracy =
                    state.accuracies.get(run).map(|accuracy| format!(": val {}", numbers::percent(*accuracy)));
                let seconds = seconds.map(|seconds| format!(", {}", durations::duration(seconds)));
                let left = durations::time_left(left_s);
                say!(
                    "{} of {}  {run}{}{}; {left} left of the budget",
                    state.done,
                    state.runs,
                    accuracy.unwrap_or_default(),
                    seconds.unwrap_or_default()
                );
            }
            AdviseEvent::Sweep { event: SweepEvent::Failed { run }, .. } => {
                state.done += 1;
                say!("run {run} failed; the search continues");
            }
            AdviseEvent::Sweep { .. } => {}
            AdviseEvent::TestsWinner { name } => {
                say!("the test split is evaluated for {name} and the base, and for no other change");
            }
            AdviseEvent::Guesses { accuracy, chance } => {
                say!(
                    "note: the base is right on {} of the validation images, no more than guessing ({}): so short a training \
                     tells nothing about accuracy; a larger budget trains on more images",
                    numbers::percent(accuracy),
                    numbers::percent(chance)
                );
            }
            AdviseEvent::BudgetUsed => {
                say!("the time for this round is used up: runs that have not ended are left out");
            }
        }
    }
}

/// What a round does.
fn what(round: &Round) -> String {
    let length = match round.images {
        Some(images) => format!("{} images each", numbers::count(images as u64)),
        None => format!("{} each", numbers::counted(round.epochs, "epoch")),
    };
    let count = round.candidates.len();
    let changes = match round.kind {
        RoundKind::Singles => numbers::counted(count, "single change"),
        RoundKind::Again => format!("the best {count} again"),
        RoundKind::Several(edits) => format!("{count} with up to {edits} changes together"),
        RoundKind::Narrow => format!("the best {count}"),
        RoundKind::Final => {
            let seeds = numbers::counted(round.seeds.len(), "seed");
            format!("{} and the base with {seeds}", numbers::counted(count, "finalist"))
        }
    };
    format!("{changes}, {length}")
}
