//! `vitreous report`: what is known of runs, as files to hand in.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::advice::{Context, shell};
use super::output::{check_output, write_output};
use super::runs::{RUNS, run_folder};
use super::settings::shell_word;
use super::{CliError, compare, json, show};
use crate::advice::{Command, Note, Suggestion, Verb};
use crate::compare::{Against, Measure};
use crate::experiment::{Words, bundled, report, report_comparison};
use crate::numbers;
use crate::record::{RecordError, is_run};
use crate::report::{Packed, bundle, html, notebook};

/// Writes a report of runs as one HTML file that needs no network
///
/// It has results, settings, curves, confusion matrix, mistakes, data, layers, and the command to repeat a run; of
/// several runs their comparison. Nothing is trained or evaluated: what is missing is named with the command for it.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vitreous report runs/digits
  vitreous report runs/digits --bundle digits.zip --notebook
  vitreous report runs/a runs/b --output comparison.html")]
pub struct Args {
    /// The runs: their folders, or their names under runs/; several are compared
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Write the report to this file [default: report.html in the run's folder; of several runs, in the current one]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also pack report, config, results, plots and weights into this archive
    #[arg(long, value_name = "FILE.zip")]
    bundle: Option<PathBuf>,
    /// Also write a Jupyter notebook next to the report, with the commands and their texts and plots
    #[arg(long)]
    notebook: bool,
    /// Print the names and sizes of the files as one JSON object
    #[arg(long)]
    json: bool,
}

/// A file that was written.
#[derive(Serialize)]
struct Written {
    #[serde(serialize_with = "crate::text::lossy")]
    path: PathBuf,
    bytes: u64,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), CliError> {
    let folders = args.runs.iter().map(|run| run_folder(run, Path::new(RUNS))).collect::<Result<Vec<PathBuf>, _>>()?;
    let output = args.output.clone().unwrap_or_else(|| match folders.as_slice() {
        [folder] if is_run(folder) => folder.join("report.html"),
        _ => PathBuf::from("report.html"),
    });
    let cells_at = args.notebook.then(|| output.with_extension("ipynb"));
    check_names(&args, &output, cells_at.as_deref())?;
    let context = Context::of(Verb::Train, args.json);
    let words = Words {
        note: &|note: &Note| context.note(note),
        command: &|command: &Command| shell(command),
        shell: &|words: &[String]| words.iter().map(|word| shell_word(Path::new(word))).collect::<Vec<_>>().join(" "),
    };
    let (report, runs) = match folders.as_slice() {
        [folder] if is_run(folder) || !folder.is_dir() => (report(folder, &words)?, folders.clone()),
        several => {
            let mut comparison = compare::comparison(several, Measure::Validation, true, args.json)?;
            comparison.hold_against(Against::Best)?;
            comparison.sort(comparison.ranked_by.flag(), false)?;
            let runs = comparison.rows.iter().flat_map(|row| row.folders.clone()).collect();
            (report_comparison(&comparison, several, &words), runs)
        }
    };
    let elsewhere = |flag: &str| {
        let hint = Suggestion::new().text(format!("make room, or write it to another place with {flag} FILE"));
        move |error: RecordError| CliError::from(error).with_hint(hint)
    };
    let page = html(&report);
    write_output(&output, |file| file.write_all(page.as_bytes())).map_err(elsewhere("--output"))?;
    let mut written = vec![output];
    let cells = cells_at.is_some().then(|| notebook(&report));
    if let (Some(cells), Some(path)) = (&cells, cells_at) {
        write_output(&path, |file| file.write_all(cells.as_bytes())).map_err(elsewhere("--output"))?;
        written.push(path);
    }
    if let Some(path) = &args.bundle {
        let mut files = vec![("report.html".to_string(), Packed::Bytes(page.into_bytes()))];
        files.extend(cells.map(|cells| ("report.ipynb".to_string(), Packed::Bytes(cells.into_bytes()))));
        let figures = report.figures().map(|(name, figure)| (format!("figures/{name}.svg"), figure.svg()));
        files.extend(figures.map(|(name, svg)| (name, Packed::Bytes(svg.as_bytes().to_vec()))));
        let mut taken = BTreeSet::new();
        for folder in &runs {
            let base = folder.file_name().map_or("run".to_string(), |name| name.to_string_lossy().into_owned());
            let names = (1..).map(|n| if n == 1 { base.clone() } else { format!("{base}-{n}") });
            let name =
                names.into_iter().find(|name| taken.insert(name.clone())).expect("there are more numbers than runs");
            files.extend(bundled(folder, &format!("{name}/"))?);
        }
        write_output(path, |file| bundle(file, files)).map_err(elsewhere("--bundle"))?;
        written.push(path.clone());
    }
    let size = |path: PathBuf| Written { bytes: std::fs::metadata(&path).map_or(0, |facts| facts.len()), path };
    let written: Vec<Written> = written.into_iter().map(size).collect();
    if args.json {
        return show(&json(&serde_json::json!({ "files": written })));
    }
    let lines = written.iter().map(|one| line!("{} ({})", one.path.display(), numbers::bytes(one.bytes)));
    show(&lines.collect::<String>())
}

/// Checks where the files are to be put, before any work. No two of them are one: their names end differently.
fn check_names(args: &Args, output: &Path, notebook: Option<&Path>) -> Result<(), CliError> {
    let is_pdf = output.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("pdf"));
    check_output(output, "--output", &["html"]).map_err(|error| match is_pdf {
        true => error.with_hint(
            Suggestion::new().text("use a name that ends in .html: a browser prints the report as a PDF file"),
        ),
        false => error,
    })?;
    notebook.map_or(Ok(()), |path| check_output(path, "--notebook", &["ipynb"]))?;
    args.bundle.as_deref().map_or(Ok(()), |path| check_output(path, "--bundle", &["zip"]))
}
