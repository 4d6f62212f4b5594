//! `vitreous data`: shows and lists data sets; `fetch` is in its own file.

use clap::Subcommand;
use serde::Serialize;
use toml::Value;

use super::advice::Context;
use super::data_show::{self, ShowArgs};
use super::dry_run::problems_text;
use super::fetch::{self, FetchArgs};
use super::reading::watched;
use super::screen::{Align, indented, sentence, table};
use super::settings::SettingsArgs;
use super::verbosity::beyond_results;
use super::{CliError, json, show};
use crate::config::difference::flat_config;
use crate::config::{CheckedConfig, presets};
use crate::data::{self, DataSummary, Normalization, Wanted};
use crate::data_sets::{DATA_SETS, DataSet, ImageShape};
use crate::experiment::{Event, inspect};
use crate::numbers;
use crate::text::some_of;
use crate::train::threads;

/// Shows, lists and downloads data sets
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: DataVerb,
}

#[derive(Subcommand)]
enum DataVerb {
    /// Shows classes, splits, shape and statistics of a data set
    Info(InfoArgs),
    /// Shows images as a grid, in the terminal or as a figure: as they are, augmented, or as patches
    Show(Box<ShowArgs>),
    /// Downloads and verifies a known data set, for train
    Fetch(FetchArgs),
    /// Lists the known data sets
    List(ListArgs),
}

#[derive(clap::Args)]
struct InfoArgs {
    /// Data set or folder (the same as --data)
    #[arg(value_name = "NAME|FOLDER", conflicts_with = "data")]
    start: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Skip images that cannot be decoded, and count them
    #[arg(long)]
    skip_bad_images: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct ListArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), CliError> {
    match args.verb {
        DataVerb::Info(args) => info(args),
        DataVerb::Show(args) => data_show::run(*args),
        DataVerb::Fetch(args) => fetch::run(args),
        DataVerb::List(args) => list(&args),
    }
}

/// A known data set as JSON.
#[derive(Serialize)]
struct Known {
    name: &'static str,
    title: &'static str,
    page: &'static str,
    classes: &'static [&'static str],
    shape: ImageShape,
    train: usize,
    test: usize,
    can_be_fetched: bool,
}

#[derive(Serialize)]
struct KnownList {
    data_sets: Vec<Known>,
}

fn list(args: &ListArgs) -> Result<(), CliError> {
    let known = |set: &DataSet| Known {
        name: set.name,
        title: set.title,
        page: set.page,
        classes: set.class_names,
        shape: set.shape,
        train: set.train,
        test: set.test,
        can_be_fetched: set.download.is_some(),
    };
    let data_sets: Vec<Known> = DATA_SETS.iter().map(known).collect();
    if args.json {
        return show(&json(&KnownList { data_sets }));
    }
    let mut rows = vec![["name", "classes", "shape", "train", "test", "description"].map(str::to_string)];
    rows.extend(data_sets.iter().map(|set| {
        let [classes, train, test] = [set.classes.len(), set.train, set.test].map(|n| numbers::count(n as u64));
        [set.name.to_string(), classes, set.shape.to_string(), train, test, set.title.to_string()]
    }));
    let right = Align::Right;
    let table = table(&rows, &[Align::Left, right, right, right, right, Align::Left]);
    let next = ["next: vitreous data fetch NAME", "      vitreous presets --filter NAME"];
    show(&(table + &beyond_results(next.map(sentence).concat())))
}

fn info(mut args: InfoArgs) -> Result<(), CliError> {
    if let Some(start) = args.start.take() {
        args.settings.data = Some(start);
    }
    let checked = args.settings.checked(&[])?;
    let facts = watched(|listener| inspect(&checked, listener))?;
    let mut spec = checked.config().data.clone();
    spec.skip_bad_images |= args.skip_bad_images;
    let loaded = watched(|listener| {
        let progress = |done, total| listener(Event::Reading { done, total });
        data::load(&spec, &facts, Wanted::TrainAndValidation, threads(0), &progress)
    })?;
    let train = loaded.train.as_ref().ok_or_else(|| CliError::failure("no train split was loaded", None))?;
    let summary = data::describe(&facts, &loaded, &Normalization::new(&spec, train));
    facts.no_validation(&spec).iter().for_each(|note| say!("note: {note}"));
    if args.json {
        show(&json(&summary))?;
    } else {
        show(&text(&summary, split_of(&checked)))?;
    }
    Ok(())
}

/// How the validation split of a known data set is made, where presets make it otherwise.
fn split_of(checked: &CheckedConfig) -> Option<String> {
    let spec = &checked.config().data;
    let fraction = |fraction: f64| {
        let text = format!("{fraction:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    };
    let other = |name: &&str| {
        let preset = flat_config(presets::text(name)?, name).ok()?;
        let is_same = preset.get("data.name").and_then(Value::as_str) == Some(spec.name.as_str());
        let value = preset.get("data.val_fraction").and_then(Value::as_float).filter(|_| is_same)?;
        (fraction(value) != fraction(spec.val_fraction)).then(|| format!("{name} {}", fraction(value)))
    };
    let is_open = spec.is_known_data_set() && !checked.is_written("data", "val_fraction");
    let others: Vec<String> = presets::names().filter(|_| is_open).filter_map(|name| other(&name)).collect();
    let own = fraction(spec.val_fraction);
    (!others.is_empty()).then(|| format!("val_fraction {own}, the default; in presets: {}", some_of(&others, 4)))
}

fn text(summary: &DataSummary, split: Option<String>) -> String {
    let list = |values: &[f32]| values.iter().map(|x| format!("{x:.4}")).collect::<Vec<_>>().join(", ");
    let count = |n: usize| numbers::count(n as u64);
    let maybe = |n: Option<usize>| n.map_or("-".to_string(), count);
    let mut rows = vec![
        ["data", &summary.name].map(str::to_string),
        ["shape".to_string(), format!("{} (channels x height x width)", summary.shape)],
        ["classes".to_string(), count(summary.classes.len())],
        ["mean".to_string(), list(&summary.normalization.mean)],
        ["std".to_string(), list(&summary.normalization.std)],
        ["memory".to_string(), format!("{} for train and validation", numbers::bytes(summary.memory_bytes))],
        ["fingerprint".to_string(), summary.fingerprint.clone()],
    ];
    rows.extend(split.map(|split| ["split".to_string(), split]));
    let some = |n: usize, one: &str, more: &str| format!("{} {}", count(n), if n == 1 { one } else { more });
    if summary.ignored_files > 0 {
        let text = some(summary.ignored_files, "file in the class folders", "files in the class folders");
        rows.push(["ignored".to_string(), text]);
    }
    if summary.loose_pictures > 0 {
        let text = some(summary.loose_pictures, "image outside class folders", "images outside class folders");
        rows.push(["ignored".to_string(), text]);
    }
    for folder in &summary.ignored_folders {
        rows.push(["ignored".to_string(), format!("{}, not the name of a split", folder.display())]);
    }
    for folder in &summary.run_folders {
        rows.push(["ignored".to_string(), format!("{}, which contains runs", folder.display())]);
    }
    if !summary.skipped.is_empty() {
        let text = some(summary.skipped.len(), "image that cannot be decoded", "images that cannot be decoded");
        rows.push(["skipped".to_string(), text]);
    }
    let mut text = table(&rows, &[Align::Left, Align::Wrap]);
    text.push('\n');
    let mut rows = vec![["class", "train", "validation", "test"].map(str::to_string)];
    let classes = summary.classes.iter();
    rows.extend(classes.map(|c| [c.name.clone(), count(c.train), count(c.validation), maybe(c.test)]));
    let test = if summary.test.is_none() && summary.has_test { "not counted".to_string() } else { maybe(summary.test) };
    rows.push(["all".to_string(), count(summary.train), count(summary.validation), test]);
    text.push_str(&table(&rows, &[Align::Left, Align::Right, Align::Right, Align::Right]));
    if summary.has_test && summary.classes.iter().any(|class| class.test.is_none()) {
        text.push_str(&sentence("-: test labels are not read here, so test images are not counted by class"));
    }
    let problems = summary.check.problems();
    if !problems.is_empty() {
        text.push_str(&format!(
            "\n{}",
            problems_text(&problems, &summary.check.duplicates, &Context::named(&["data", "info"]))
        ));
    }
    for skipped in &summary.skipped {
        text.push_str(&indented(&format!("skipped {}: {}", skipped.name, skipped.reason), 2));
    }
    text
}
