//! Plots of runs that exist, made of their folders alone: those that need images are left out.

use std::path::{Path, PathBuf};

use super::ExperimentError;
use crate::compare::{Comparison, Row};
use crate::config::layers::Layers;
use crate::config::model::ImageFacts;
use crate::evaluate::Report;
use crate::numbers;
use crate::plot::curves::{Marks, RUNS, Record, curves_of_runs};
use crate::plot::settings::{Setting, scatter, settings};
use crate::plot::{Figure, Theme};
use crate::plots::{PlotChoice, draw_evaluation, draw_training, record_and_marks};
use crate::record::{RecordError, Run, write_atomically};

/// Makes the plots of a run again, and returns the names of their files in its folder.
///
/// # Errors
/// When it is not a run, or its folder cannot be read or written.
pub fn plot(folder: &Path, choice: &PlotChoice) -> Result<Vec<String>, ExperimentError> {
    let run = Run::open(folder)?;
    let mut layers = Layers::new();
    layers.add_file(&run.config_path())?;
    let config = layers.finish()?.config().clone();
    // The sizes that the data decides are written in a run's config.
    let sizes = [config.model.image_size(), config.model.channels(), config.model.num_classes()];
    let model = match sizes {
        [Some(image_size), Some(channels), Some(num_classes)] => {
            config.model.with_facts(ImageFacts { image_size, channels, num_classes }).ok()
        }
        _ => None,
    };
    let mut files = draw_training(&run, model, config.train.keep, choice)?;
    for found in Report::all_kept(run.folder()) {
        let (name, report) = found?;
        files.extend(draw_evaluation(&run, &name, &report, None, choice)?);
    }
    Ok(files)
}

/// Plots a comparison into a folder, which is made: curves of its first runs, accuracies with intervals, and accuracy
/// against parameters and training time. Returns the files.
///
/// # Errors
/// When the folder cannot be written.
pub fn plot_comparison(
    comparison: &Comparison,
    folder: &Path,
    choice: &PlotChoice,
) -> Result<Vec<PathBuf>, RecordError> {
    std::fs::create_dir_all(folder).map_err(|error| RecordError::write(folder, &error))?;
    let mut files = Vec::new();
    let records = comparison_records(comparison);
    for (name, figure) in comparison_figures(comparison, &records, choice.theme) {
        for &format in &choice.formats {
            let path = folder.join(format!("{name}.{format}"));
            // A figure that is too large to be drawn as pixels is still there as SVG.
            let Ok(bytes) = figure.file(format) else { continue };
            write_atomically(&path, &bytes)?;
            files.push(path);
        }
    }
    Ok(files)
}

/// The rows that are drawn, and how many are left out: accuracies of other images say nothing of these.
fn drawn(comparison: &Comparison) -> (Vec<&Row>, usize) {
    let measure = comparison.ranked_by;
    let measured: Vec<&Row> = comparison.rows.iter().filter(|row| measure.of(row).is_some()).collect();
    let images = measured.first().map(|row| measure.images(&row.settings));
    let alike = measured.iter().copied().filter(|row| Some(measure.images(&row.settings)) == images);
    let alike: Vec<&Row> = alike.collect();
    let left_out = measured.len() - alike.len();
    (alike, left_out)
}

/// What the runs of a comparison recorded whose curves are drawn; of several seeds, the first.
pub fn comparison_records(comparison: &Comparison) -> Vec<(Record, Marks)> {
    let name = |row: &Row| match row.seeds[..] {
        [first, _, ..] => format!("{} (seed {first})", row.name),
        _ => row.name.clone(),
    };
    let (rows, _) = drawn(comparison);
    let records = rows.iter().filter_map(|row| record_and_marks(row.folders.first()?, &name(row)).ok());
    records.filter(|(record, _)| !record.is_empty()).take(RUNS).collect()
}

/// The plots of a comparison and of what its runs recorded, with their names.
pub fn comparison_figures(
    comparison: &Comparison,
    records: &[(Record, Marks)],
    theme: Theme,
) -> Vec<(&'static str, Figure)> {
    let measure = comparison.ranked_by;
    let (rows, left_out) = drawn(comparison);
    let of_cost = |cost: &dyn Fn(&Row) -> Option<f64>| -> Vec<Setting> {
        let setting = |row: &&Row| {
            let accuracy = measure.of(row)?;
            let several = (accuracy.n > 1).then_some([accuracy.min, accuracy.max]);
            Some(Setting {
                name: if accuracy.n > 1 { format!("{} ({} runs)", row.name, accuracy.n) } else { row.name.clone() },
                accuracy: accuracy.mean,
                interval: several.or(measure.interval(row)),
                cost: cost(row),
            })
        };
        rows.iter().filter_map(setting).collect()
    };
    let parameters = of_cost(&|row| Some(row.parameters as f64));
    let times = of_cost(&|row| Some(row.seconds?.mean));
    let split = measure.split();
    let title = |what: &str| format!("{} accuracy {what}", numbers::capital(&split.to_string()));
    let mut below = "lines are 95 % intervals".to_string();
    if rows.iter().any(|row| row.folders.len() > 1) {
        below.push_str("; of several runs, from the lowest to the highest");
    }
    if left_out > 0 {
        let left_out = numbers::counted(left_out, "setting");
        below.push_str(&format!("; {left_out} with other images left out"));
    }
    let below = below.as_str();
    let style = theme.style();
    let several = |count: usize| title(&format!("of {}", numbers::counted(count, "setting")));
    let figures = [
        ("curves", curves_of_runs(records, style)),
        ("settings", settings(&parameters, &several(parameters.len()), below, style)),
        ("accuracy-parameters", scatter(&parameters, [&title("against parameters"), below, "Parameters"], style)),
        ("accuracy-time", scatter(&times, [&title("against training time"), below, "Training time (s)"], style)),
    ];
    figures.into_iter().filter_map(|(name, figure)| Some((name, figure?))).collect()
}
