//! Plots of runs that exist, made of their folders alone: those that need images are left out.

use std::path::{Path, PathBuf};

use super::{ExperimentError, saved_config};
use crate::compare::{Comparison, Group, Measure, Row};
use crate::evaluate::Report;
use crate::numbers;
use crate::plot::accuracies::{Setting, accuracies, scatter};
use crate::plot::curves::{Marks, RUNS, Record, curves_of_runs};
use crate::plot::{Figure, Theme};
use crate::plots::{PlotChoice, draw_evaluation, draw_training, record_and_marks};
use crate::record::{RecordError, Run, write_atomically};
use crate::text::short_name;

/// Longest end of a figure's name, in characters.
const ENDING_MAX: usize = 60;

/// Makes the plots of a run again, and returns the names of their files in its folder.
///
/// # Errors
/// When it is not a run, or its folder cannot be read or written.
pub fn plot(folder: &Path, choice: &PlotChoice) -> Result<Vec<String>, ExperimentError> {
    let run = Run::open(folder)?;
    let (checked, resolved) = saved_config(&run)?;
    let mut files = draw_training(&run, resolved.map(|config| config.model), checked.config().train.keep, choice)?;
    for found in Report::all_kept(run.folder()) {
        let (name, report) = found?;
        files.extend(draw_evaluation(&run, &name, &report, None, choice)?);
    }
    Ok(files)
}

/// Plots a comparison into a folder, which is made: of each data set the curves of its first runs, accuracies with
/// intervals, and accuracy against parameters and training time. Returns the files.
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
    for (name, figure) in by_data(comparison).iter().flat_map(|one| one.figures(choice.theme)) {
        let figure = choice.of(figure);
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

/// The rows of a comparison on one data set, as they are drawn: accuracies of other images say nothing of these.
pub struct OnData<'a> {
    /// The data in words.
    pub data: &'a str,
    /// What its runs recorded whose curves are drawn; of several seeds, the first.
    pub records: Vec<(Record, Marks)>,
    rows: Vec<&'a Row>,
    measure: Measure,
    /// The end of the figures' names.
    ending: String,
}

/// The rows of a comparison by their data, as many groups as there are.
pub fn by_data<'a>(comparison: &'a Comparison) -> Vec<OnData<'a>> {
    let mut endings: Vec<String> = Vec::new();
    for group in &comparison.groups {
        let is_plain = |c: char| c.is_alphanumeric() || c == '.';
        let words: Vec<&str> = group.data.split(|c| !is_plain(c)).filter(|word| !word.is_empty()).collect();
        let plain: String = words.join("-").chars().take(ENDING_MAX).collect();
        let mut numbered = (1..).map(|n| if n == 1 { format!("-{plain}") } else { format!("-{plain}-{n}") });
        endings.extend(numbered.find(|ending| !endings.contains(ending)));
    }
    let is_alone = comparison.groups.len() == 1;
    let of_group = |(group, ending): (&'a Group, String)| {
        let rows: Vec<&Row> = comparison.rows_of(group).collect();
        let name = |row: &Row| match row.seeds[..] {
            [first, _, ..] => format!("{} (seed {first})", row.name),
            _ => row.name.clone(),
        };
        let records = rows.iter().filter_map(|row| record_and_marks(row.folders.first()?, &name(row)).ok());
        let records = records.filter(|(record, _)| !record.is_empty()).take(RUNS).collect();
        let ending = if is_alone { String::new() } else { ending };
        OnData { data: &group.data, records, rows, measure: comparison.ranked_by, ending }
    };
    comparison.groups.iter().zip(endings).map(of_group).collect()
}

impl OnData<'_> {
    /// The figures with their names.
    pub fn figures(&self, theme: Theme) -> Vec<(String, Figure)> {
        let of_cost = |cost: &dyn Fn(&Row) -> Option<f64>| -> Vec<Setting> {
            let setting = |row: &&Row| {
                let accuracy = self.measure.of(row)?;
                let several = (accuracy.n > 1).then_some([accuracy.min, accuracy.max]);
                Some(Setting {
                    name: if accuracy.n > 1 { format!("{} ({} runs)", row.name, accuracy.n) } else { row.name.clone() },
                    accuracy: accuracy.mean,
                    interval: several.or(self.measure.interval(row)),
                    cost: cost(row),
                })
            };
            self.rows.iter().filter_map(setting).collect()
        };
        let parameters = of_cost(&|row| Some(row.parameters as f64));
        let times = of_cost(&|row| Some(row.seconds?.mean));
        let data = short_name(self.data);
        let split = numbers::capital(&self.measure.split().to_string());
        let title = |what: &str| format!("{split} accuracy on {data} {what}");
        let mut below = "lines are 95 % intervals".to_string();
        if self.rows.iter().any(|row| row.folders.len() > 1) {
            below.push_str("; of several runs, from the lowest to the highest");
        }
        let (below, style) = (below.as_str(), theme.style());
        let several = title(&format!("of {}", numbers::counted(parameters.len(), "setting")));
        let figures = [
            ("curves", curves_of_runs(&self.records, [&data, &self.of_all()], style)),
            ("settings", accuracies(&parameters, &several, below, style)),
            ("accuracy-parameters", scatter(&parameters, [&title("against parameters"), below, "Parameters"], style)),
            ("accuracy-time", scatter(&times, [&title("against training time"), below, "Training time (s)"], style)),
        ];
        figures.into_iter().filter_map(|(name, figure)| Some((format!("{name}{}", self.ending), figure?))).collect()
    }

    /// Which rows have curves, where these are not all.
    fn of_all(&self) -> String {
        match self.records.len() {
            shown if shown < self.rows.len() => format!("{shown} of {}", numbers::counted(self.rows.len(), "row")),
            _ => String::new(),
        }
    }
}
