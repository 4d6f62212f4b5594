//! Prints a classifier's scores: a table of classes, the confusion matrix, loss and accuracies.

use super::screen::{Align, table};
use crate::evaluate::{Report, Scores};
use crate::numbers;
use crate::text::shortened;

/// Maximum number of classes for which the whole confusion matrix is printed.
const MATRIX_CLASSES_MAX: usize = 20;

/// Number of confusions printed instead of a larger matrix.
const CONFUSIONS_SHOWN: usize = 10;

/// Longest class name in the table of classes, in characters.
const NAME_MAX: usize = 40;

/// Scores of each class, the confusions, and the scores over all images.
pub fn text(report: &Report, scores: &Scores) -> String {
    let mut text = class_table(scores);
    text.push('\n');
    if scores.classes.len() <= MATRIX_CLASSES_MAX {
        text.push_str(&scores.confusion.text());
    } else {
        text.push_str("most often taken for another class\n");
        let mut rows = vec![["images", "true class", "taken for"].map(str::to_string)];
        let confused = scores.confusion.most_confused(CONFUSIONS_SHOWN);
        let name = |name: &str| shortened(name, NAME_MAX);
        rows.extend(confused.iter().map(|c| [numbers::count(c.images), name(c.label), name(c.prediction)]));
        text.push_str(&table(&rows, &[Align::Right, Align::Left, Align::Left]));
    }
    let [low, high] = scores.top1_interval.map(numbers::percent);
    text.push_str(&format!("\n{}", line!("{}", report.title("images", scores.images))));
    text.push_str(&line!(
        "loss {:.4}, top-1 {} (95 % interval {low} to {high}), top-5 {}",
        scores.loss,
        numbers::percent(scores.top1),
        numbers::percent(scores.top5),
    ));
    text
}

/// The scores of each class and their means; a class without images has none.
fn class_table(scores: &Scores) -> String {
    let row = |name: &str, values: [Option<f64>; 3], images: u64| {
        let [precision, recall, f1] = values.map(|value| value.map_or("-".to_string(), numbers::percent));
        [shortened(name, NAME_MAX), precision, recall, f1, numbers::count(images)]
    };
    let mut rows = vec![["class", "precision", "recall", "F1", "images"].map(str::to_string)];
    rows.extend(scores.classes.iter().map(|c| row(&c.name, [c.precision, c.recall, c.f1], c.support)));
    let means = [scores.precision_mean, scores.recall_mean, scores.f1_mean].map(Some);
    rows.push(row("mean", means, scores.images));
    let right = Align::Right;
    let mut text = table(&rows, &[Align::Left, right, right, right, right]);
    let with_images = scores.classes.iter().filter(|class| class.support > 0).count();
    if with_images < scores.classes.len() {
        let [with_images, all] = [with_images, scores.classes.len()].map(|count| numbers::count(count as u64));
        text.push_str(&line!("mean over the classes that have images: {with_images} of {all}"));
    }
    text
}
