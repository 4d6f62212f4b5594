//! `vitreous export`: writes what other programs read of a run.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::advice::Context;
use super::runs::{RUNS, run_folder};
use super::settings::shell_word;
use super::{CliError, json, show};
use crate::compare::folders;
use crate::experiment::{Exported, export_tensorboard};

/// Writes files of a run for other programs
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: ExportVerb,
}

#[derive(Subcommand)]
enum ExportVerb {
    /// Writes event files for TensorBoard
    ///
    /// Each run folder gets an event file with what the run has recorded: losses and accuracies, the model's graph, the
    /// weights' histograms, evaluations with their confusion matrices, and hyperparameters. Norms of gradients and sample
    /// images are known only during training: `vitreous train --tensorboard` records them.
    Tensorboard(TensorboardArgs),
}

#[derive(clap::Args)]
#[command(after_help = "Example:
  vitreous export tensorboard runs/* && tensorboard --logdir runs")]
struct TensorboardArgs {
    /// Run folders, or folders of runs, such as runs/*
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Write into folders of the runs' names in this folder, not into the run folders
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), CliError> {
    let ExportVerb::Tensorboard(args) = args.verb;
    let given = args.runs.iter().map(|run| run_folder(run, Path::new(RUNS)));
    let folders = folders(&given.collect::<Result<Vec<PathBuf>, CliError>>()?);
    if let Some(output) = &args.output {
        check_names(&folders, output)?;
    }
    let context = Context::named(&["export", "tensorboard"]);
    let (mut exported, mut failed) = (Vec::new(), Vec::new());
    for (folder, result) in export_tensorboard(&folders, args.output.as_deref()) {
        match result {
            Ok(one) => {
                if !args.json {
                    show(&line!("wrote {}", one.file.display()))?;
                    if !one.missing.is_empty() {
                        say!("note: {} has no record of {}", one.run.display(), one.missing.join(", "));
                    }
                }
                exported.push(one);
            }
            Err(error) => {
                let error = CliError::from(error);
                // With a single run, this error is the result of the command and is printed at its end.
                if folders.len() > 1 && !args.json {
                    error.report(&context);
                }
                failed.push((folder.display().to_string(), error));
            }
        }
    }
    if args.json {
        let run = |one: &Exported| {
            let [run, file] = [&one.run, &one.file].map(|path| path.to_string_lossy().into_owned());
            serde_json::json!({ "run": run, "file": file, "missing": one.missing })
        };
        show(&json(&serde_json::json!({ "runs": exported.iter().map(run).collect::<Vec<_>>() })))?;
    } else if let Some(folder) = exported.first().and_then(|one| one.file.ancestors().nth(2)) {
        say!("see them: {}", viewer(folder));
    }
    match (failed.len(), folders.len()) {
        (0, _) => Ok(()),
        (1, 1) => Err(failed.swap_remove(0).1),
        (bad, all) => Err(CliError::failure(format!("{bad} of {all} runs are not exported"), None).because_of(failed)),
    }
}

/// The command that shows the event files of the runs in a folder.
pub fn viewer(folder: &Path) -> String {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    format!("tensorboard --logdir {}", shell_word(here))
}

/// Two runs of one name would write one file.
fn check_names(folders: &[PathBuf], output: &Path) -> Result<(), CliError> {
    let name = |folder: &PathBuf| folder.file_name().map(ToOwned::to_owned);
    for (number, folder) in folders.iter().enumerate() {
        if let Some(other) = folders[..number].iter().find(|other| name(other) == name(folder)) {
            let (one, other) = (other.display(), folder.display());
            let error = format!("{one} and {other} have the same name ({})", output.display());
            return Err(CliError::user(error, Some("export them into two folders".to_string())));
        }
    }
    Ok(())
}
