//! `vitreous profile diff`: which layers make the difference between two profiles.

use std::path::{Path, PathBuf};

use super::super::presets::is_preset;
use super::super::screen::{Align, sentence, table};
use super::super::settings::{SettingsArgs, shell_word};
use super::super::{CliError, json, show};
use super::{MeasureArgs, facts_of};
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
            let [first, second] = alternate([&mut profiler(args, &first)?, &mut profiler(args, &second)?]);
            (first, second)
        }
        (Side::Saved(first), Side::Config(second)) => (*first, one(args, &second)?),
        (Side::Config(first), Side::Saved(second)) => (one(args, &first)?, *second),
    };
    if first.model == second.model {
        // Of a run, and of the preset that it has its name from.
        (first.model, second.model) = (args.first.clone(), args.second.clone());
    }
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
    let [profile] = alternate([&mut profiler(args, settings)?]);
    Ok(profile)
}

fn text(found: &Difference, top: Option<usize>) -> String {
    let [first, second] = &found.models;
    let change = |ratio: f64| format!("{:+.1} %", (ratio - 1.0) * 100.0);
    let heading = format!(
        "{second} takes {:.2} ms for a step, {first} {:.2} ms: {} ({})",
        found.steps_ms[1],
        found.steps_ms[0],
        change(found.ratio),
        found
            .interval
            .map_or(FEW.to_string(), |[low, high]| { format!("95 % interval {} to {}", change(low), change(high)) })
    );
    let titles = ["layer", first, second, "difference", "interval", "clear"].map(str::to_string).to_vec();
    let ms = |ms: Option<f64>| ms.map_or("-".to_string(), |ms| format!("{ms:.2} ms"));
    let row = |layer: &LayerDifference| {
        vec![
            layer.name.clone(),
            ms(layer.ms[0]),
            ms(layer.ms[1]),
            format!("{:+.2} ms", layer.difference_ms),
            layer.interval_ms.map_or(FEW.to_string(), |[low, high]| format!("{low:+.2} to {high:+.2}")),
            if layer.is_clear { "yes" } else { "no" }.to_string(),
        ]
    };
    let shown = found.layers.iter().take(top.unwrap_or(found.layers.len()));
    let rows: Vec<Vec<String>> = [titles].into_iter().chain(shown.map(row)).collect();
    let [left, right] = [Align::Wrap, Align::Right];
    let differ = |what: &str, unit: &str, [first, second]: [usize; 2]| match first == second {
        true => String::new(),
        false => sentence(&format!("{what} differ: {first} and {}.", numbers::counted(second, unit))),
    };
    format!(
        "{}{}{}\n{}\n{}",
        sentence(&heading),
        differ("Threads", "thread", found.threads),
        differ("The steps' batches", "image", found.batches),
        table(&rows, &[left, right, right, right, right, Align::Left]),
        sentence(&format!(
            "Times are medians{}. A difference is clear if its interval excludes 0 and it is at least 0.1 % of a step. All intervals \
             together are 95 % sure.",
            if found.in_turn { ", differences those of pairs of steps" } else { "" }
        ))
    )
}
