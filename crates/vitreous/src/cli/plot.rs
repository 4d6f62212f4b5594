//! `vitreous plot`: the plots of runs that exist, made of their folders alone.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::plots::FormatArgs;
use super::runs::{RUNS, run_folder};
use super::{CliError, json, show};
use crate::experiment::plot;
use crate::plots::plot_names;
use crate::record::PLOTS;
use crate::text::some_of;

/// Makes the plots of runs again: training curves, positions, and those of saved evaluations
#[derive(clap::Args)]
pub struct Args {
    /// The runs: their folders, or their names under runs/
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    #[command(flatten)]
    how: FormatArgs,
    /// Print the names of the files as one JSON object
    #[arg(long)]
    json: bool,
}

/// The plots of a run.
#[derive(Serialize)]
struct Made {
    #[serde(serialize_with = "crate::text::lossy")]
    run: PathBuf,
    files: Vec<String>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), CliError> {
    let choice = args.how.choice();
    let make = |run: &PathBuf| -> Result<Made, CliError> {
        let run = run_folder(run, Path::new(RUNS))?;
        Ok(Made { files: plot(&run, &choice)?, run })
    };
    let made: Vec<Made> = args.runs.iter().map(make).collect::<Result<_, _>>()?;
    for one in made.iter().filter(|one| one.files.is_empty()) {
        say!("note: {} has nothing to plot yet: no epoch, no line of metrics", one.run.display());
    }
    for one in made.iter().filter(|one| !one.files.is_empty()) {
        let is_made = |name: &String| one.files.iter().any(|file| file.starts_with(&format!("{PLOTS}/{name}.")));
        let old: Vec<String> = plot_names(&one.run).into_iter().filter(|name| !is_made(name)).collect();
        if !old.is_empty() {
            let old = some_of(&old, 9);
            let folder = one.run.join(PLOTS);
            say!("note: {}: not made again: {old}, for which train and evaluate read the images", folder.display());
        }
    }
    if args.json {
        return show(&json(&serde_json::json!({ "runs": made })));
    }
    let lines = made.iter().flat_map(|one| one.files.iter().map(|file| line!("{}", one.run.join(file).display())));
    show(&lines.collect::<String>())
}
