//! `vitreous presets`: the experiments that come with the program, and the file of each, to be copied and edited.

use serde::Serialize;

use super::screen::{Align, table};
use super::settings::{as_written, imagined};
use super::{CliError, json, show};
use crate::config::layers::Layers;
use crate::config::presets;

/// Lists the presets, or prints the file of one, to be copied and edited
#[derive(clap::Args)]
pub struct Args {
    /// The preset whose file is printed, such as mnist-vit
    #[arg(value_name = "NAME")]
    name: Option<String>,
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
    data: String,
    model: String,
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
    let rows: Vec<Row> = presets::names().map(row).collect::<Result<_, _>>()?;
    if args.json {
        return show(&json(&Answer { presets: rows }));
    }
    let mut lines = vec![["preset", "data", "model"].map(str::to_string)];
    lines.extend(rows.into_iter().map(|row| [row.name.to_string(), row.data, row.model]));
    show(&table(&lines, &[Align::Left; 3]))
}

fn row(name: &'static str) -> Result<Row, CliError> {
    let checked = Layers::preset(name)?.finish()?;
    let config = checked.resolve(as_written(&checked.config().model, imagined(&checked.config().data)?))?;
    Ok(Row { name, data: config.data.name.clone(), model: config.model.describe() })
}
