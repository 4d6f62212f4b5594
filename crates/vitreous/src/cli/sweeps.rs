//! `vitreous sweeps`: lists the built-in sweeps, or prints the file of one as a starting point.

use serde::Serialize;

use super::screen::{Align, table};
use super::{CliError, json, show};
use crate::numbers;
use crate::sweep::{self, SweepError, SweepFile};

/// Lists the built-in sweeps, or prints the file of one as a starting point
#[derive(clap::Args)]
pub struct Args {
    /// Print the file of this sweep, such as fashion
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    runs: usize,
    purpose: String,
    command: &'static str,
}

impl Row {
    fn of(name: &'static str) -> Result<Row, CliError> {
        let text = sweep::text(name).unwrap_or_default();
        let mut header = text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
        let command = header.next().unwrap_or_default();
        let paragraph = header.skip(1).take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        let purpose = paragraph.split_inclusive(['.', ':']).next().unwrap_or_default();
        let settings = SweepFile::parse(text, name)?.expand()?;
        let runs = settings.iter().map(|setting| setting.seeds.len().max(1)).sum();
        Ok(Row { name, runs, purpose: purpose.trim_end_matches(['.', ':']).to_string(), command })
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), CliError> {
    if let Some(name) = args.name {
        let text = sweep::text(&name).ok_or_else(|| SweepError::Unknown { name: name.clone() })?;
        return show(&if args.json {
            json(&serde_json::json!({ "name": name, "text": text }))
        } else {
            text.to_string()
        });
    }
    let rows = sweep::names().map(Row::of).collect::<Result<Vec<Row>, CliError>>()?;
    if args.json {
        return show(&json(&serde_json::json!({ "sweeps": rows })));
    }
    let mut lines = vec![["sweep", "runs", "what it compares", "command"].map(str::to_string)];
    lines.extend(
        rows.into_iter()
            .map(|row| [row.name.to_string(), numbers::count(row.runs as u64), row.purpose, row.command.to_string()]),
    );
    show(&table(&lines, &[Align::Left, Align::Right, Align::Wrap, Align::Wrap]))
}
