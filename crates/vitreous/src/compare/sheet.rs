//! A comparison in cells: for people as columns and notes, as Markdown, and as CSV with every figure.

use std::collections::BTreeSet;

use toml::Value;

use super::verdicts::meanings;
use super::{Comparison, Group, Measure, Row, Spread, Verdicts};
use crate::advice::{Argument, Command, Note, Suggestion, Verb};
use crate::config::difference::shown;
use crate::csv;
use crate::layout::{Align, markdown_table};
use crate::record::Weights;
use crate::text::{markdown, shortened, width};
use crate::{durations, numbers};

/// Most settings that have a column of their own for people.
const KEYS_MAX: usize = 6;

/// Most further settings that are named below.
const KEYS_NAMED: usize = 8;

/// Longest cell of a setting or a name, in characters.
pub const CELL_MAX: usize = 36;

/// Longest number of a setting, in characters.
const DIGITS_MAX: usize = 8;

/// What a screen leaves out of accuracies over seeds.
const RANGE: &str = " (least to largest)";

/// One column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its title.
    pub title: String,
    /// Whether it has numbers, which are aligned right.
    pub is_number: bool,
}

/// A comparison as people read it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sheet {
    /// Why there are several groups, if there are.
    pub lead: Option<&'static str>,
    /// The groups of rows.
    pub sections: Vec<Section>,
    /// What the columns and the verdicts mean, and how to measure what is missing.
    pub notes: Vec<Note>,
}

/// Rows on the same data.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// The data; absent if all rows are on the same.
    pub title: Option<String>,
    /// The columns.
    pub columns: Vec<Column>,
    /// Cells, row by row.
    pub rows: Vec<Vec<String>>,
    /// Notes below the table.
    pub notes: Vec<Note>,
    /// Which accuracies differ by more than noise.
    pub verdicts: Option<Verdicts>,
}

impl Sheet {
    /// Puts a comparison into cells.
    pub fn new(comparison: &Comparison) -> Sheet {
        let Comparison { rows, groups, .. } = comparison;
        let sections = groups.iter().map(|group| Section::new(comparison, group)).collect();
        let mut all: Vec<Note> = Vec::new();
        for note in groups.iter().flat_map(|group| notes(comparison, &comparison.rows_of(group).collect::<Vec<_>>())) {
            // Groups have the same notes, each with its own run as the example.
            if !all.iter().any(|other| other.what == note.what) {
                all.push(note);
            }
        }
        let weights: BTreeSet<Weights> = rows.iter().filter_map(|row| row.weights).collect();
        if let (Some(weights), 1) = (weights.first(), weights.len()) {
            all.insert(0, Note::new(format!("val acc and test acc are those of the {weights} weights")));
        }
        all.extend(meanings(comparison));
        let lead = "accuracies on different data cannot be compared: each data set is ranked by itself";
        Sheet { lead: (groups.len() > 1).then_some(lead), sections, notes: all }
    }

    /// As [`Sheet::for_screen`], with names that leave room for what is said of them.
    pub fn for_terminal(comparison: &Comparison) -> Sheet {
        let mut sheet = Sheet::for_screen(comparison);
        let cut = |name: &mut String| *name = shortened(name, CELL_MAX);
        for section in &mut sheet.sections {
            section.rows.iter_mut().for_each(|row| cut(&mut row[0]));
            section.verdicts.iter_mut().flat_map(|found| &mut found.rows).for_each(|row| cut(&mut row[0]));
        }
        sheet
    }

    /// Puts a comparison into cells for a screen: accuracies and times come first, then settings; columns that are the same in all
    /// rows become a note, and accuracies over seeds have no range. Markdown, CSV and JSON have everything.
    pub fn for_screen(comparison: &Comparison) -> Sheet {
        let Sheet { lead, sections, mut notes } = Sheet::new(comparison);
        notes.iter_mut().for_each(|note| note.what = note.what.replace(RANGE, ""));
        let sections = sections.into_iter().map(|section| section.for_screen(comparison.ranked_by)).collect();
        Sheet { lead, sections, notes }
    }

    /// Writes Markdown tables with their notes below; `note` writes a note.
    pub fn markdown(&self, note: impl Fn(&Note) -> String) -> String {
        let list =
            |notes: &[Note]| notes.iter().map(|each| format!("- {}\n", markdown(&note(each)))).collect::<String>();
        let mut parts: Vec<String> = self.lead.iter().map(|lead| format!("{lead}\n")).collect();
        for section in &self.sections {
            parts.extend(section.title.iter().map(|title| format!("**{}**\n", markdown(title))));
            let (rows, align) = section.table();
            parts.extend([markdown_table(&rows, &align), list(&section.notes)]);
            parts.extend(section.verdicts.iter().map(|verdicts| verdicts.markdown(&note)));
        }
        parts.push(list(&self.notes));
        parts.retain(|part| !part.is_empty());
        parts.join("\n")
    }
}

impl Section {
    fn new(comparison: &Comparison, group: &Group) -> Section {
        let rows: Vec<&Row> = comparison.rows_of(group).collect();
        let is_varied = |key: &&String| rows.iter().any(|row| row.settings.get(*key) != rows[0].settings.get(*key));
        let keys: Vec<String> = comparison.keys.iter().filter(is_varied).cloned().collect();
        let several = comparison.rows.iter().any(|row| row.seeds.len() > 1);
        let (own, further) = keys.split_at(keys.len().min(KEYS_MAX));
        let mut columns = vec![text("run")];
        columns.extend(several.then(|| number("seeds")));
        columns.push(text("model"));
        let numeric = |key: &String| {
            let values: Vec<_> = rows.iter().filter_map(|row| row.settings.get(key)).collect();
            values.iter().all(|value| value.is_integer() || value.is_float())
        };
        columns.extend(own.iter().map(|key| Column { title: title(key, &keys), is_number: numeric(key) }));
        columns.extend(["parameters", "FLOPs", "training time"].map(number));
        let weights: BTreeSet<Weights> = comparison.rows.iter().filter_map(|row| row.weights).collect();
        let mixed = weights.len() > 1;
        columns.extend(mixed.then(|| text("weights")));
        // Measured ones and means while training say different things of a row.
        let is_running = |row: &&Row| row.train_acc.is_some() && !row.train_acc_measured;
        let has_both = rows.iter().any(is_running) && rows.iter().any(|row| row.train_acc_measured);
        columns.push(number("train acc"));
        columns.extend(has_both.then(|| number("while training")));
        columns.extend(["val acc", "test acc"].map(number));
        let cells = |row: &&Row| {
            let mut cells = vec![row.name.clone()];
            cells.extend(several.then(|| row.seeds.len().to_string()));
            cells.push(row.model.as_deref().map_or("-".to_string(), |model| shortened(model, CELL_MAX)));
            cells.extend(own.iter().map(|key| cell(row.settings.get(key), shared(&rows, key))));
            cells.push(numbers::count(row.parameters as u64));
            cells.push(row.flops_forward.map_or("-".to_string(), numbers::flops));
            cells.push(time(row.seconds));
            cells.extend(mixed.then(|| row.weights.map_or("-".to_string(), |weights| weights.to_string())));
            let train = accuracy(row.train_acc, row.seeds.len());
            match (is_running(row), has_both) {
                (true, true) => cells.extend(["-".to_string(), format!("~{train}")]),
                (true, false) => cells.push(format!("~{train}")),
                (false, true) => cells.extend([train, "-".to_string()]),
                (false, false) => cells.push(train),
            }
            cells.push(accuracy(row.val_acc, row.seeds.len()));
            cells.push(accuracy(row.test_acc, row.seeds.len()));
            cells
        };
        let is_alone = comparison.groups.len() == 1;
        Section {
            title: (!is_alone).then(|| format!("data: {}", group.data)),
            rows: rows.iter().map(cells).collect(),
            columns,
            notes: [why_unranked(comparison.ranked_by, &rows, is_alone), more_settings(further)]
                .into_iter()
                .flatten()
                .collect(),
            verdicts: Verdicts::new(comparison, group),
        }
    }

    fn for_screen(self, ranked_by: Measure) -> Section {
        let place = |title: &str| match title {
            "run" => 0,
            "seeds" => 1,
            "val acc" if ranked_by == Measure::Validation => 2,
            "test acc" if ranked_by == Measure::Test => 2,
            "val acc" | "test acc" => 3,
            "train acc" | "while training" => 4,
            "training time" => 5,
            "weights" => 7,
            "parameters" => 8,
            "FLOPs" => 9,
            "model" => 10,
            // The settings.
            _ => 6,
        };
        let Section { title, columns, rows, mut notes, verdicts } = self;
        let mut order: Vec<usize> = (0..columns.len()).collect();
        order.sort_by_key(|&at| place(&columns[at].title));
        let is_same = |at: &usize| place(&columns[*at].title) >= 8 && rows.iter().all(|row| row[*at] == rows[0][*at]);
        if rows.len() > 1 {
            let (same, own): (Vec<usize>, Vec<usize>) = order.into_iter().partition(is_same);
            let same: Vec<String> = same.iter().map(|&at| format!("{} {}", columns[at].title, rows[0][at])).collect();
            if !same.is_empty() {
                notes.insert(0, Note::new(format!("the same in all rows: {}", same.join(", "))));
            }
            order = own;
        }
        let without_range = |cell: &String| match (cell.find(" ("), cell.find(')')) {
            (Some(start), Some(end)) if start < end => format!("{}{}", &cell[..start], &cell[end + 1..]),
            _ => cell.clone(),
        };
        let cell = |row: &Vec<String>, at: usize| {
            if columns[at].title.ends_with(" acc") || columns[at].title == "while training" {
                without_range(&row[at])
            } else {
                row[at].clone()
            }
        };
        let rows = rows.iter().map(|row| order.iter().map(|&at| cell(row, at)).collect()).collect();
        let columns = order.iter().map(|&at| columns[at].clone()).collect();
        Section { title, columns, rows, notes, verdicts }
    }

    /// The titles, then the rows, and the alignment of their cells.
    pub fn table(&self) -> (Vec<Vec<String>>, Vec<Align>) {
        let titles = self.columns.iter().map(|column| column.title.clone()).collect();
        let align = |column: &Column| if column.is_number { Align::Right } else { Align::Left };
        ([vec![titles], self.rows.clone()].concat(), self.columns.iter().map(align).collect())
    }
}

impl Comparison {
    /// Writes every figure and every setting that differs as CSV; accuracies are fractions of 1.
    pub fn csv(&self) -> String {
        const FIGURES: [&str; 4] = ["seconds", "train_acc", "val_acc", "test_acc"];
        let mut head: Vec<String> = ["run", "n", "seeds", "model"].map(str::to_string).to_vec();
        head.extend(self.keys.iter().cloned());
        head.extend(["parameters", "flops_forward"].map(str::to_string));
        for figure in FIGURES {
            head.extend(["", "_sd", "_min", "_max"].map(|part| format!("{figure}{part}")));
        }
        let last = ["train_acc_from", "weights", "val_acc_low", "val_acc_high", "test_acc_low", "test_acc_high"];
        head.extend(last.map(str::to_string));
        head.extend(["against", "ranked_by", "difference", "p", "p_adjusted", "within_noise"].map(str::to_string));
        let mut text = csv::line(head.iter().map(String::as_str));
        for row in &self.rows {
            let seeds: Vec<String> = row.seeds.iter().map(u64::to_string).collect();
            let mut cells = vec![row.name.clone(), row.seeds.len().to_string(), seeds.join(" ")];
            cells.push(row.model.clone().unwrap_or_default());
            cells.extend(self.keys.iter().map(|key| row.settings.get(key).map_or(String::new(), |v| shown(Some(v)))));
            cells.push(row.parameters.to_string());
            cells.push(row.flops_forward.map_or(String::new(), |flops| flops.to_string()));
            for spread in [row.seconds, row.train_acc, row.val_acc, row.test_acc] {
                let values = spread.map_or([None; 4], |s| [Some(s.mean), s.sd, Some(s.min), Some(s.max)]);
                cells.extend(values.map(|value| value.map_or(String::new(), numbers::exact)));
            }
            let from = if row.train_acc_measured { "evaluate" } else { "last epoch" };
            cells.push(row.train_acc.map_or("", |_| from).to_string());
            cells.push(row.weights.map_or(String::new(), |weights| weights.to_string()));
            let number = |value: Option<f64>| value.map_or(String::new(), numbers::exact);
            for interval in [row.val_acc_interval, row.test_acc_interval] {
                cells.extend([0, 1].map(|end| number(interval.map(|interval| interval[end]))));
            }
            let difference = row.difference.as_ref();
            cells.push(self.reference_of(row).cloned().unwrap_or_default());
            cells.push(self.ranked_by.split().to_string());
            cells.push(number(difference.map(|difference| difference.mean)));
            cells.push(number(difference.and_then(|difference| difference.basis.p())));
            cells.push(number(difference.and_then(|difference| difference.p_adjusted)));
            let within = difference.and_then(|difference| difference.within_noise);
            cells.push(within.map_or(String::new(), |within| within.to_string()));
            text.push_str(&csv::line(cells.iter().map(String::as_str)));
        }
        text
    }
}

fn text(title: &str) -> Column {
    Column { title: title.to_string(), is_number: false }
}

fn number(title: &str) -> Column {
    Column { title: title.to_string(), is_number: true }
}

/// A key without its table, if that is unique.
fn title(key: &str, keys: &[String]) -> String {
    let last = |key: &str| key.rsplit('.').next().unwrap_or(key).to_string();
    let alone = keys.iter().filter(|other| last(other) == last(key)).count() == 1;
    // A data set's name is named after its table.
    if key == "data.name" {
        "data".to_string()
    } else if alone {
        last(key)
    } else {
        key.to_string()
    }
}

/// A value, of a long number the first digits.
/// Bytes at the start of a setting that all rows share, up to the end of a value of a list: where a cell would be cut, it
/// shows what differs.
fn shared(rows: &[&Row], key: &str) -> usize {
    let texts: Vec<String> = rows.iter().map(|row| shown(row.settings.get(key))).collect();
    let same = |other: &String| texts[0].bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let most = texts.iter().map(same).min().unwrap_or(0);
    match texts.iter().any(|text| width(text) > CELL_MAX) {
        true => texts[0].as_bytes()[..most].windows(2).rposition(|bytes| bytes == b", ").map_or(0, |at| at + 2),
        false => 0,
    }
}

/// A setting; without its first bytes, which all rows share.
fn cell(value: Option<&Value>, shared: usize) -> String {
    let text = shown(value);
    let text = if shared > 0 { format!("~{}", &text[shared..]) } else { text };
    match value {
        Some(Value::Float(number)) if text.len() > DIGITS_MAX && text.contains('e') => format!("{number:.2e}"),
        Some(Value::Float(number)) if text.len() > DIGITS_MAX => format!("{number:.4}"),
        _ => shortened(&text, CELL_MAX),
    }
}

fn time(seconds: Option<Spread>) -> String {
    let Some(Spread { mean, sd, .. }) = seconds else { return "-".to_string() };
    match sd {
        None => durations::duration(mean),
        Some(sd) => format!("{} ± {}", durations::duration(mean), durations::duration(sd)),
    }
}

/// `57.11 %`, or with several seeds `57.11 ± 0.42 % (56.81 to 57.40)`, or where some of `runs` have none, `of 2 runs`.
pub fn accuracy(spread: Option<Spread>, runs: usize) -> String {
    let Some(Spread { n, mean, sd, min, max }) = spread else { return "-".to_string() };
    let percent = |x: f64| format!("{:.2}", 100.0 * x);
    let text = match sd {
        None => format!("{} %", percent(mean)),
        Some(sd) => format!("{} ± {} % ({} to {})", percent(mean), percent(sd), percent(min), percent(max)),
    };
    match n {
        _ if n == runs => text,
        1 => format!("{text} of 1 run"),
        _ => format!("{text} of {n} runs"),
    }
}

/// The command that evaluates a row's first run.
pub fn evaluate(row: &Row) -> Command {
    row.folders.iter().take(1).fold(Command::new(Verb::Evaluate), |command, folder| command.operand(folder))
}

/// What some columns mean, and how to measure what is missing in some rows of a group.
fn notes(comparison: &Comparison, rows: &[&Row]) -> Vec<Note> {
    let by = comparison.ranked_by;
    let mut notes = Vec::new();
    if rows.iter().any(|row| row.flops_forward.is_some()) {
        notes.push(Note::new("FLOPs: forward pass of one image; a multiply-add is two"));
    }
    if rows.iter().any(|row| row.seeds.len() > 1) {
        notes.push(Note::new(format!(
            "runs that differ only in the seed are one row: mean ± standard deviation{RANGE}"
        )));
    }
    // A command for one of the rows is enough as an example.
    let split = |row: &Row, split: &str| {
        let evaluate = evaluate(row).with(Argument::Split, split);
        Suggestion::new().text("measure it with").run(evaluate)
    };
    if let Some(row) = rows.iter().find(|row| row.train_acc.is_some() && !row.train_acc_measured) {
        let text = "~ is the mean over the last epoch's batches, while the weights changed, not the training accuracy of \
                    the final weights";
        notes.push(Note::new(text).suggest(split(row, "train")));
    }
    if let Some(row) = rows.iter().find(|row| row.val_acc.is_none() && row.weights.is_some() && row.has_validation) {
        notes.push(Note::new("no validation accuracy of these weights (-)").suggest(split(row, "val")));
    }
    let untested: Vec<&Row> = rows.iter().copied().filter(|row| row.test_acc.is_none()).collect();
    let validation = |row: &Row| row.val_acc.map_or(f64::NEG_INFINITY, |spread| spread.mean);
    let no_test = Note::new("no test accuracy (-)");
    match (by, untested.first()) {
        // Where one has been tested, the others need not be: they were not chosen.
        (Measure::Validation, _) if rows.len() > 1 && untested.len() < rows.len() => {}
        (Measure::Validation, Some(_)) if rows.len() > 1 && rows.iter().any(|row| row.has_validation) => {
            let best = rows.iter().max_by(|a, b| validation(a).total_cmp(&validation(b)));
            let choose =
                Suggestion::new().text("choose a run by its validation accuracy, then measure it, such as with");
            notes.extend(best.map(|best| no_test.suggest(choose.run(evaluate(best)))));
        }
        (_, Some(row)) => {
            notes.push(no_test.suggest(Suggestion::new().text("measure it with").run(evaluate(row))));
        }
        _ => {}
    }
    notes
}

/// Why nothing is ranked, if that is so. `is_alone`: there are no other groups.
fn why_unranked(by: Measure, rows: &[&Row], is_alone: bool) -> Option<Note> {
    let is_known = |by: Measure| rows.iter().filter(|row| by.of(row).is_some()).count() > 1;
    if rows.len() < 2 {
        return (!is_alone).then(|| Note::new("not ranked: no other row is on this data"));
    }
    if is_known(by) {
        return None;
    }
    let unranked = Note::new(format!("nothing is ranked, because fewer than two rows have a {by}"));
    match by {
        Measure::Test => Some(unranked),
        Measure::Validation if is_known(Measure::Test) => {
            let rank = Suggestion::new().with(Argument::By, "test").text("to rank by test accuracy");
            Some(unranked.suggest(rank.text(", which is then too high for the best row")))
        }
        Measure::Validation => None,
    }
}

/// Names the settings without a column.
fn more_settings(further: &[String]) -> Option<Note> {
    let (named, others) = further.split_at(further.len().min(KEYS_NAMED));
    let others = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
    let verb = if further.len() == 1 { "differs" } else { "differ" };
    let count = format!("{} {verb}", numbers::counted(further.len(), "more setting"));
    let csv = Suggestion::new().with(Argument::Format, "csv").text("for all");
    (!further.is_empty()).then(|| Note::new(format!("{count}: {}{others}", named.join(", "))).suggest(csv))
}

#[cfg(test)]
mod tests {
    use super::super::{Against, testing};
    use super::*;
    use std::path::PathBuf;

    fn row(name: &str, test: &[f64]) -> Row {
        Row {
            name: name.to_string(),
            data: "photos".to_string(),
            folders: vec![PathBuf::from(name)],
            seeds: vec![1],
            model: Some("ViT 2 blocks, 3 heads, width 6".to_string()),
            settings: [("train.lr".to_string(), Value::Float(if name == "a" { 0.5 } else { 0.25 }))].into(),
            parameters: 106_122,
            flops_forward: Some(2_500_000),
            seconds: Spread::of(&[75.0]),
            weights: Some(Weights::Best),
            train_acc: Spread::of(&[0.5]),
            train_acc_measured: true,
            val_acc: Spread::of(&[0.375]),
            val_acc_interval: None,
            test_acc: Spread::of(test),
            test_acc_interval: Some([0.125, 0.5]),
            has_validation: true,
            difference: None,
        }
    }

    #[test]
    fn a_screen_has_accuracies_first_and_no_constant_columns() {
        let several = Row { seeds: vec![1, 2], test_acc: Spread::of(&[0.25, 0.35]), ..row("a", &[]) };
        let deep = Row { parameters: 7, ..row("b", &[0.5]) };
        let comparison = comparison(vec![several, deep]);
        let Section { columns, rows, notes, .. } = section(Sheet::for_screen(&comparison));
        let titles: Vec<&str> = columns.iter().map(|column| column.title.as_str()).collect();
        assert_eq!(titles, ["run", "seeds", "test acc", "val acc", "train acc", "training time", "lr", "parameters"]);
        assert_eq!(rows[0][..4], ["a", "2", "30.00 ± 7.07 %", "37.50 % of 1 run"]);
        assert_eq!(notes[0].what, "the same in all rows: FLOPs 2.5 MFLOP, model ViT 2 blocks, 3 heads, width 6");
        assert_eq!(section(Sheet::new(&comparison)).columns.len(), 10, "Markdown has them all");
        // Of one row all is shown.
        assert_eq!(section(Sheet::for_screen(&self::comparison(vec![row("a", &[0.25])]))).columns.len(), 8);
    }

    #[test]
    fn hints_name_only_splits_that_a_run_has_and_say_why_nothing_is_ranked() {
        let notes = |has_validation, ranked_by| {
            let row = Row { val_acc: None, has_validation, ..row("a", &[]) };
            all_notes(&Comparison { ranked_by, ..comparison(vec![row.clone(), row]) }).join("\n")
        };
        assert!(notes(true, Measure::Validation).contains("measure it with evaluate a split = \"val\""));
        assert!(!notes(false, Measure::Validation).contains("val\""));
        let why = "nothing is ranked, because fewer than two rows have a test accuracy";
        assert!(notes(false, Measure::Test).contains(why) && !notes(false, Measure::Validation).contains(why));
    }

    /// All notes with their suggestions.
    fn all_notes(comparison: &Comparison) -> Vec<String> {
        let Sheet { sections, notes, .. } = Sheet::new(comparison);
        let suggestion = |note: &Note| note.suggestion.as_ref().map_or(String::new(), |text| format!("; {text}"));
        let all = sections.into_iter().flat_map(|section| section.notes).chain(notes);
        all.map(|note| format!("{note}{}", suggestion(&note))).collect()
    }

    /// The only section.
    fn section(mut sheet: Sheet) -> Section {
        assert_eq!((sheet.sections.len(), sheet.lead), (1, None));
        sheet.sections.remove(0)
    }

    fn comparison(rows: Vec<Row>) -> Comparison {
        Comparison { keys: vec!["train.lr".to_string()], ..testing::comparison(rows) }
    }

    #[test]
    fn a_row_of_one_run_has_plain_figures() {
        let sheet = Sheet::new(&comparison(vec![row("a|b", &[0.25])]));
        let expected = "\
| run | model | parameters | FLOPs | training time | train acc | val acc | test acc |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
| a\\|b | ViT 2 blocks, 3 heads, width 6 | 106,122 | 2.5 MFLOP | 1 min 15 s | 50.00 % | 37.50 % | 25.00 % |

- val acc and test acc are those of the best weights
- FLOPs: forward pass of one image; a multiply-add is two
";
        assert_eq!(sheet.markdown(Note::to_string), expected);
    }

    #[test]
    fn a_row_of_several_has_their_spread_and_says_what_is_missing() {
        let several = Row {
            seeds: vec![1, 2, 3],
            seconds: Spread::of(&[70.0, 80.0]),
            train_acc_measured: false,
            val_acc: None,
            ..row("a", &[0.25, 0.35])
        };
        let sheet = Sheet::new(&comparison(vec![several, row("b", &[])]));
        let Section { columns, rows, .. } = section(sheet.clone());
        assert_eq!(columns[1].title, "seeds");
        assert_eq!(
            rows[0][6..],
            ["1 min 15 s ± 7.07 s", "-", "~50.00 % of 1 run", "-", "30.00 ± 7.07 % (25.00 to 35.00) of 2 runs"]
        );
        assert_eq!((rows[1][1].as_str(), rows[1][10].as_str()), ("1", "-"));
        let starts = [
            "val acc and test acc are ",
            "FLOPs: ",
            "runs that differ only in the seed",
            "~ is the mean over",
            "no validation accuracy of these weights (-)",
            "no test accuracy (-)",
        ];
        assert_eq!(
            sheet.sections[0].notes[0].what,
            "nothing is ranked, because fewer than two rows have a test accuracy"
        );
        assert_eq!(sheet.notes.len(), starts.len());
        assert!(sheet.notes.iter().zip(starts).all(|(note, start)| note.what.starts_with(start)), "{:?}", sheet.notes);
    }

    #[test]
    fn long_settings_show_what_differs() {
        let with = |layers: &str| Row {
            settings: [("model.layers".to_string(), Value::Array(layers.split(", ").map(Value::from).collect()))]
                .into(),
            ..row("a", &[0.25])
        };
        let start = "conv 32, relu, conv 32, relu, maxpool 2, conv 64";
        let cells = |rows: Vec<Row>| {
            let sheet = Sheet::new(&Comparison { keys: vec!["model.layers".to_string()], ..comparison(rows) });
            section(sheet).rows.into_iter().map(|row| row[2].clone()).collect::<Vec<_>>()
        };
        let both = [format!("{start}, relu, linear 10"), format!("{start}, batchnorm, relu, linear 10")];
        let found = cells(both.iter().map(|layers| with(layers)).collect());
        assert!(found[0].starts_with("~relu, linear") || found[0].starts_with("~\"relu\", \"linear"), "{found:?}");
        assert!(found[1].contains("batchnorm") && !found[1].contains("conv 32"), "{found:?}");
        let short = cells(vec![with("conv 32, relu"), with("conv 32, tanh")]);
        assert!(short.iter().all(|cell| cell.contains("conv 32")), "{short:?}");
    }

    #[test]
    fn nobody_is_asked_to_test_what_was_not_chosen() {
        let notes = |rows: Vec<Row>, ranked_by| {
            let notes = all_notes(&Comparison { ranked_by, ..comparison(rows) });
            notes.into_iter().filter(|note| note.contains("test accuracy")).collect::<Vec<_>>()
        };
        let (tested, untested) = (row("a", &[0.25]), row("b", &[]));
        let all =
            "no test accuracy (-); choose a run by its validation accuracy, then measure it, such as with evaluate c";
        let plain = "no test accuracy (-); measure it with evaluate b";
        let better = Row { val_acc: Spread::of(&[0.5]), ..row("c", &[]) };
        assert_eq!(notes(vec![untested.clone(), better, untested.clone()], Measure::Validation), [all]);
        assert_eq!(notes(vec![tested.clone(), untested.clone()], Measure::Validation), [""; 0]);
        assert_eq!(notes(vec![untested.clone()], Measure::Validation), [plain]);
        // Without a validation split, nothing can be chosen by it.
        let bare = |name: &str| Row { val_acc: None, has_validation: false, ..row(name, &[]) };
        assert_eq!(notes(vec![bare("b"), bare("c")], Measure::Validation), [plain]);
        let unranked = "nothing is ranked, because fewer than two rows have a test accuracy";
        assert_eq!(notes(vec![tested.clone(), untested], Measure::Test), [unranked, plain]);
        // Rows without a validation split are ranked only where that is asked for.
        let old = |row: &Row| Row { val_acc: None, ..row.clone() };
        let found = notes(vec![old(&tested), old(&tested)], Measure::Validation);
        assert!(
            found.len() == 1 && found[0].starts_with("nothing is ranked, because fewer than two rows "),
            "{found:?}"
        );
    }

    #[test]
    fn training_accuracies_of_two_kinds_have_two_columns() {
        let running = Row { train_acc_measured: false, ..row("b", &[0.25]) };
        let sheet = Sheet::for_screen(&comparison(vec![row("a", &[0.25]), running.clone()]));
        let Section { columns, rows, .. } = &sheet.sections[0];
        assert_eq!([&columns[3].title, &columns[4].title], ["train acc", "while training"]);
        assert_eq!([&rows[0][3..5], &rows[1][3..5]], [["50.00 %", "-"], ["-", "~50.00 %"]]);
        let alike = Sheet::for_screen(&comparison(vec![running.clone(), running]));
        assert_eq!(alike.sections[0].rows[0][3], "~50.00 %");
    }

    #[test]
    fn weights_have_a_column_where_they_are_not_the_same() {
        let last = Row { weights: Some(Weights::Last), ..row("b", &[0.25]) };
        let unknown = Row { weights: None, ..row("c", &[]) };
        let sheet = Sheet::new(&comparison(vec![row("a", &[0.25]), last, unknown]));
        let Section { columns, rows, .. } = &sheet.sections[0];
        assert_eq!(columns[6].title, "weights");
        let cells: Vec<&str> = rows.iter().map(|row| row[6].as_str()).collect();
        assert_eq!(cells, ["best", "last", "-"]);
        assert!(sheet.notes[0].what.starts_with("FLOPs: "), "{:?}", sheet.notes);
    }

    #[test]
    fn many_settings_are_named_below_and_all_in_csv() {
        let keys: Vec<String> = (0..8).map(|i| format!("train.k{i}")).collect();
        let with = |value: i64| Row {
            settings: keys.iter().map(|key| (key.clone(), Value::Integer(value))).collect(),
            ..row("a,b", &[0.25])
        };
        let rows = vec![with(1), with(2)];
        let all = Comparison { keys, ..comparison(rows) };
        let sheet = Sheet::new(&all);
        assert_eq!(sheet.sections[0].columns.len(), 2 + KEYS_MAX + 6);
        assert_eq!(all_notes(&all)[0], "2 more settings differ: train.k6, train.k7; use format = \"csv\" for all");
        let csv = all.csv();
        let lines: Vec<&str> = csv.lines().collect();
        assert!(
            lines[0].starts_with("run,n,seeds,model,train.k0,")
                && lines[0].ends_with(
                    ",test_acc,test_acc_sd,test_acc_min,test_acc_max,train_acc_from,weights,val_acc_low,val_acc_high,\
                     test_acc_low,test_acc_high,against,ranked_by,difference,p,p_adjusted,within_noise"
                )
        );
        assert!(
            lines[1].starts_with("\"a,b\",1,1,\"ViT 2 blocks, 3 heads, width 6\",1,1,1,1,1,1,1,1,106122,")
                && lines[1].ends_with(",0.25,,0.25,0.25,evaluate,best,,,0.125,0.5,,test,,,,"),
            "{csv}"
        );
    }

    #[test]
    fn rows_on_other_data_have_a_table_of_their_own() {
        let on = |data: &str, name: &str, lr: f64| {
            let settings = [("train.lr".to_string(), Value::Float(lr))].into();
            Row { data: data.to_string(), settings, ..row(name, &[0.25]) }
        };
        let rows = vec![on("photos", "a", 0.5), on("mnist", "b", 0.5), on("mnist", "c", 0.25)];
        let mut comparison = comparison(rows);
        comparison.hold_against(Against::Best).unwrap();
        let text = Sheet::for_screen(&comparison).markdown(Note::to_string);
        let expected = "\
accuracies on different data cannot be compared: each data set is ranked by itself

**data: mnist**

| run | test acc | val acc | train acc | training time | lr |
| --- | ---: | ---: | ---: | ---: | ---: |
| b | 25.00 % | 37.50 % | 50.00 % | 1 min 15 s | 0.5 |
| c | 25.00 % | 37.50 % | 50.00 % | 1 min 15 s | 0.25 |

- the same in all rows: parameters 106,122, FLOPs 2.5 MFLOP, model ViT 2 blocks, 3 heads, width 6

Test accuracy against the best, b: 25.00 % (95 % interval 12.50 % to 50.00 %)

| run | difference | verdict | p | basis |
| --- | ---: | --- | ---: | --- |
| c | +0.00 points | unknown | - | c: the predictions of its best weights are not saved |
";
        assert!(text.starts_with(expected), "{text}");
        let alone = "\n**data: photos**\n\n| run | test acc | val acc | train acc | training time | parameters | FLOPs | model |\n";
        let (_, photos) = text.split_once(alone).expect(&text);
        assert!(
            photos.contains("\n\n- not ranked: no other row is on this data\n\n- val acc and test acc are "),
            "{text}"
        );
    }

    #[test]
    fn keys_of_one_name_keep_their_tables() {
        let keys = ["model.scale", "augment.scale", "train.lr", "data.name"].map(str::to_string);
        let third = Value::Float(1.0 / 12.0);
        assert_eq!([cell(Some(&third), 0), cell(Some(&Value::Float(1e-9 / 3.0)), 0)], ["0.0833", "3.33e-10"]);
        assert_eq!(keys.each_ref().map(|key| title(key, &keys)), ["model.scale", "augment.scale", "lr", "data"]);
    }
}
