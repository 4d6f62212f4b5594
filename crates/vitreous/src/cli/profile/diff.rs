//! `vitreous profile diff`: which layers make the difference between two profiles.

use std::path::{Path, PathBuf};

use super::super::presets::is_preset;
use super::super::screen::{Align, sentence, stdout_columns, table};
use super::super::settings::{SettingsArgs, shell_word};
use super::super::{CliError, json, show};
use super::{MeasureArgs, facts_of, note_threads};
use crate::numbers;
use crate::profile::{Difference, FILE, LayerDifference, Profile, Profiler, alternate, difference};

/// Compares two profiles
#[derive(clap::Args)]
pub struct Args {
    /// A saved profile, a run folder with one, a preset or a config file; two presets or configs are profiled in turn
    #[arg(value_name = "A")]
    first: String,
    /// Another one
    #[arg(value_name = "B")]
    second: String,
    /// Show only the layers with the largest differences
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    #[command(flatten)]
    how: MeasureArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Instead of an interval that few steps do not give.
const FEW: &str = "too few steps for an interval";

/// What is printed below the table, with intervals and without.
const CLEAR: &str = "A difference is clear if its interval excludes 0 and it is at least 1 % of A's step. All intervals \
                     together are 95 % sure.";
const UNCLEAR: &str = "There are too few steps to say which differences are clear: profile for more --seconds.";

/// Columns of a terminal that has room for the intervals.
const WITH_INTERVALS: usize = 100;

/// What is compared.
enum Side {
    Saved(Box<Profile>),
    Config(Box<SettingsArgs>),
}

/// Runs the command.
pub fn run(args: &Args) -> Result<(), CliError> {
    let (first, second) = (side(&args.first)?, side(&args.second)?);
    let in_turn = matches!((&first, &second), (Side::Config(_), Side::Config(_)));
    let (mut first, mut second) = match (first, second) {
        (Side::Saved(first), Side::Saved(second)) => (*first, *second),
        (Side::Config(first), Side::Config(second)) => {
            let [mut first, mut second] = [profiler(args, &first)?, profiler(args, &second)?];
            args.how.announce();
            let [first, second] = alternate([&mut first, &mut second]);
            (first, second)
        }
        (Side::Saved(first), Side::Config(second)) => (*first, one(args, &second)?),
        (Side::Config(first), Side::Saved(second)) => (one(args, &first)?, *second),
    };
    if first.model == second.model {
        // Of a run, and of the preset that it has its name from.
        (first.model, second.model) = (args.first.clone(), args.second.clone());
    }
    note_threads(&first);
    let found = difference(&first, &second, in_turn)?;
    show(&if args.json { json(&found) } else { text(&found, args.top) })
}

fn side(name: &str) -> Result<Side, CliError> {
    let path = Path::new(name);
    let config = |settings| Ok(Side::Config(Box::new(settings)));
    let saved = |path: PathBuf| Ok(Side::Saved(Box::new(Profile::read(&path)?)));
    match () {
        () if is_preset(name) => config(SettingsArgs { preset: Some(name.to_string()), ..SettingsArgs::default() }),
        () if path.extension().is_some_and(|ending| ending == "toml") => {
            config(SettingsArgs { config: Some(path.to_path_buf()), ..SettingsArgs::default() })
        }
        () if path.join(FILE).is_file() => saved(path.join(FILE)),
        () if path.is_dir() => {
            let hint = format!("make one with `vitreous profile --run {}`", shell_word(path));
            Err(CliError::user(format!("the folder has no profile ({})", path.display()), Some(hint)))
        }
        () if path.exists() => saved(path.to_path_buf()),
        () => {
            let hint = "`vitreous presets` lists the presets; config files end in .toml; `vitreous profile --output FILE` saves a profile";
            Err(CliError::user(
                format!("no profile, run folder, preset or config file `{name}`"),
                Some(hint.to_string()),
            ))
        }
    }
}

fn profiler(args: &Args, settings: &SettingsArgs) -> Result<Profiler, CliError> {
    let (name, checked) = args.how.checked(settings, None)?;
    Ok(Profiler::new(&facts_of(&checked)?, args.how.options(name, false)?)?)
}

fn one(args: &Args, settings: &SettingsArgs) -> Result<Profile, CliError> {
    let mut profiler = profiler(args, settings)?;
    args.how.announce();
    let [profile] = alternate([&mut profiler]);
    Ok(profile)
}

fn text(found: &Difference, top: Option<usize>) -> String {
    let [first, second] = &found.models;
    let change = |ratio: f64| format!("{:+.1} %", (ratio - 1.0) * 100.0);
    let heading = format!(
        "A takes {:.2} ms for a step, B {:.2} ms: {} ({})",
        found.steps_ms[0],
        found.steps_ms[1],
        change(found.ratio),
        found
            .interval
            .map_or(FEW.to_string(), |[low, high]| { format!("95 % interval {} to {}", change(low), change(high)) })
    );
    let has_room = stdout_columns().is_none_or(|columns| columns >= WITH_INTERVALS);
    let cells = |cells: [String; 7]| {
        let [layer, operation, a, b, difference, interval, clear] = cells;
        let interval = has_room.then_some(interval);
        [layer, operation, a, b, difference].into_iter().chain(interval).chain([clear]).collect::<Vec<String>>()
    };
    // Without a sign for what rounds to 0.
    let signed = |ms: f64| match (ms * 100.0).round() + 0.0 {
        0.0 => "0.00".to_string(),
        rounded => format!("{:+.2}", rounded / 100.0),
    };
    let ms = |ms: Option<f64>| ms.map_or("-".to_string(), |ms| format!("{ms:.2}"));
    let row = |layer: &LayerDifference| {
        cells([
            both(layer.names.each_ref().map(|name| name.as_deref().unwrap_or_default())),
            both(layer.operations.each_ref().map(String::as_str)),
            ms(layer.ms[0]),
            ms(layer.ms[1]),
            signed(layer.difference_ms),
            layer.interval_ms.map_or("-".to_string(), |[low, high]| format!("{} to {}", signed(low), signed(high))),
            if layer.is_clear { "yes" } else { "no" }.to_string(),
        ])
    };
    let titles = cells(["layer", "operation", "A ms", "B ms", "B - A", "interval", "clear"].map(str::to_string));
    let shown = found.layers.iter().take(top.unwrap_or(found.layers.len()));
    let rows: Vec<Vec<String>> = [titles].into_iter().chain(shown.map(row)).collect();
    let align: Vec<Align> = (0..rows[0].len())
        .map(|at| match at {
            0 | 1 => Align::Wrap,
            _ if at + 1 == rows[0].len() => Align::Left,
            _ => Align::Right,
        })
        .collect();
    let differ = |what: &str, unit: &str, [first, second]: [usize; 2]| match first == second {
        true => String::new(),
        false => sentence(&format!("{what} differ: {first} and {}.", numbers::counted(second, unit))),
    };
    let has_intervals = found.layers.iter().any(|layer| layer.interval_ms.is_some());
    format!(
        "{}{}{}{}\n{}\n{}",
        sentence(&format!("A is {first}, B is {second}.")),
        sentence(&heading),
        differ("Threads", "thread", found.threads),
        differ("The steps' batches", "image", found.batches),
        table(&rows, &align),
        sentence(if has_intervals { CLEAR } else { UNCLEAR })
    )
}

/// What both sides are; once where they are the same, or only one has it.
fn both([first, second]: [&str; 2]) -> String {
    match (first.is_empty(), second.is_empty()) {
        (false, false) if first != second => format!("{first} -> {second}"),
        (true, _) => second.to_string(),
        _ => first.to_string(),
    }
}
