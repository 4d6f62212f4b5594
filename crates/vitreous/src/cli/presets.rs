//! `vitreous presets`: lists the built-in experiments, or prints the file of one as a starting point.

use serde::Serialize;

use super::screen::{Align, table};
use super::settings::shell_word;
use super::{CliError, json, show};
use crate::config::layers::Layers;
use crate::config::presets;
use crate::data_sets::{DATA_SETS, data_set};

/// Lists the presets, or prints the file of one as a starting point
#[derive(clap::Args)]
pub struct Args {
    /// Print the file of this preset, such as mnist-vit
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// List presets with this text in their row, such as cifar or cnn
    #[arg(long, value_name = "TEXT", conflicts_with = "name")]
    filter: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is printed as JSON for all of them.
#[derive(Serialize)]
struct Answer {
    presets: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    purpose: &'static str,
    data: String,
    parameters: &'static str,
    accuracy: Option<&'static str>,
    time: Option<&'static str>,
    command: &'static str,
}

impl Row {
    fn of(name: &'static str) -> Option<Row> {
        let presets::Facts { command, purpose, parameters, reached, time } = presets::facts(name)?;
        let data = Layers::preset(name).and_then(Layers::finish).ok()?.config().data.name.clone();
        Some(Row { name, purpose, data, parameters, accuracy: reached, time, command })
    }

    fn cells(&self) -> [String; 6] {
        let Row { accuracy, time, .. } = self;
        [self.name, self.purpose, &self.data, self.parameters, accuracy.unwrap_or("-"), time.unwrap_or("-")]
            .map(str::to_string)
    }

    /// The same for a narrow screen.
    fn narrow(&self) -> [[String; 2]; 2] {
        let facts = [self.accuracy, self.time].map(|fact| fact.map_or_else(String::new, |fact| format!(", {fact}")));
        let facts = format!("{}, {} parameters{}", self.data, self.parameters, facts.concat());
        [[self.name.to_string(), self.purpose.to_string()], [String::new(), facts]]
    }

    fn contains(&self, text: &str) -> bool {
        self.cells().iter().any(|cell| cell.to_lowercase().contains(&text.to_lowercase()))
    }
}

/// Whether a preset has this name.
pub fn is_preset(name: &str) -> bool {
    presets::text(name).is_some()
}

/// The data set whose presets suit another one: itself, or one with images of the same shape.
pub fn presets_for(name: &str) -> &str {
    let has_preset = |set: &str| presets::names().filter_map(Row::of).any(|row| row.data == set);
    let shape = data_set(name).map(|set| set.shape);
    let mut with_files = DATA_SETS.iter().filter(|set| set.download.is_some());
    let like = with_files.find(|set| Some(set.shape) == shape && has_preset(set.name));
    if has_preset(name) { name } else { like.map_or(name, |set| set.name) }
}

/// The preset that an argument names.
///
/// # Errors
/// When the argument is a path, for which there are flags.
pub fn preset_of(argument: String) -> Result<String, CliError> {
    let path = std::path::Path::new(&argument);
    let flag = match () {
        () if is_preset(&argument) => return Ok(argument),
        () if path.is_dir() => "--data",
        () if path.is_file() => "--config",
        () => return Ok(argument),
    };
    let error = format!("`{argument}` is a {}, not a preset", if path.is_dir() { "folder" } else { "file" });
    Err(CliError::user(error, Some(format!("use {flag} {}", shell_word(path)))))
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), CliError> {
    if let Some(name) = &args.name {
        // An unknown one is an error here.
        Layers::preset(name)?;
        let text = presets::text(name).unwrap_or_default();
        return show(&if args.json {
            json(&serde_json::json!({ "name": name, "text": text }))
        } else {
            text.to_string()
        });
    }
    let mut rows: Vec<Row> = presets::names().filter_map(Row::of).collect();
    if let Some(text) = &args.filter {
        rows.retain(|row| row.contains(text));
        if rows.is_empty() {
            let error = format!("no preset contains `{text}` (--filter)");
            return Err(CliError::user(error, Some("list them all with `vitreous presets`".to_string())));
        }
    }
    if args.json {
        return show(&json(&Answer { presets: rows }));
    }
    let mut lines = vec![["preset", "purpose", "data", "parameters", "accuracy", "time"].map(str::to_string)];
    lines.extend(rows.iter().map(Row::cells));
    let (left, right) = (Align::Left, Align::Right);
    let text = table(&lines, &[left, left, left, right, left, left]);
    // Split into blocks, no row could be read as a whole.
    let is_split = text.contains("\n\n");
    show(&if is_split {
        table(&rows.iter().flat_map(Row::narrow).collect::<Vec<_>>(), &[left, Align::Wrap])
    } else {
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_set_without_presets_leads_to_those_for_images_of_its_shape() {
        let names = ["mnist", "fashion-mnist", "kmnist", "cifar10", "cifar100", "cifar100-coarse"];
        let expected = ["mnist", "fashion-mnist", "mnist", "cifar10", "cifar10", "cifar10"];
        assert_eq!(names.map(presets_for), expected);
    }
}
