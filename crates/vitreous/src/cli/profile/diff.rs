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
    /// A saved profile, a run folder with one, or a preset; two presets are profiled in turn
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

/// What is compared.
enum Side {
    Saved(Box<Profile>),
    Preset(String),
}

/// Runs the command.
pub fn run(args: &Args) -> Result<(), CliError> {
    let (first, second) = match (side(&args.first)?, side(&args.second)?) {
        (Side::Saved(first), Side::Saved(second)) => (*first, *second),
        (Side::Preset(first), Side::Preset(second)) => {
            let mut profilers = [profiler(args, first)?, profiler(args, second)?];
            let [first, second] = &mut profilers;
            alternate(&mut [first, second]);
            (first.profile(), second.profile())
        }
        (Side::Saved(first), Side::Preset(second)) => (*first, one(args, second)?),
        (Side::Preset(first), Side::Saved(second)) => (one(args, first)?, *second),
    };
    let found = difference(&first, &second)?;
    show(&if args.json { json(&found) } else { text(&found, args.top) })
}

fn side(name: &str) -> Result<Side, CliError> {
    let path = Path::new(name);
    let saved = |path: PathBuf| Ok(Side::Saved(Box::new(Profile::read(&path)?)));
    match () {
        () if is_preset(name) => Ok(Side::Preset(name.to_string())),
        () if path.join(FILE).is_file() => saved(path.join(FILE)),
        () if path.is_dir() => {
            let hint = format!("make one with `vitreous profile --run {}`", shell_word(path));
            Err(CliError::user(format!("the folder has no profile ({})", path.display()), Some(hint)))
        }
        () if path.exists() => saved(path.to_path_buf()),
        () => {
            let hint = "`vitreous presets` lists the presets; `vitreous profile --output FILE` saves a profile";
            Err(CliError::user(format!("no profile, run folder or preset `{name}`"), Some(hint.to_string())))
        }
    }
}

fn profiler(args: &Args, preset: String) -> Result<Profiler, CliError> {
    let settings = SettingsArgs { preset: Some(preset), ..SettingsArgs::default() };
    let (name, checked) = args.how.checked(&settings, None)?;
    Ok(Profiler::new(&facts_of(&checked)?, args.how.options(name, false)?)?)
}

fn one(args: &Args, preset: String) -> Result<Profile, CliError> {
    let mut profiler = profiler(args, preset)?;
    alternate(&mut [&mut profiler]);
    Ok(profiler.profile())
}

fn text(found: &Difference, top: Option<usize>) -> String {
    let [first, second] = &found.models;
    let change = |ratio: f64| format!("{:+.1} %", (ratio - 1.0) * 100.0);
    let heading = format!(
        "{second} takes {:.2} ms for a step, {first} {:.2} ms: {} (95 % interval {} to {})",
        found.steps[1].median,
        found.steps[0].median,
        change(found.ratio),
        change(found.interval[0]),
        change(found.interval[1])
    );
    let titles = ["layer", first, second, "difference", "at least 90 % sure", "clear"].map(str::to_string).to_vec();
    let ms = |ms: Option<f64>| ms.map_or("-".to_string(), |ms| format!("{ms:.2} ms"));
    let row = |layer: &LayerDifference| {
        vec![
            layer.name.clone(),
            ms(layer.ms[0]),
            ms(layer.ms[1]),
            format!("{:+.2} ms", layer.difference_ms),
            format!("{:+.2} to {:+.2}", layer.interval_ms[0], layer.interval_ms[1]),
            if layer.is_clear { "yes" } else { "no" }.to_string(),
        ]
    };
    let shown = found.layers.iter().take(top.unwrap_or(found.layers.len()));
    let rows: Vec<Vec<String>> = [titles].into_iter().chain(shown.map(row)).collect();
    let [left, right] = [Align::Wrap, Align::Right];
    let threads = match found.threads {
        [first, second] if first != second => {
            sentence(&format!("Threads differ: {first} and {}.", numbers::counted(second, "thread")))
        }
        _ => String::new(),
    };
    format!("{}{threads}\n{}", sentence(&heading), table(&rows, &[left, right, right, right, right, Align::Left]))
}
