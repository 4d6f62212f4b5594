//! What a report says of an evaluation: figures, mistakes and scores.

use super::{Words, card, evaluate, interval, picture, table};
use crate::advice::{Argument, Command, Note, Suggestion};
use crate::data::SplitName;
use crate::evaluate::{ClassScores, Reached, Report as Evaluation, Scores};
use crate::numbers;
use crate::plots::evaluation_figures;
use crate::record::Run;
use crate::report::{Drawing, Part, Section, Table};

/// An evaluation: figures, mistakes and scores.
pub fn evaluation(run: &Run, name: &str, report: &Evaluation, words: &Words) -> Section {
    let split = if report.split == SplitName::Validation { "validation".to_string() } else { report.split.to_string() };
    let title = match name.ends_with("-last") {
        true => format!("Evaluation: {split} images, last weights"),
        false => format!("Evaluation: {split} images"),
    };
    let mut command = evaluate(run);
    if report.split != SplitName::Test {
        command = command.with(Argument::Split, if split == "validation" { "val" } else { split.as_str() });
    }
    if name.ends_with("-last") {
        command = command.with(Argument::Weights, "last");
    }
    let mut parts = Vec::new();
    let loss = format!("loss {:.4}", report.reached.loss());
    match &report.reached {
        Reached::Classes(scores) => {
            let of = |part: f64| numbers::percent(part);
            let mut cards = vec![
                card("Accuracy", of(scores.top1), interval(scores.top1_interval)),
                card("Top-5 accuracy", of(scores.top5), loss),
                card("Mean F1", of(scores.f1_mean), "over the classes".to_string()),
            ];
            cards.extend(scores.calibration.as_ref().map(|found| {
                let error = of(found.expected_calibration_error);
                card("Calibration error", error, "expected, 15 bins".to_string())
            }));
            parts.push(Part::Cards { cards });
        }
        Reached::Reading(scores) => {
            let exact =
                card("Exact matches", numbers::percent(scores.exact_match), interval(scores.exact_match_interval));
            let digits = card("Digit accuracy", numbers::percent(scores.digit_accuracy), loss);
            parts.push(Part::Cards { cards: vec![exact, digits] });
        }
    }
    parts.extend(report.note.iter().map(|note| Part::Warning { text: note.clone() }));
    let figures = Drawing::all(|theme| evaluation_figures(report, name, theme));
    parts.extend(figures.map(|(_, drawing)| Part::Figure { drawing }));
    if let Reached::Classes(scores) = &report.reached {
        parts.push(Part::Table(class_table(scores)));
        if scores.calibration.is_none() {
            parts.push(again(&command, "an earlier version evaluated this run: no calibration", words));
        }
    }
    match picture(run, &format!("mistakes-{name}"), "The most confident mistakes") {
        _ if report.reached.accuracy() == 1.0 => parts.push(Part::Text { text: "There are no mistakes.".to_string() }),
        Some(drawing) => parts.push(Part::Figure { drawing }),
        None => parts.push(again(&command, "no picture of the mistakes was made", words)),
    }
    Section { title, command: Some((words.command)(&command)), parts }
}

fn again(command: &Command, what: &str, words: &Words) -> Part {
    let note = Note::new(what).suggest(Suggestion::new().text("make it with").run(command.clone()));
    Part::Missing { text: (words.note)(&note) }
}

fn class_table(scores: &Scores) -> Table {
    let some = |part: Option<f64>| part.map_or("-".to_string(), numbers::percent);
    let row = |one: &ClassScores| {
        vec![one.name.clone(), numbers::count(one.support), some(one.precision), some(one.recall), some(one.f1)]
    };
    let rows = scores.classes.iter().map(row).collect();
    let columns = ["Class", "Images", "Precision", "Recall", "F1"];
    Table { is_folded: scores.classes.len() > 20, ..table("Scores of each class", &columns, &[1, 2, 3, 4], rows) }
}
