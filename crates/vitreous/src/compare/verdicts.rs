//! What is said of differences of test accuracy: how large each is, and whether it is more than noise.

use super::differences::tested_on;
use super::sheet::{CELL_MAX, accuracy};
use super::{Basis, Comparison, Row, RowDifference};
use crate::evaluate::shortened;
use crate::units;

/// Differences of test accuracy as people read them.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdicts {
    /// Against what.
    pub title: String,
    /// Run, difference, p, verdict and reason; the best first.
    pub rows: Vec<[String; 5]>,
    /// What is to be said below.
    pub notes: Vec<String>,
}

impl Verdicts {
    /// Puts the differences of a comparison into words; there are none before they were asked for.
    pub fn new(comparison: &Comparison) -> Option<Verdicts> {
        let reference = comparison.rows.iter().find(|row| comparison.against.as_ref() == Some(&row.name))?;
        let interval = reference.test_acc_interval.map_or_else(String::new, |interval| {
            let [low, high] = interval.map(units::percent);
            format!(" (95 % interval {low} to {high})")
        });
        let tested = comparison.rows.iter().filter(|row| row.test_acc.is_some());
        let (own, other): (Vec<&Row>, Vec<&Row>) =
            tested.partition(|row| tested_on(&row.settings) == tested_on(&reference.settings));
        let mean = |row: &Row| row.test_acc.map(|spread| spread.mean);
        let is_best = own.iter().all(|row| mean(row) <= mean(reference));
        let title = format!(
            "test accuracy against {}{}: {}{interval}",
            if is_best { "the best, " } else { "" },
            reference.name,
            accuracy(reference.test_acc, reference.seeds.len())
        );
        let mut held: Vec<(&Row, &RowDifference)> =
            comparison.rows.iter().filter_map(|row| Some((row, row.difference.as_ref()?))).collect();
        held.sort_by(|(_, a), (_, b)| b.mean.total_cmp(&a.mean));
        let rows = held.iter().map(|(row, difference)| line(row, difference)).collect();
        Some(Verdicts { title, rows, notes: notes(&held, own.len() - 1 - held.len(), other.len()) })
    }

    /// Writes a Markdown table below its title.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n\n", self.title.replacen("test", "Test", 1));
        let line = |cells: [&str; 5]| format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
        text.push_str(&line(["run", "difference", "p", "", ""]));
        text.push_str(&line(["---", "---:", "---", "---", "---"]));
        self.rows.iter().for_each(|row| text.push_str(&line(row.each_ref().map(String::as_str))));
        text.push('\n');
        self.notes.iter().for_each(|note| text.push_str(&format!("- {note}\n")));
        text
    }
}

fn line(row: &Row, difference: &RowDifference) -> [String; 5] {
    let verdict = match difference.within_noise {
        Some(true) => "within noise",
        Some(false) => "more than noise",
        None => "cannot be said",
    };
    let why = match &difference.basis {
        Basis::SameImages { images, only_own_right, only_other_right, .. } => {
            let [images, own, other] = [images, only_own_right, only_other_right].map(|n| units::count(*n));
            format!("of {images} images, {own} are right here alone, {other} there alone")
        }
        Basis::Seeds { interval, .. } => {
            let [low, high] = interval.map(|x| format!("{:+.2}", 100.0 * x));
            format!("95 % interval over seeds {low} to {high} points")
        }
        Basis::Unknown { reason } => reason.clone(),
    };
    let points = format!("{:+.2} points", 100.0 * difference.mean);
    let p = difference.basis.p().map_or("-".to_string(), probability);
    [shortened(&row.name, CELL_MAX), points, p, verdict.to_string(), why]
}

fn probability(p: f64) -> String {
    match p {
        p if p < 0.0001 => "p < 0.0001".to_string(),
        p if p < 0.1 => format!("p {p:.4}"),
        p => format!("p {p:.2}"),
    }
}

fn notes(held: &[(&Row, &RowDifference)], left: usize, other: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if held.iter().any(|(_, difference)| matches!(difference.basis, Basis::SameImages { .. })) {
        let text = "of two single runs, p is how often equally good models differ as much on the same images (McNemar's \
                    test); of their settings it says little: another seed may differ as much";
        notes.push(text.to_string());
    }
    if held.iter().any(|(_, difference)| matches!(difference.basis, Basis::Seeds { .. })) {
        notes.push("over seeds, p is how often seeds alone make as large a difference (Student's t)".to_string());
    }
    if held.len() > 1 {
        notes.push("more than noise is p below 0.05; chance makes one such line of twenty".to_string());
    }
    let rows = |n: usize| format!("{} more {}", units::count(n as u64), if n == 1 { "row is" } else { "rows are" });
    if left > 0 {
        notes.push(format!("{} further away and not held against it: name fewer runs", rows(left)));
    }
    if other > 0 {
        notes.push(format!("{} tested on other data: compare these by themselves", rows(other)));
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
                within_noise: basis.p().map(|p| p >= 0.05),
                basis,
            }),
            ..testing::row(name)
        }
    }

    fn verdicts(rows: Vec<Row>) -> Option<Verdicts> {
        let against = Some("a".to_string());
        Verdicts::new(&Comparison { keys: Vec::new(), rows, against, left_out: Vec::new() })
    }

    #[test]
    fn each_difference_is_a_line_and_the_best_comes_first() {
        let images =
            |p, own, other| Basis::SameImages { p, images: 10_000, only_own_right: own, only_other_right: other };
        let rows = vec![
            row("c|d", &[0.5], Some((-0.25, images(0.00003, 7, 2_507)))),
            row("b", &[0.7375], Some((-0.0125, images(0.3, 100, 225)))),
            row("a", &[0.75], None),
            row("e", &[0.5, 0.6], Some((-0.2, Basis::Seeds { p: 0.04321, interval: [-0.3, -0.0125] }))),
            row("f", &[0.5], Some((-0.25, Basis::Unknown { reason: "nobody knows".to_string() }))),
            row("g", &[0.25], None),
            row("h", &[], None),
        ];
        let expected = "\
Test accuracy against the best, a: 75.00 % (95 % interval 50.00 % to 87.50 %)

| run | difference | p |  |  |
| --- | ---: | --- | --- | --- |
| b | -1.25 points | p 0.30 | within noise | of 10,000 images, 100 are right here alone, 225 there alone |
| e | -20.00 points | p 0.0432 | more than noise | 95 % interval over seeds -30.00 to -1.25 points |
| c\\|d | -25.00 points | p < 0.0001 | more than noise | of 10,000 images, 7 are right here alone, 2,507 there alone |
| f | -25.00 points | - | cannot be said | nobody knows |

- of two single runs, p is how often equally good models differ as much on the same images (McNemar's test); of their \
settings it says little: another seed may differ as much
- over seeds, p is how often seeds alone make as large a difference (Student's t)
- more than noise is p below 0.05; chance makes one such line of twenty
- 1 more row is further away and not held against it: name fewer runs
";
        assert_eq!(verdicts(rows).unwrap().markdown(), expected);
    }

    #[test]
    fn the_one_that_was_named_need_not_be_the_best() {
        let seeds = Basis::Seeds { p: 0.5, interval: [-0.125, 0.25] };
        let found = verdicts(vec![row("a", &[0.5, 0.75], None), row("b", &[0.75], Some((0.125, seeds)))]).unwrap();
        assert_eq!(found.title, "test accuracy against a: 62.50 ± 17.68 % (50.00 to 75.00)");
        assert_eq!(found.rows[0][1], "+12.50 points");
        assert_eq!(found.notes.len(), 1);
        assert_eq!(verdicts(vec![row("b", &[0.75], None)]), None);
    }
}
