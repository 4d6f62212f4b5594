//! `vitreous data show`: images of a data set as a figure, or in the terminal.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::evaluate::SplitArg;
use super::half_blocks::{Cell, Colors, draw};
use super::plots::{ThemeArg, check_figure, save_figure};
use super::presets::is_preset;
use super::reading::watched;
use super::runs::run_folder;
use super::screen::{sentence, stdout_columns};
use super::settings::{SettingsArgs, is_known};
use super::{CliError, json, show, show_as_is};
use crate::config::augment::AugmentSpec;
use crate::config::model::Task;
use crate::data::SplitName;
use crate::experiment::{CLASSES_MAX, Sample, Samples, SamplesOptions, View, samples};
use crate::numbers;
use crate::record::is_run;

/// Most images of a figure.
const COUNT_MAX: usize = 400;

/// Images that are shown unasked: plain ones, and those of which more than the image is shown.
const COUNT: usize = 9;
const COUNT_WITH_MORE: usize = 4;

#[derive(clap::Args)]
pub struct ShowArgs {
    /// Data set, folder, preset or run
    #[arg(value_name = "NAME|FOLDER", conflicts_with_all = ["data", "preset", "run"])]
    start: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Show the images of the run in this folder
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["preset", "config", "model", "data"])]
    run: Option<PathBuf>,
    /// Number of images, or with --by-class of images per class [default: 9; with --augmented or --patches 4, or 1 per
    /// class]
    #[arg(long, value_name = "N", value_parser = count)]
    count: Option<usize>,
    /// Show images of each class, class by class
    #[arg(long)]
    by_class: bool,
    /// Show each image and its augmentation in the first epochs, exactly as training gets it
    #[arg(long, conflicts_with = "patches")]
    augmented: bool,
    /// Show each image and the patches that the model reads
    #[arg(long)]
    patches: bool,
    /// Split of the images
    #[arg(long, value_name = "SPLIT", default_value = "train")]
    split: SplitArg,
    /// Seed: it chooses the images, and is that of the training for --augmented [default: the config's]
    #[arg(long, value_name = "N")]
    seed: Option<usize>,
    /// Skip images that cannot be decoded
    #[arg(long)]
    skip_bad_images: bool,
    /// Save the images as a figure: a file that ends in .png, .svg or .pdf
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Colors of the figure [default: light]
    #[arg(long, value_name = "NAME", requires = "output")]
    plot_theme: Option<ThemeArg>,
    /// Print the names of the images as one JSON object
    #[arg(long)]
    json: bool,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    title: &'a str,
    /// Of the split.
    total: usize,
    images: Vec<Shown<'a>>,
}

#[derive(Serialize)]
struct Shown<'a> {
    image: &'a str,
    label: &'a str,
}

fn count(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=COUNT_MAX).contains(number));
    number.ok_or_else(|| format!("use 1 to {COUNT_MAX}"))
}

/// Runs the command.
pub fn run(mut args: ShowArgs) -> Result<(), CliError> {
    let how = if args.json { None } else { Some(destination(&args)?) };
    if let Some(start) = args.start.take() {
        let folder = PathBuf::from(&start);
        match () {
            () if is_preset(&start) => args.settings.preset = Some(start),
            () if !is_known(&start) && is_run(&folder) => args.run = Some(folder),
            () => args.settings.data = Some(start),
        }
    }
    if let Some(run) = &args.run {
        args.settings.config = Some(run_folder(run, Path::new("runs"))?.join("config.toml"));
    }
    let seed = [("train.seed", args.seed, "--seed")];
    let mut layers_args = args.settings.clone();
    if args.skip_bad_images {
        layers_args.set.push("data.skip_bad_images=true".to_string());
    }
    let checked = layers_args.checked(&seed)?;
    let config = checked.config();
    let view = match () {
        () if args.augmented => View::Augmented,
        () if args.patches => View::Tokens,
        () => View::Plain,
    };
    let split = SplitName::from(args.split);
    if view == View::Augmented && split != SplitName::Train {
        let hint = Some("leave out --split, or --augmented".to_string());
        return Err(CliError::user(format!("images of the {split} split are not augmented (--augmented)"), hint));
    }
    if view == View::Augmented && config.augment == AugmentSpec::default() {
        let hint = "use a preset with augmentation, such as photos, or add --set augment.horizontal_flip=0.5";
        return Err(CliError::user("the config has no augmentation (--augmented)", Some(hint.to_string())));
    }
    if args.by_class && config.model.kind().task() == Task::ReadStrips {
        let hint = Some("leave out --by-class".to_string());
        return Err(CliError::user("strips have no classes (--by-class)", hint));
    }
    let default = match (view, args.by_class) {
        (View::Plain, _) => COUNT,
        (_, false) => COUNT_WITH_MORE,
        (_, true) => 1,
    };
    let count = args.count.unwrap_or(default);
    let options = SamplesOptions { split, count, by_class: args.by_class, view };
    let Some(found) = watched(|listener| samples(&checked, options, listener))? else {
        let kind = config.model.kind().name();
        let hint = Some("use a preset with patches, such as mnist-vit".to_string());
        return Err(CliError::user(format!("a model of kind {kind} reads no patches (--patches)"), hint));
    };
    if args.count.is_some_and(|count| !args.by_class && count > found.images.len()) {
        let all = numbers::count(found.total as u64);
        say!("note: all {all} images of the {split} split are shown (--count {count})");
    }
    if found.left_out > 0 {
        let left = numbers::counted(found.left_out, "more class");
        say!("note: the first {CLASSES_MAX} classes are shown; {left} (--classes)");
    }
    if let Some(path) = &args.output {
        let figure = found.figure(ThemeArg::style_of(args.plot_theme));
        save_figure(&figure.ok_or_else(|| CliError::failure("there is no image to show", None))?, path, "--output")?;
    }
    match (args.json, how) {
        (true, _) | (_, None) => {
            let images = found.images.iter().map(|Sample { image, label, .. }| Shown { image, label }).collect();
            let file = args.output.as_ref().map(|path| path.to_string_lossy().into_owned());
            show(&json(&Answer { file, title: &found.title, total: found.total, images }))
        }
        (_, Some(Destination::File(path))) => {
            show(&line!("{}: {} ({})", path.display(), found.title, numbers::counted(found.images.len(), "image")))
        }
        (_, Some(Destination::Terminal(colors, columns))) => {
            show(&sentence(&format!("{}: {}", found.title, found.below)))?;
            show_as_is(&draw(&rows(&found), columns, colors))
        }
    }
}

/// Where the images go.
enum Destination {
    File(PathBuf),
    Terminal(Colors, usize),
}

/// Checks before anything is read that the images can be shown.
fn destination(args: &ShowArgs) -> Result<Destination, CliError> {
    if let Some(path) = &args.output {
        check_figure(path, "--output")?;
        return Ok(Destination::File(path.clone()));
    }
    let save = || Some("save a figure with --output samples.png".to_string());
    let columns = stdout_columns().filter(|_| std::io::stdout().is_terminal());
    let Some(columns) = columns else {
        return Err(CliError::user("images are drawn in a terminal only, and stdout is not one", save()));
    };
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is = |name: &str, value: &str| std::env::var_os(name).is_some_and(|found| found == value);
    if is_set("NO_COLOR") {
        return Err(CliError::user("images are drawn in color, and NO_COLOR is set", save()));
    }
    if is("TERM", "dumb") {
        return Err(CliError::user("images are drawn in color, and TERM is dumb", save()));
    }
    let colors = if is("COLORTERM", "truecolor") || is("COLORTERM", "24bit") { Colors::All } else { Colors::Some256 };
    Ok(Destination::Terminal(colors, columns))
}

/// The images as rows of cells.
fn rows(found: &Samples) -> Vec<Vec<Cell<'_>>> {
    fn plain(sample: &Sample) -> Cell<'_> {
        Cell::picture(&sample.picture, &sample.label)
    }
    fn augmented(sample: &Sample) -> Vec<Cell<'_>> {
        let draws = (1..).zip(&sample.others).map(|(n, draw)| Cell::picture(draw, &format!("epoch {n}")));
        std::iter::once(plain(sample)).chain(draws).collect()
    }
    fn tokens(sample: &Sample, across: usize) -> Vec<Cell<'_>> {
        let label = numbers::counted(sample.others.len(), "token");
        vec![plain(sample), Cell::tokens(&sample.others, across, &label)]
    }
    match found.view {
        View::Augmented => found.images.iter().map(augmented).collect(),
        View::Tokens => found.images.iter().map(|sample| tokens(sample, found.across)).collect(),
        View::Plain if found.rows.is_empty() => {
            found.images.chunks(found.columns()).map(|row| row.iter().map(plain).collect()).collect()
        }
        View::Plain => {
            let mut images = found.images.iter();
            let row = |(_, count): &(String, usize)| images.by_ref().take(*count).map(plain).collect();
            found.rows.iter().map(row).collect()
        }
    }
}
