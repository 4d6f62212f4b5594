//! The plots of an evaluation: confusion matrix, mistakes, calibration, scores of each class.

use super::images::picture;
use super::{Files, PlotChoice, remove_files};
use crate::data::{ImageSet, SplitName, digits_text};
use crate::evaluate::{Answers, CalibrationBin, Reached, Report, Scores, wilson_interval};
use crate::numbers;
use crate::plot::calibration::{Bin, calibration};
use crate::plot::confusion::confusion;
use crate::plot::font::width;
use crate::plot::per_class::{ClassRow, per_class};
use crate::plot::pictures::{Grid, Labelled, WIDE_COLUMNS, WIDE_SIDE, grid};
use crate::plot::style::TICK;
use crate::plot::{Figure, Theme};
use crate::record::{RecordError, Run};
use crate::text::{last_part, short_name};

/// Mistakes that are shown.
const MISTAKES: usize = 20;

/// Plots that follow from a report alone.
const PLOTS_OF_A_REPORT: [&str; 3] = ["confusion", "per-class", "calibration"];

/// Removes the plots of an earlier evaluation whose files were in that folder; returns whether there were any.
pub fn remove_plots(run: &Run, name: &str) -> bool {
    let plots = PLOTS_OF_A_REPORT.iter().chain(&["mistakes"]);
    plots.filter(|what| remove_files(run, format!("{what}-{name}"))).count() > 0
}

/// Draws the plots of an evaluation whose files are in the folder `evaluation/<name>`, and returns the names of the
/// files. Without the images and the answers, the mistakes are left out.
///
/// # Errors
/// When they cannot be written.
pub fn draw_evaluation(
    run: &Run,
    name: &str,
    report: &Report,
    seen: Option<(&Answers, &dyn ImageSet)>,
    choice: &PlotChoice,
) -> Result<Vec<String>, RecordError> {
    let mut files = Files::open(run, choice)?;
    let figures = evaluation_figures(report, name, choice.theme);
    for what in PLOTS_OF_A_REPORT {
        let name = format!("{what}-{name}");
        let figure = figures.iter().find(|(found, _)| *found == name).map(|(_, figure)| figure.clone());
        files.write(name, |_| figure)?;
    }
    if let Some((answers, set)) = seen {
        let names = match &report.reached {
            Reached::Classes(scores) => scores.confusion.names(),
            Reached::Reading(_) => &[],
        };
        let mistakes = mistakes(answers, set, names, report);
        files.write(format!("mistakes-{name}"), |style| grid(&mistakes, style))?;
    }
    Ok(files.written)
}

/// The plots that follow from a report alone, with their names, which end in that of the evaluation.
pub fn evaluation_figures(report: &Report, name: &str, theme: Theme) -> Vec<(String, Figure)> {
    let Reached::Classes(scores) = &report.reached else { return Vec::new() };
    let (style, images) = (theme.style(), images_of(report));
    let calibration = scores.calibration.as_ref().and_then(|found| {
        let bin = |bin: &CalibrationBin| Bin {
            from: bin.from,
            to: bin.to,
            images: bin.images,
            confidence: bin.confidence.unwrap_or(0.0),
            accuracy: bin.accuracy.unwrap_or(0.0),
        };
        let bins: Vec<Bin> = found.bins.iter().map(bin).collect();
        calibration(&bins, found.expected_calibration_error, &images, style)
    });
    let figures = [
        ("confusion", scores.confusion.outcome(images.clone()).and_then(|outcome| confusion(&outcome, style))),
        ("per-class", per_class(&class_rows(scores), &images, style)),
        ("calibration", calibration),
    ];
    figures.into_iter().filter_map(|(what, figure)| Some((format!("{what}-{name}"), figure?))).collect()
}

/// Which images were evaluated, in words.
fn images_of(report: &Report) -> String {
    let data = short_name(&report.data);
    let split = if report.split == SplitName::All { String::new() } else { format!("{} ", report.split) };
    let of = |count: u64, what: &str| format!("{} {split}{what} of {data}", numbers::count(count));
    match &report.reached {
        Reached::Classes(scores) => of(scores.images, "images"),
        Reached::Reading(scores) => of(scores.strips, "strips"),
    }
}

fn class_rows(scores: &Scores) -> Vec<ClassRow> {
    let row = |(class, one): (usize, &crate::evaluate::ClassScores)| ClassRow {
        name: one.name.clone(),
        images: one.support,
        precision: one.precision,
        recall: one.recall,
        interval: wilson_interval(scores.confusion.count(class, class), scores.confusion.support(class)),
        f1: one.f1,
    };
    scores.classes.iter().enumerate().map(row).collect()
}

/// The wrong answers with the highest probabilities.
fn mistakes(answers: &Answers, set: &dyn ImageSet, class_names: &[String], report: &Report) -> Grid {
    let (images, split) = (images_of(report), report.split);
    // Image, what the model said, and how sure it was.
    let mut wrong: Vec<(usize, String, f64)> = match answers {
        Answers::Classes(all) => {
            let wrong = all.iter().enumerate().filter(|(_, one)| one.label != one.prediction);
            wrong.map(|(i, one)| (i, class_names[one.prediction].clone(), one.probability)).collect()
        }
        Answers::Readings { truths, readings } => {
            let wrong =
                truths.iter().zip(readings).enumerate().filter(|(_, (truth, reading))| **truth != reading.digits);
            wrong.map(|(i, (_, reading))| (i, digits_text(&reading.digits), reading.probability)).collect()
        }
    };
    let all = wrong.len();
    wrong.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
    wrong.truncate(MISTAKES);
    let truth = |index: usize| match (answers, set.answer(index)) {
        // By the model's table of classes, which may have another order than the data's.
        (Answers::Classes(all), _) => class_names[all[index].label].clone(),
        (_, answer) => answer.name(class_names),
    };
    let is_wide = wrong.first().is_some_and(|(index, ..)| picture(set, *index).is_wide());
    let (columns, side) = if is_wide { (WIDE_COLUMNS, WIDE_SIDE) } else { (5, 96.0) };
    // One line, unless a name is too long.
    let line = |index: usize, said: &str| format!("true {}, predicted {said}", truth(index));
    let has_room = |text: &str| is_wide || width(text, TICK, false) <= side;
    let is_short = wrong.iter().all(|(index, said, _)| has_room(&line(*index, said)));
    let labelled = |(index, said, probability): &(usize, String, f64)| {
        let mut lines = match is_short {
            true => vec![line(*index, said)],
            false => vec![format!("true {}", truth(*index)), format!("predicted {said}")],
        };
        lines.push(format!("{:.1} % sure", probability * 100.0));
        // Only a file's name has a place.
        let name = set.split().map_or_else(|| format!("{split}/{index}"), |split| split.image_name(*index));
        lines.push(if has_room(&name) { name } else { last_part(&name) });
        Labelled { picture: picture(set, *index), lines }
    };
    Grid {
        title: match wrong.len() {
            shown if shown < all => format!("The {shown} most confident of {} mistakes", numbers::count(all as u64)),
            _ => numbers::counted(all, "mistake"),
        },
        below: format!("{images}; below each: true and predicted class, how sure the model was, and the image"),
        columns,
        side,
        row_names: Vec::new(),
        pictures: wrong.iter().map(labelled).collect(),
    }
}
