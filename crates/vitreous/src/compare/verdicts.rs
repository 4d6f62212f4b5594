//! Describes differences of accuracy: how large each is, and whether it is more than noise.

use super::noise::LEVEL;
use super::sheet::{accuracy, evaluate};
use super::{Basis, Comparison, Group, Measure, Row, RowDifference};
use crate::advice::{Note, Suggestion};
use crate::layout::{Align, markdown_table};
use crate::numbers;
use crate::text::markdown;

/// Differences of accuracy of a group as people read them.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdicts {
    /// Against what.
    pub title: String,
    /// The titles, then run, difference, verdict, p and reason; the best first.
    pub rows: Vec<[String; 5]>,
    /// Notes below the table.
    pub notes: Vec<Note>,
}

/// The alignment of the cells.
const ALIGN: [Align; 5] = [Align::Left, Align::Right, Align::Left, Align::Right, Align::Wrap];

impl Verdicts {
    /// Describes the differences of a group; empty before they are computed.
    pub fn new(comparison: &Comparison, group: &Group) -> Option<Verdicts> {
        let reference = comparison.rows_of(group).find(|row| group.against.as_ref() == Some(&row.name))?;
        let by = comparison.ranked_by;
        let interval = by.interval(reference).map_or_else(String::new, |interval| {
            let [low, high] = interval.map(numbers::percent);
            format!(" (95 % interval {low} to {high})")
        });
        let title = format!(
            "{by} against {}{}: {}{interval}",
            if group.best_of.is_some() { "the best, " } else { "" },
            reference.name,
            accuracy(by.of(reference), reference.seeds.len())
        );
        let mut held: Vec<(&Row, &RowDifference)> =
            comparison.rows_of(group).filter_map(|row| Some((row, row.difference.as_ref()?))).collect();
        held.sort_by(|(_, a), (_, b)| b.mean.total_cmp(&a.mean));
        let p = if group.comparisons > Some(1) { "adjusted p" } else { "p" };
        let titles = ["run", "difference", "verdict", p, "basis"].map(str::to_string);
        let lines = held.iter().map(|(row, difference)| line(row, reference, difference));
        let left = comparison.rows_of(group).filter(|row| by.of(row).is_some()).count() - 1 - held.len();
        let notes = notes(by, group, reference, &held, left);
        Some(Verdicts { title, rows: [titles].into_iter().chain(lines).collect(), notes })
    }

    /// The titles, then the rows, and the alignment of their cells.
    pub fn table(&self) -> (&[[String; 5]], &'static [Align]) {
        (&self.rows, &ALIGN)
    }

    /// Writes a Markdown table below its title, with the notes; `note` writes a note.
    pub fn markdown(&self, note: impl Fn(&Note) -> String) -> String {
        let mut title = self.title.chars();
        let first = title.next().into_iter().flat_map(char::to_uppercase);
        let mut text = format!("{}\n\n", markdown(&first.chain(title).collect::<String>()));
        text.push_str(&markdown_table(&self.rows, &ALIGN));
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
            let [name, against] = [row, reference].map(|row| &row.name);
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
    [row.name.clone(), points, verdict.to_string(), p, why]
}

/// Writes a p value: `p = 0.0432`, or `p < 0.0001`.
pub fn probability(p: f64) -> String {
    match p {
        p if p < 0.0001 => "p < 0.0001".to_string(),
        p if p < 0.1 => format!("p = {p:.4}"),
        p => format!("p = {p:.2}"),
    }
}

/// What this group's verdicts rest on, and what to do next.
fn notes(by: Measure, group: &Group, reference: &Row, held: &[(&Row, &RowDifference)], left: usize) -> Vec<Note> {
    let mut notes = Vec::new();
    // Rows share a reason where it is about the one that they are compared with; one command is enough as an example.
    let missing = held.iter().find_map(|(_, difference)| match &difference.basis {
        Basis::Unknown { reason } if reason.suggestion.is_some() => Some(reason.clone()),
        _ => None,
    });
    notes.extend(missing);
    notes.push(Note::new(match (group.comparisons, group.best_of) {
        (Some(many @ 2..), best_of) => {
            let many = numbers::count(many as u64);
            let why = match best_of {
                Some(rows) => format!("the best was chosen from {rows} rows, which are {many} pairs"),
                None => format!("{many} rows are compared with {}", reference.name),
            };
            format!(
                "more than noise: adjusted p below {LEVEL}. p is adjusted because {why} (Holm's method): if all were \
                 equally accurate, at most 1 in 20 such tables would have an adjusted p below {LEVEL}"
            )
        }
        _ => format!("more than noise: p below {LEVEL}"),
    }));
    if group.best_of.is_some() {
        let too_high = format!("the best was chosen by its {by}, which is therefore too high on average");
        notes.push(match by {
            Measure::Validation if reference.test_acc.is_some() => {
                Note::new(format!("{too_high}: report its test accuracy, which was not used to choose"))
            }
            Measure::Validation => {
                let measure = Suggestion::new().text("measure it on the test split with");
                Note::new(too_high).suggest(measure.run(evaluate(reference)))
            }
            Measure::Test => Note::new(format!("{too_high}: no unseen images are left to measure it")),
        });
    }
    if left > 0 {
        let rows = format!("{} {}", numbers::counted(left, "more row"), if left == 1 { "is" } else { "are" });
        notes.push(Note::new(format!("{rows} further away and not tested: name fewer runs")));
    }
    notes
}

/// What p means, for each kind of test that a comparison has.
pub fn meanings(comparison: &Comparison) -> Vec<Note> {
    let has =
        |is: fn(&Basis) -> bool| comparison.rows.iter().filter_map(|row| row.difference.as_ref()).any(|d| is(&d.basis));
    let images = "p of two single runs: the probability of a difference at least this large if both had the same accuracy \
                  (McNemar's test on the same images). It is about these weights: another seed may change it";
    let seeds = "p over seeds: the probability of a difference at least this large if both settings had the same mean \
                 accuracy (Student's t-test)";
    let images = has(|basis| matches!(basis, Basis::SameImages { .. })).then(|| Note::new(images));
    let seeds = has(|basis| matches!(basis, Basis::Seeds { .. })).then(|| Note::new(seeds));
    images.into_iter().chain(seeds).collect()
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
        let mut comparison = testing::comparison(rows);
        let group = &mut comparison.groups[0];
        (group.against, group.best_of, group.comparisons) = (Some("a".to_string()), best_of, Some(comparisons));
        Verdicts::new(&comparison, &comparison.groups[0])
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

| run | difference | verdict | adjusted p | basis |
| --- | ---: | --- | ---: | --- |
| b | -1.25 points | within noise | 1.00 | of 10,000 images, correct only in b: 100, only in a: 225 |
| e | -20.00 points | more than noise | 0.0432 | seeds: 95 % interval -30.00 to -1.25 points (not adjusted) |
| c\\|d | -25.00 points | more than noise | < 0.0001 | of 10,000 images, correct only in c\\|d: 7, only in a: 2,507 |
| f | -25.00 points | unknown | - | not measured |

- more than noise: adjusted p below 0.05. p is adjusted because the best was chosen from 5 rows, which are 10 pairs \
(Holm's method): if all were equally accurate, at most 1 in 20 such tables would have an adjusted p below 0.05
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
        assert_eq!((found.rows[0][3].as_str(), found.rows[1][1].as_str()), ("p", "+12.50 points"));
        assert_eq!(found.notes, [Note::new("more than noise: p below 0.05")]);
        let three = verdicts(rows, None, 3).unwrap();
        let start = "more than noise: adjusted p below 0.05. p is adjusted because 3 rows are compared with a ";
        assert!(three.notes.len() == 1 && three.notes[0].what.starts_with(start), "{:?}", three.notes);
        assert_eq!(verdicts(vec![row("b", &[0.75], None)], Some(1), 0), None);
    }
}
