//! Plots of runs that exist, made of their folders alone: those that need images are left out.

use std::path::{Path, PathBuf};

use super::ExperimentError;
use crate::compare::{Comparison, Row};
use crate::config::layers::Layers;
use crate::config::model::ImageFacts;
use crate::evaluate::Report;
use crate::numbers;
use crate::plot::curves::{RUNS, curves_of_runs};
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
    for (name, figure) in comparison_figures(comparison, choice.theme) {
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

/// The plots of a comparison, with their names.
pub fn comparison_figures(comparison: &Comparison, theme: Theme) -> Vec<(&'static str, Figure)> {
    let measure = comparison.ranked_by;
    // Accuracies of other images say nothing of these.
    let images = comparison.rows.first().map(|row| measure.images(&row.settings));
    let alike = comparison.rows.iter().filter(|row| Some(measure.images(&row.settings)) == images);
    let rows: Vec<&Row> = alike.filter(|row| measure.of(row).is_some()).collect();
    let of_cost = |cost: &dyn Fn(&Row) -> Option<f64>| -> Vec<Setting> {
        let setting = |row: &&Row| {
            let accuracy = measure.of(row)?;
            let several = (accuracy.n > 1).then_some([accuracy.min, accuracy.max]);
            Some(Setting {
                name: if accuracy.n > 1 { format!("{} ({} runs)", row.name, accuracy.n) } else { row.name.clone() },
                accuracy: accuracy.mean,
                interval: several.or(measure.interval(row)),
                runs: several.map_or(Vec::new(), Vec::from),
                cost: cost(row),
            })
        };
        rows.iter().filter_map(setting).collect()
    };
    let parameters = of_cost(&|row| Some(row.parameters as f64));
    let times = of_cost(&|row| Some(row.seconds?.mean));
    let split = measure.split();
    let title = |what: &str| format!("{} accuracy {what}", numbers::capital(&split.to_string()));
    let below = "lines are 95 % intervals; of several runs, from the lowest to the highest";
    // Of several seeds, the first.
    let name = |row: &Row| match row.seeds[..] {
        [first, _, ..] => format!("{} (seed {first})", row.name),
        _ => row.name.clone(),
    };
    let records = rows.iter().take(RUNS).filter_map(|row| record_and_marks(row.folders.first()?, &name(row)).ok());
    let records: Vec<_> = records.collect();
    let style = theme.style();
    let several = |count: usize| title(&format!("of {}", numbers::counted(count, "setting")));
    let figures = [
        ("curves", curves_of_runs(&records, style)),
        ("settings", settings(&parameters, &several(parameters.len()), below, style)),
        ("accuracy-parameters", scatter(&parameters, [&title("against parameters"), below, "Parameters"], style)),
        ("accuracy-time", scatter(&times, [&title("against training time"), below, "Training time (s)"], style)),
    ];
    figures.into_iter().filter_map(|(name, figure)| Some((name, figure?))).collect()
}
