//! Describes differences of accuracy: how large each is, and whether it is more than noise.

use super::noise::LEVEL;
use super::sheet::{CELL_MAX, accuracy, evaluate};
use super::{Basis, Comparison, Measure, Row, RowDifference};
use crate::advice::{Note, Suggestion};
use crate::layout::{Align, markdown_table};
use crate::numbers;
use crate::text::{markdown, shortened};

/// Differences of accuracy as people read them.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdicts {
    /// Against what.
    pub title: String,
    /// Run, difference, adjusted p, verdict and reason; the best first.
    pub rows: Vec<[String; 5]>,
    /// Notes below the table.
    pub notes: Vec<Note>,
}

impl Verdicts {
    /// Describes the differences of a comparison; empty before they are computed.
    pub fn new(comparison: &Comparison) -> Option<Verdicts> {
        let reference = comparison.rows.iter().find(|row| comparison.against.as_ref() == Some(&row.name))?;
        let by = comparison.ranked_by;
        let interval = by.interval(reference).map_or_else(String::new, |interval| {
            let [low, high] = interval.map(numbers::percent);
            format!(" (95 % interval {low} to {high})")
        });
        let known = comparison.rows.iter().filter(|row| by.of(row).is_some());
        let (own, other): (Vec<&Row>, Vec<&Row>) =
            known.partition(|row| by.images(&row.settings) == by.images(&reference.settings));
        let title = format!(
            "{by} against {}{}: {}{interval}",
            if comparison.best_of.is_some() { "the best, " } else { "" },
            reference.name,
            accuracy(by.of(reference), reference.seeds.len())
        );
        let mut held: Vec<(&Row, &RowDifference)> =
            comparison.rows.iter().filter_map(|row| Some((row, row.difference.as_ref()?))).collect();
        held.sort_by(|(_, a), (_, b)| b.mean.total_cmp(&a.mean));
        let rows = held.iter().map(|(row, difference)| line(row, reference, difference)).collect();
        let (left, other) = (own.len() - 1 - held.len(), other.len());
        Some(Verdicts { title, rows, notes: notes(comparison, reference, &held, left, other) })
    }

    /// The titles, then the rows, and the alignment of their cells.
    pub fn table(&self) -> (Vec<[String; 5]>, [Align; 5]) {
        let titles = ["run", "difference", "adjusted p", "verdict", "basis"].map(str::to_string);
        let [left, right] = [Align::Left, Align::Right];
        ([vec![titles], self.rows.clone()].concat(), [left, right, left, left, Align::Wrap])
    }

    /// Writes a Markdown table below its title; `note` writes a note.
    pub fn markdown(&self, note: impl Fn(&Note) -> String) -> String {
        let mut title = self.title.chars();
        let first = title.next().into_iter().flat_map(char::to_uppercase);
        let (rows, align) = self.table();
        let mut text = format!("{}\n\n", markdown(&first.chain(title).collect::<String>()));
        text.push_str(&markdown_table(&rows, &align));
        text.push('\n');
        self.notes.iter().for_each(|each| text.push_str(&format!("- {}\n", markdown(&note(each)))));
        text
    }
}

fn line(row: &Row, reference: &Row, difference: &RowDifference) -> [String; 5] {
    let verdict = match difference.within_noise {
        Some(true) => "within noise",
        Some(false) => "more than noise",
        None => "unknown",
    };
    let why = match &difference.basis {
        Basis::SameImages { images, only_own_right, only_other_right, .. } => {
            let [images, own, other] = [images, only_own_right, only_other_right].map(|n| numbers::count(*n));
            let [name, against] = [row, reference].map(|row| shortened(&row.name, CELL_MAX));
            format!("of {images} images, correct only in {name}: {own}, only in {against}: {other}")
        }
        Basis::Seeds { interval, .. } => {
            let [low, high] = interval.map(|x| format!("{:+.2}", 100.0 * x));
            format!("seeds: 95 % interval {low} to {high} points (not adjusted)")
        }
        Basis::Unknown { reason } => reason.what.clone(),
    };
    let points = format!("{:+.2} points", 100.0 * difference.mean);
    let p = difference.p_adjusted.map_or("-".to_string(), |p| probability(p).replace("p = ", "").replace("p ", ""));
    [shortened(&row.name, CELL_MAX), points, p, verdict.to_string(), why]
}

/// Writes a p value: `p = 0.0432`, or `p < 0.0001`.
pub fn probability(p: f64) -> String {
    match p {
        p if p < 0.0001 => "p < 0.0001".to_string(),
        p if p < 0.1 => format!("p = {p:.4}"),
        p => format!("p = {p:.2}"),
    }
}

fn notes(
    comparison: &Comparison,
    reference: &Row,
    held: &[(&Row, &RowDifference)],
    left: usize,
    other: usize,
) -> Vec<Note> {
    let mut notes = Vec::new();
    // Rows share a reason where it is about the one that they are compared with; one command is enough as an example.
    let missing = held.iter().find_map(|(_, difference)| match &difference.basis {
        Basis::Unknown { reason } if reason.suggestion.is_some() => Some(reason.clone()),
        _ => None,
    });
    notes.extend(missing);
    if held.iter().any(|(_, difference)| matches!(difference.basis, Basis::SameImages { .. })) {
        let text = "for two single runs, p is the probability of a difference at least this large if both had the same \
                    accuracy (McNemar's test on the same images). It is about these weights: another seed may change it";
        notes.push(Note::new(text));
    }
    if held.iter().any(|(_, difference)| matches!(difference.basis, Basis::Seeds { .. })) {
        let text = "over seeds, p is the probability of a difference at least this large if both settings had the same mean \
                    accuracy (Student's t-test)";
        notes.push(Note::new(text));
    }
    notes.push(Note::new(match (comparison.comparisons, comparison.best_of) {
        (Some(many @ 2..), best_of) => {
            let why = match best_of {
                Some(rows) => format!("the best was chosen from {rows} rows, which makes {many} pairs"),
                None => "one for each other row".to_string(),
            };
            let many = numbers::count(many as u64);
            format!(
                "more than noise: adjusted p below {LEVEL}. Holm's method adjusts p for {many} comparisons ({why}): if all \
                 rows were equally accurate, at most one such table in 20 would have a p below {LEVEL}"
            )
        }
        _ => format!("more than noise: p below {LEVEL}"),
    }));
    if comparison.best_of.is_some() {
        let by = comparison.ranked_by;
        let too_high = format!("the best was chosen by its {by}, which is therefore too high on average");
        notes.push(match by {
            Measure::Validation if reference.test_acc.is_some() => {
                Note::new(format!("{too_high}: its test accuracy was not used to choose anything"))
            }
            Measure::Validation => {
                let measure = Suggestion::new().text("measure it on the test split with");
                Note::new(too_high).suggest(measure.run(evaluate(reference)))
            }
            Measure::Test => Note::new(format!("{too_high}: no unseen images are left to measure it")),
        });
    }
    let rows = |n: usize| format!("{} {}", numbers::counted(n, "more row"), if n == 1 { "is" } else { "are" });
    if left > 0 {
        notes.push(Note::new(format!("{} further away and not tested: name fewer runs", rows(left))));
    }
    if other > 0 {
        notes.push(Note::new(format!("{} measured on other data: compare these by themselves", rows(other))));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::super::{Spread, testing};
    use super::*;

    fn row(name: &str, test: &[f64], difference: Option<(f64, Basis)>) -> Row {
        Row {
            seeds: (0..test.len() as u64).collect(),
            test_acc: Spread::of(test),
            test_acc_interval: (test.len() == 1).then_some([0.5, 0.875]),
            difference: difference.map(|(mean, basis)| RowDifference {
                mean,
                within_noise: basis.p().map(|p| 10.0 * p >= LEVEL),
                p_adjusted: basis.p().map(|p| (10.0 * p).min(1.0)),
                basis,
            }),
            ..testing::row(name)
        }
    }

    /// As if each p had been adjusted for ten comparisons.
    fn verdicts(rows: Vec<Row>, best_of: Option<usize>, comparisons: usize) -> Option<Verdicts> {
        let (against, comparisons) = (Some("a".to_string()), Some(comparisons));
        Verdicts::new(&Comparison { against, best_of, comparisons, ..testing::comparison(rows) })
    }

    #[test]
    fn each_difference_is_a_line_and_the_best_comes_first() {
        let images =
            |p, own, other| Basis::SameImages { p, images: 10_000, only_own_right: own, only_other_right: other };
        let rows = vec![
            row("c|d", &[0.5], Some((-0.25, images(0.000_003, 7, 2_507)))),
            row("b", &[0.7375], Some((-0.0125, images(0.3, 100, 225)))),
            row("a", &[0.75], None),
            row("e", &[0.5, 0.6], Some((-0.2, Basis::Seeds { p: 0.004321, interval: [-0.3, -0.0125] }))),
            row("f", &[0.5], Some((-0.25, Basis::Unknown { reason: Note::new("not measured") }))),
            row("g", &[0.25], None),
            row("h", &[], None),
        ];
        let expected = "\
Test accuracy against the best, a: 75.00 % (95 % interval 50.00 % to 87.50 %)

| run | difference | adjusted p | verdict | basis |
| --- | ---: | --- | --- | --- |
| b | -1.25 points | 1.00 | within noise | of 10,000 images, correct only in b: 100, only in a: 225 |
| e | -20.00 points | 0.0432 | more than noise | seeds: 95 % interval -30.00 to -1.25 points (not adjusted) |
| c\\|d | -25.00 points | < 0.0001 | more than noise | of 10,000 images, correct only in c\\|d: 7, only in a: 2,507 |
| f | -25.00 points | - | unknown | not measured |

- for two single runs, p is the probability of a difference at least this large if both had the same accuracy \
(McNemar's test on the same images). It is about these weights: another seed may change it
- over seeds, p is the probability of a difference at least this large if both settings had the same mean accuracy \
(Student's t-test)
- more than noise: adjusted p below 0.05. Holm's method adjusts p for 10 comparisons (the best was chosen from 5 rows, \
which makes 10 pairs): if all rows were equally accurate, at most one such table in 20 would have a p below 0.05
- the best was chosen by its test accuracy, which is therefore too high on average: no unseen images are left to measure it
- 1 more row is further away and not tested: name fewer runs
";
        assert_eq!(verdicts(rows, Some(5), 10).unwrap().markdown(Note::to_string), expected);
    }

    #[test]
    fn the_one_that_was_named_need_not_be_the_best() {
        let seeds = Basis::Seeds { p: 0.5, interval: [-0.125, 0.25] };
        let rows = vec![row("a", &[0.5, 0.75], None), row("b", &[0.75], Some((0.125, seeds)))];
        let found = verdicts(rows.clone(), None, 1).unwrap();
        assert_eq!(found.title, "test accuracy against a: 62.50 ± 17.68 % (50.00 to 75.00)");
        assert_eq!(found.rows[0][1], "+12.50 points");
        assert_eq!(found.notes[1..], [Note::new("more than noise: p below 0.05")]);
        let three = verdicts(rows, None, 3).unwrap();
        let start = "more than noise: adjusted p below 0.05. Holm's method adjusts p for 3 comparisons (one for each other row): ";
        assert!(three.notes.len() == 2 && three.notes[1].what.starts_with(start), "{:?}", three.notes);
        assert_eq!(verdicts(vec![row("b", &[0.75], None)], Some(1), 0), None);
    }
}
