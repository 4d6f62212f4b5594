//! `vitreous compare`: prints a table of runs.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::advice::Context;
use super::plots::FormatArgs;
use super::runs::{RUNS, run_folder};
use super::screen::{sentence, table};
use super::{CliError, json, show};
use crate::advice::{Note, Verb};
use crate::compare::{Against, Comparison, LeftOut, Measure, Sheet, folders, read};
use crate::experiment::{ExperimentError, plot_comparison};
use crate::{numbers, text};

/// Compares runs: settings that differ, cost and accuracy
#[derive(clap::Args)]
pub struct Args {
    /// Runs, or folders of runs: their folders, such as runs/*, or their names under runs/
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Format of the table
    #[arg(long, value_name = "NAME", default_value = "terminal")]
    format: Format,
    /// Sort by run, model, parameters, flops, time, train, val, test, or a setting such as lr [default: best first; csv
    /// and json: order of the arguments]
    #[arg(long, value_name = "KEY")]
    sort: Option<String>,
    /// Reverse the order
    #[arg(long, requires = "sort")]
    reverse: bool,
    /// Accuracy by which runs are ranked and compared
    #[arg(long, value_name = "SPLIT", default_value = "val")]
    by: By,
    /// Run to compare the others with [default: the best]
    #[arg(long, value_name = "RUN")]
    against: Option<String>,
    /// Print one row per run, even if runs differ only in the seed
    #[arg(long)]
    each: bool,
    /// Make plots in this folder: curves, accuracies with intervals, accuracy against parameters and time
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
    #[command(flatten)]
    how: FormatArgs,
    /// Print one JSON object: --format json
    #[arg(long)]
    json: bool,
}

/// The split by whose accuracies runs are ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Validation images: use them to choose between runs
    #[value(alias = "validation")]
    Val,
    /// Test images: an accuracy that was used to choose a run is too high on average
    Test,
}

impl From<By> for Measure {
    fn from(by: By) -> Measure {
        match by {
            By::Val => Measure::Validation,
            By::Test => Measure::Test,
        }
    }
}

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for the screen
    Terminal,
    /// A Markdown table
    Markdown,
    /// Comma-separated values, with every figure
    Csv,
    /// One JSON object, with every figure
    Json,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), CliError> {
    if args.plots.is_none() && args.how.is_given() {
        let hint = Some("add --plots FOLDER".to_string());
        return Err(CliError::user("no plots are made (--plot-formats, --plot-theme, --no-plot-titles)", hint));
    }
    let by = Measure::from(args.by);
    let format = if args.json { Format::Json } else { args.format };
    let is_json = format == Format::Json;
    let mut comparison = comparison(&args.runs, by, !args.each, is_json)?;
    comparison.hold_against(args.against.as_deref().map_or(Against::Best, Against::Named))?;
    // Programs get the order of the arguments.
    let best_first = matches!(format, Format::Terminal | Format::Markdown).then(|| by.flag().to_string());
    if let Some(key) = args.sort.or(best_first) {
        comparison.sort(&key, args.reverse)?;
    }
    print(&comparison, format, Verb::Compare)?;
    if let Some(folder) = &args.plots {
        let made = plot_comparison(&comparison, folder, &args.how.choice()).map_err(ExperimentError::from)?;
        say!("{} written to {}", numbers::counted(made.len(), "plot"), folder.display());
    }
    Ok(())
}

/// Reads runs and puts them side by side; with `group`, those that differ only in the seed are one row.
pub fn comparison(given: &[PathBuf], by: Measure, group: bool, is_json: bool) -> Result<Comparison, CliError> {
    // What is not found is left out of the table, with the reason.
    let found = |run: &PathBuf| run_folder(run, Path::new(RUNS)).unwrap_or_else(|_| run.clone());
    let (runs, left_out) = read(&folders(&given.iter().map(found).collect::<Vec<_>>()), by);
    if runs.is_empty() {
        left_out.iter().filter(|_| !is_json).for_each(|left| say!("{}", line(left)));
        let what = if left_out.len() == 1 {
            "this is not".to_string()
        } else {
            format!("none of {} folders is", left_out.len())
        };
        let hint = "name folders that `vitreous train` made, such as runs/*";
        let cause = |left: LeftOut| (left.folder.display().to_string(), CliError::user(left.reason, None));
        let error = CliError::user(format!("{what} a run that can be compared"), Some(hint.to_string()));
        return Err(error.because_of(left_out.into_iter().map(cause).collect()));
    }
    Ok(Comparison::new(runs, left_out, group, by))
}

/// Prints a comparison for a verb; what the format cannot contain goes to stderr.
pub fn print(comparison: &Comparison, format: Format, verb: Verb) -> Result<(), CliError> {
    let context = Context::of(verb, false);
    let written = |note: &Note| context.note(note);
    match format {
        Format::Json => show(&json(comparison)),
        Format::Csv => {
            show(&comparison.csv())?;
            comparison.left_out.iter().for_each(|left| say!("left out: {}", line(left)));
            Ok(())
        }
        Format::Markdown => {
            let mut text = Sheet::new(comparison).markdown(written);
            if !comparison.left_out.is_empty() {
                text.push_str("\nLeft out:\n\n");
                comparison.left_out.iter().for_each(|left| {
                    text.push_str(&format!("- {}\n", text::markdown(&line(left))));
                });
            }
            show(&text)
        }
        Format::Terminal => {
            let Sheet { lead, sections, notes } = Sheet::for_terminal(comparison);
            let list = |notes: &[Note]| notes.iter().map(|note| sentence(&written(note))).collect::<String>();
            let mut parts: Vec<String> = lead.map(sentence).into_iter().collect();
            for section in sections {
                let (rows, align) = section.table();
                let title = section.title.map_or_else(String::new, |title| sentence(&title));
                parts.push(title + &table(&rows, &align) + &list(&section.notes));
                if let Some(verdicts) = section.verdicts {
                    let (rows, align) = verdicts.table();
                    parts.push(sentence(&verdicts.title) + &table(rows, align) + &list(&verdicts.notes));
                }
            }
            parts.push(list(&notes));
            if !comparison.left_out.is_empty() {
                let left = comparison.left_out.iter().map(|left| sentence(&format!("  {}", line(left))));
                parts.push(format!("left out\n{}", left.collect::<String>()));
            }
            parts.retain(|part| !part.is_empty());
            show(&parts.join("\n"))
        }
    }
}

fn line(left: &LeftOut) -> String {
    format!("{}: {}", left.folder.display(), left.reason)
}
