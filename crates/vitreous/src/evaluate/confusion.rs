//! The confusion matrix: rows are true classes, columns predicted ones. As text for people, as CSV for programs.

use serde::{Deserialize, Serialize};

use super::csv;

/// Longest name beside a row, in characters.
const ROW_NAME_MAX: usize = 14;

/// Longest name above a column, in characters. With counts of four digits ten columns stay within 100 characters.
const COLUMN_NAME_MAX: usize = 7;

/// What stands where letters of a name were left out.
const CUT: char = '~';

/// Counts of images by true and predicted class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Rows", from = "Rows")]
pub struct ConfusionMatrix {
    names: Vec<String>,
    counts: Vec<u64>,
}

/// The matrix as it stands in JSON.
#[derive(Clone, Serialize, Deserialize)]
struct Rows {
    classes: Vec<String>,
    rows: Vec<Vec<u64>>,
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
    /// Makes a matrix of counts given row by row.
    ///
    /// # Panics
    /// When there is not one row and one column for each name.
    pub fn new(names: &[String], counts: Vec<u64>) -> Self {
        assert_eq!(counts.len(), names.len() * names.len(), "a row and a column for each class");
        ConfusionMatrix { names: names.to_vec(), counts }
    }

    /// Names of the classes.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Number of images of class `label` predicted as class `prediction`.
    pub fn count(&self, label: usize, prediction: usize) -> u64 {
        self.counts[label * self.names.len() + prediction]
    }

    /// Number of images of a class.
    pub fn support(&self, label: usize) -> u64 {
        self.row(label).iter().sum()
    }

    /// Number of images predicted as a class.
    pub fn predicted(&self, prediction: usize) -> u64 {
        (0..self.names.len()).map(|label| self.count(label, prediction)).sum()
    }

    /// Number of all images.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the most frequent confusions, the most frequent first.
    pub fn most_confused(&self, most: usize) -> Vec<Confused<'_>> {
        let n = self.names.len();
        let mut pairs: Vec<(usize, usize)> = (0..n).flat_map(|label| (0..n).map(move |p| (label, p))).collect();
        pairs.retain(|&(label, prediction)| label != prediction && self.count(label, prediction) > 0);
        pairs.sort_by_key(|&(label, prediction)| std::cmp::Reverse(self.count(label, prediction)));
        let confused = |(label, prediction): (usize, usize)| Confused {
            label: &self.names[label],
            prediction: &self.names[prediction],
            images: self.count(label, prediction),
        };
        pairs.into_iter().take(most).map(confused).collect()
    }

    /// Writes the matrix as aligned text. Long names are cut, and where cut names would be alike, or there are more
    /// columns than a screen has, classes have numbers above the columns.
    pub fn text(&self) -> String {
        let cut_to = |most: usize| self.names.iter().map(|name| shortened(name, most)).collect::<Vec<_>>();
        let (mut rows, mut columns) = (cut_to(ROW_NAME_MAX), cut_to(COLUMN_NAME_MAX));
        if self.names.len() > 10 || has_twins(&columns) {
            columns = (0..self.names.len()).map(|class| class.to_string()).collect();
            rows = rows.iter().enumerate().map(|(class, name)| format!("{class} {name}")).collect();
        }
        let corner = "true \\ predicted";
        let longest = |texts: &[String]| texts.iter().map(|text| text.chars().count()).max().unwrap_or(0);
        let digits = self.counts.iter().max().map_or(1, |count| count.to_string().len());
        let (row_width, width) = (longest(&rows).max(corner.len()), longest(&columns).max(digits));
        let mut text = format!("{corner:<row_width$}");
        columns.iter().for_each(|name| text.push_str(&format!(" {name:>width$}")));
        text.push('\n');
        for (label, name) in rows.iter().enumerate() {
            text.push_str(&format!("{name:<row_width$}"));
            // A dot for nothing lets the eye find what is there.
            let shown = |&count: &u64| if count == 0 { "·".to_string() } else { count.to_string() };
            self.row(label).iter().for_each(|count| text.push_str(&format!(" {:>width$}", shown(count))));
            text.push('\n');
        }
        text
    }

    /// Writes the matrix as CSV: a row for each true class, a column for each predicted one.
    pub fn csv(&self) -> String {
        let head = std::iter::once("true\\predicted").chain(self.names.iter().map(String::as_str));
        let mut text = csv::line(head);
        for (label, name) in self.names.iter().enumerate() {
            let counts: Vec<String> = self.row(label).iter().map(u64::to_string).collect();
            text.push_str(&csv::line(std::iter::once(name.as_str()).chain(counts.iter().map(String::as_str))));
        }
        text
    }

    fn row(&self, label: usize) -> &[u64] {
        &self.counts[label * self.names.len()..][..self.names.len()]
    }
}

impl From<ConfusionMatrix> for Rows {
    fn from(matrix: ConfusionMatrix) -> Rows {
        let rows = (0..matrix.names.len()).map(|label| matrix.row(label).to_vec()).collect();
        Rows { classes: matrix.names, rows }
    }
}

impl From<Rows> for ConfusionMatrix {
    fn from(rows: Rows) -> ConfusionMatrix {
        ConfusionMatrix { names: rows.classes, counts: rows.rows.concat() }
    }
}

/// Cuts a name's end off where it is longer than so many characters.
pub fn shortened(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_string();
    }
    let start: String = name.chars().take(most - 1).collect();
    format!("{}{CUT}", start.trim_end())
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
        ConfusionMatrix::new(&names, counts.to_vec())
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
        let text = ConfusionMatrix::new(&names, vec![7; 121]).text();
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
    fn json_keeps_rows() {
        let json = serde_json::to_value(pets()).unwrap();
        assert_eq!(json["rows"][1], serde_json::json!([5, 7, 1]));
        assert_eq!(serde_json::from_value::<ConfusionMatrix>(json).unwrap(), pets());
    }
}
