//! The confusion matrix: rows are true classes, columns predicted ones. As text for people, as CSV for programs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Accuracy;
use crate::csv;
use crate::plot::confusion::Outcome;
use crate::text::{padded, shortened, width};

/// Longest row name, in characters.
const ROW_NAME_MAX: usize = 14;

/// Longest name above a column, in characters. With counts of four digits ten columns stay within 100 characters.
const COLUMN_NAME_MAX: usize = 7;

/// Maximum number of classes for which files have the whole matrix. With more, they have only the cells that are not 0,
/// because 10,000 classes make 100 million cells.
pub const DENSE_CLASSES_MAX: usize = 300;

/// Most images of a matrix: fractions of them are exact up to here.
const IMAGES_MAX: u64 = 1 << 53;

/// Counts of images by true and predicted class. Stores only the cells that are not 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct ConfusionMatrix {
    names: Vec<String>,
    /// Counts by (true class, predicted class), none of them 0.
    counts: BTreeMap<(usize, usize), u64>,
    support: Vec<u64>,
    predicted: Vec<u64>,
}

/// The matrix in JSON: row by row or, with many classes, as cells `[true class, predicted class, images]`.
#[derive(Clone, Serialize, Deserialize)]
struct Written {
    classes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows: Option<Vec<Vec<u64>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cells: Option<Vec<(usize, usize, u64)>>,
}

/// A true class that is taken for another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confused<'a> {
    /// The true class.
    pub label: &'a str,
    /// The class it is taken for.
    pub prediction: &'a str,
    /// How often.
    pub images: u64,
}

impl ConfusionMatrix {
    /// Starts without images.
    pub fn new(names: &[String]) -> Self {
        let none = vec![0; names.len()];
        ConfusionMatrix { names: names.to_vec(), counts: BTreeMap::new(), support: none.clone(), predicted: none }
    }

    /// Adds images of class `label` that are predicted as class `prediction`.
    ///
    /// # Panics
    /// When `label` or `prediction` is out of range.
    pub fn add(&mut self, label: usize, prediction: usize, images: u64) {
        self.support[label] += images;
        self.predicted[prediction] += images;
        if images > 0 {
            *self.counts.entry((label, prediction)).or_default() += images;
        }
    }

    /// Names of the classes.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Number of images of class `label` predicted as class `prediction`.
    pub fn count(&self, label: usize, prediction: usize) -> u64 {
        self.counts.get(&(label, prediction)).copied().unwrap_or(0)
    }

    /// The cells that are not 0: true class, predicted class, images.
    pub fn cells(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        self.counts.iter().map(|(&(label, prediction), &images)| (label, prediction, images))
    }

    /// Number of images of a class.
    pub fn support(&self, label: usize) -> u64 {
        self.support[label]
    }

    /// Number of images predicted as a class.
    pub fn predicted(&self, prediction: usize) -> u64 {
        self.predicted[prediction]
    }

    /// Number of all images.
    pub fn total(&self) -> u64 {
        self.support.iter().sum()
    }

    /// What is drawn of it; none without images. `images` says of which images it is.
    pub fn outcome(&self, images: String) -> Option<Outcome> {
        let total = self.total();
        let right: u64 = (0..self.names.len()).map(|class| self.count(class, class)).sum();
        let accuracy = Accuracy { value: right as f64 / total as f64, images: total };
        (total > 0).then(|| Outcome {
            names: self.names.clone(),
            cells: self.cells().collect(),
            images,
            accuracy: accuracy.value,
            interval: accuracy.interval(),
        })
    }

    /// Returns the most frequent confusions, the most frequent first.
    pub fn most_confused(&self, most: usize) -> Vec<Confused<'_>> {
        let confused = |(&(label, prediction), &images): (&(usize, usize), &u64)| Confused {
            label: &self.names[label],
            prediction: &self.names[prediction],
            images,
        };
        let is_wrong = |((label, prediction), _): &(&(usize, usize), &u64)| label != prediction;
        let mut pairs: Vec<Confused> = self.counts.iter().filter(is_wrong).map(confused).collect();
        pairs.sort_by_key(|confused| std::cmp::Reverse(confused.images));
        pairs.truncate(most);
        pairs
    }

    /// Writes the matrix as aligned text. Long names are cut, and where cut names would be alike, or there are more
    /// columns than a screen has, classes have numbers above the columns. Of many classes it is the CSV.
    pub fn text(&self) -> String {
        if self.names.len() > DENSE_CLASSES_MAX {
            return self.csv();
        }
        let cut_to = |most: usize| self.names.iter().map(|name| shortened(name, most)).collect::<Vec<_>>();
        let (mut rows, mut columns) = (cut_to(ROW_NAME_MAX), cut_to(COLUMN_NAME_MAX));
        if self.names.len() > 10 || has_twins(&columns) {
            columns = (0..self.names.len()).map(|class| class.to_string()).collect();
            rows = rows.iter().enumerate().map(|(class, name)| format!("{class} {name}")).collect();
        }
        let corner = "true \\ predicted";
        let longest = |texts: &[String]| texts.iter().map(|text| width(text)).max().unwrap_or(0);
        let digits = self.counts.values().max().map_or(1, |count| count.to_string().len());
        let (row_width, column_width) = (longest(&rows).max(corner.len()), longest(&columns).max(digits));
        let mut text = padded(corner, row_width, false);
        columns.iter().for_each(|name| text.push_str(&format!(" {}", padded(name, column_width, true))));
        text.push('\n');
        for (label, name) in rows.iter().enumerate() {
            text.push_str(&padded(name, row_width, false));
            // A dot for nothing lets the eye find what is there.
            let shown = |count: u64| if count == 0 { "·".to_string() } else { count.to_string() };
            self.row(label).for_each(|count| text.push_str(&format!(" {}", padded(&shown(count), column_width, true))));
            text.push('\n');
        }
        text
    }

    /// Writes the matrix as CSV: a row for each true class, a column for each predicted one. With many classes, a
    /// row for each cell that is not 0.
    pub fn csv(&self) -> String {
        if self.names.len() > DENSE_CLASSES_MAX {
            let mut text = csv::line(["true", "predicted", "images"]);
            for (&(label, prediction), images) in &self.counts {
                text.push_str(&csv::line(
                    [&self.names[label], &self.names[prediction], &images.to_string()].map(|s| &**s),
                ));
            }
            return text;
        }
        let head = std::iter::once("true\\predicted").chain(self.names.iter().map(String::as_str));
        let mut text = csv::line(head);
        for (label, name) in self.names.iter().enumerate() {
            let counts: Vec<String> = self.row(label).map(|count| count.to_string()).collect();
            text.push_str(&csv::line(std::iter::once(name.as_str()).chain(counts.iter().map(String::as_str))));
        }
        text
    }

    fn row(&self, label: usize) -> impl Iterator<Item = u64> {
        (0..self.names.len()).map(move |prediction| self.count(label, prediction))
    }
}

impl From<ConfusionMatrix> for Written {
    fn from(matrix: ConfusionMatrix) -> Written {
        let is_dense = matrix.names.len() <= DENSE_CLASSES_MAX;
        let rows = is_dense.then(|| (0..matrix.names.len()).map(|label| matrix.row(label).collect()).collect());
        let cells = (!is_dense).then(|| matrix.cells().collect());
        Written { classes: matrix.names, rows, cells }
    }
}

impl TryFrom<Written> for ConfusionMatrix {
    type Error = String;

    fn try_from(written: Written) -> Result<ConfusionMatrix, String> {
        let mut matrix = ConfusionMatrix::new(&written.classes);
        let mut total = 0_u64;
        let rows = written.rows.into_iter().flatten().enumerate();
        let rows =
            rows.flat_map(|(label, row)| (0..).zip(row).map(move |(prediction, count)| (label, prediction, count)));
        for (label, prediction, images) in rows.chain(written.cells.into_iter().flatten()) {
            if label.max(prediction) >= written.classes.len() {
                return Err(format!("a count of class {} among {}", label.max(prediction), written.classes.len()));
            }
            total = total.saturating_add(images);
            if total > IMAGES_MAX {
                return Err("more images than can be counted".to_string());
            }
            matrix.add(label, prediction, images);
        }
        Ok(matrix)
    }
}

fn has_twins(names: &[String]) -> bool {
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(names: &[&str], counts: &[u64]) -> ConfusionMatrix {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut matrix = ConfusionMatrix::new(&names);
        counts.iter().enumerate().for_each(|(i, &count)| matrix.add(i / names.len(), i % names.len(), count));
        matrix
    }

    fn pets() -> ConfusionMatrix {
        matrix(&["cat", "dog", "golden retriever"], &[13, 2, 0, 5, 7, 1, 0, 3, 1117])
    }

    #[test]
    fn rows_are_true_and_columns_predicted() {
        let pets = pets();
        assert_eq!((pets.count(0, 1), pets.count(1, 0)), (2, 5));
        assert_eq!((pets.support(1), pets.predicted(1), pets.total()), (13, 12, 1148));
    }

    #[test]
    fn counts_that_no_images_can_have_are_refused() {
        let read = |rows: &str| {
            let json = format!("{{\"classes\":[\"cat\",\"dog\"],\"rows\":{rows}}}");
            serde_json::from_str::<ConfusionMatrix>(&json)
                .map(|matrix| matrix.total())
                .map_err(|error| error.to_string())
        };
        assert_eq!(read("[[13,2],[5,7]]"), Ok(27));
        for rows in ["[[18446744073709551615,0],[1,0]]", "[[9007199254740992,1]]"] {
            assert_eq!(read(rows), Err("more images than can be counted".to_string()));
        }
        assert_eq!(read("[[1,2,3]]"), Err("a count of class 2 among 2".to_string()));
    }

    #[test]
    fn text_is_aligned_and_long_names_are_cut() {
        let expected = "\
true \\ predicted     cat     dog golden~
cat                   13       2       ·
dog                    5       7       1
golden retrie~         ·       3    1117
";
        assert_eq!(pets().text(), expected);
    }

    #[test]
    fn names_that_would_be_cut_alike_have_numbers() {
        let twins = matrix(&["golden retriever", "golden eagle"], &[3, 2, 0, 5]);
        let expected = "\
true \\ predicted 0 1
0 golden retrie~ 3 2
1 golden eagle   · 5
";
        assert_eq!(twins.text(), expected);
    }

    #[test]
    fn ten_classes_of_clothes_fit_into_a_hundred_columns() {
        let clothes =
            ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];
        let text = matrix(&clothes, &[1000; 100]).text();
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(text.starts_with("true \\ predicted T-shir~ Trouser Pullov~   Dress    Coat"), "{text}");
    }

    #[test]
    fn more_than_ten_columns_have_numbers() {
        let names: Vec<String> = (0..11).map(|class| format!("bird{class}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let text = matrix(&names, &[7; 121]).text();
        assert_eq!(text.lines().next(), Some("true \\ predicted  0  1  2  3  4  5  6  7  8  9 10"));
        assert_eq!(text.lines().last(), Some("10 bird10         7  7  7  7  7  7  7  7  7  7  7"));
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let csv = matrix(&["cat, big", "dog"], &[3, 2, 0, 5]).csv();
        assert_eq!(csv, "true\\predicted,\"cat, big\",dog\n\"cat, big\",3,2\ndog,0,5\n");
    }

    #[test]
    fn the_most_confused_come_first() {
        let pets = pets();
        let shown: Vec<(&str, &str, u64)> =
            pets.most_confused(2).iter().map(|c| (c.label, c.prediction, c.images)).collect();
        assert_eq!(shown, [("dog", "cat", 5), ("golden retriever", "dog", 3)]);
        assert_eq!(pets.most_confused(9).len(), 4);
    }

    #[test]
    fn of_many_classes_only_cells_that_are_not_0_are_kept_and_written() {
        let names: Vec<String> = (0..10_000).map(|class| format!("bird{class}")).collect();
        let mut many = ConfusionMatrix::new(&names);
        many.add(7, 7, 5);
        many.add(9_999, 3, 1);
        many.add(7, 9_998, 2);
        assert_eq!(many.csv(), "true,predicted,images\nbird7,bird7,5\nbird7,bird9998,2\nbird9999,bird3,1\n");
        assert_eq!((many.text(), many.total(), many.support(7), many.predicted(3)), (many.csv(), 8, 7, 1));
        let json = serde_json::to_value(&many).unwrap();
        assert_eq!(json["cells"], serde_json::json!([[7, 7, 5], [7, 9998, 2], [9999, 3, 1]]));
        assert_eq!(json.get("rows"), None);
        assert_eq!(serde_json::from_value::<ConfusionMatrix>(json).unwrap(), many);
        let edge = ConfusionMatrix::new(&names[..DENSE_CLASSES_MAX]);
        assert_eq!(edge.csv().lines().count(), 1 + DENSE_CLASSES_MAX);
    }

    #[test]
    fn json_that_speaks_of_other_classes_is_refused() {
        for text in [r#"{"classes":["a"],"cells":[[0,1,2]]}"#, r#"{"classes":["a"],"rows":[[1],[2]]}"#] {
            let error = serde_json::from_str::<ConfusionMatrix>(text).unwrap_err().to_string();
            assert_eq!(error, "a count of class 1 among 1");
        }
    }

    #[test]
    fn json_keeps_rows() {
        let json = serde_json::to_value(pets()).unwrap();
        assert_eq!(json["rows"][1], serde_json::json!([5, 7, 1]));
        assert_eq!(serde_json::from_value::<ConfusionMatrix>(json).unwrap(), pets());
    }
}
