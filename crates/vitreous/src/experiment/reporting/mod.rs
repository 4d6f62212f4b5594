//! What a report says of a run, or of several: read from their folders, nothing is trained or evaluated.

mod curves;
mod evaluation;
mod model;
mod profile;
mod results;
mod runs;

use std::path::Path;

pub use runs::report_comparison;

use self::curves::training;
use self::evaluation::evaluation;
use self::model::{data, model};
use self::results::{results, settings};
use super::{ExperimentError, saved_config};
use crate::advice::{Argument, Command, Note, Suggestion, Verb};
use crate::config::difference::{FlatConfig, flat, shown};
use crate::config::train::Keep;
use crate::config::{Config, ResolvedConfig};
use crate::evaluate::Report as Evaluation;
use crate::numbers;
use crate::record::{Manifest, PLOTS, Piece, Run, sha256_of};
use crate::report::{Card, Drawing, Packed, Part, Report, Section, Table, facts};

/// Largest picture that is read from a run's folder, in bytes.
const PICTURE_MAX: u64 = 4 << 20;

/// How a caller writes what a shell reads.
pub struct Words<'a> {
    /// A remark with what to do about it.
    pub note: &'a dyn Fn(&Note) -> String,
    /// A command of this program.
    pub command: &'a dyn Fn(&Command) -> String,
    /// Words of a command line, in quotes where they need them.
    pub shell: &'a dyn Fn(&[String]) -> String,
}

/// The files of a run that are handed in, and their names below a folder: config, records, evaluations, plots, and the
/// weights that `evaluate` would take.
///
/// # Errors
/// When the run cannot be read.
pub fn bundled(folder: &Path, below: &str) -> Result<Vec<(String, Packed)>, ExperimentError> {
    let run = Run::open(folder)?;
    let mut names: Vec<String> = [
        "config.toml",
        "manifest.json",
        "results.csv",
        "metrics.jsonl",
        "ledger.csv",
        "timing.jsonl",
        crate::profile::FILE,
    ]
    .map(str::to_string)
    .to_vec();
    let inside = |folder: &str| {
        let mut names = run.files().names(folder).unwrap_or_default();
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        names.into_iter().map(|name| format!("{folder}/{name}")).collect::<Vec<String>>()
    };
    names.extend(inside("evaluation").iter().flat_map(|folder| inside(folder)));
    names.extend(inside(PLOTS));
    names.extend(run.find_weights(None).map(|(weights, _)| Run::weights_file(weights)));
    // Which of the files a run has depends on how far it is.
    let file = |name: String| {
        let (place, files) = (format!("{below}{name}"), run.files().clone());
        (place, Packed::File(Box::new(move || files.open_file(&name))))
    };
    Ok(names.into_iter().map(file).collect())
}

/// What is known of a run's config.
struct Known {
    settings: FlatConfig,
    config: Config,
    resolved: Option<ResolvedConfig>,
}

impl Known {
    fn of(run: &Run) -> Result<Known, ExperimentError> {
        let (checked, resolved) = saved_config(run)?;
        Ok(Known { settings: flat(checked.config()), config: checked.config().clone(), resolved })
    }

    fn value(&self, key: &str) -> String {
        shown(self.settings.get(key))
    }
}

/// Collects the report of a run.
///
/// # Errors
/// When the folder is not a run or cannot be read.
pub fn report(folder: &Path, words: &Words) -> Result<Report, ExperimentError> {
    let run = &Run::open(folder)?;
    let known = Known::of(run);
    let manifest = run.manifest();
    let mut sections = vec![results(run, known.as_ref().ok(), words)];
    match &known {
        Ok(known) => sections.push(settings(manifest, known)),
        Err(error) => {
            let text = format!("the settings cannot be read: {error}; version {} wrote them", manifest.version);
            sections.push(Section { title: "Settings".into(), command: None, parts: vec![Part::Warning { text }] });
        }
    }
    sections.push(training(run, known.as_ref().map_or(Keep::Last, |known| known.config.train.keep), words)?);
    let before = sections.len();
    for found in Evaluation::all_kept(run.folder()) {
        sections.push(match found {
            Ok((name, report)) => evaluation(run, &name, &report, words),
            Err(error) => {
                let note = Note::new(error.to_string()).suggest(Suggestion::new().run(evaluate(run)));
                let parts = vec![Part::Warning { text: (words.note)(&note) }];
                Section { title: "Evaluation".into(), command: None, parts }
            }
        });
    }
    if sections.len() == before {
        let what = Note::new("this run has not been evaluated: no confusion matrix, mistakes or calibration")
            .suggest(Suggestion::new().text("make them with").run(evaluate(run)));
        let parts = vec![Part::Missing { text: (words.note)(&what) }];
        sections.push(Section { title: "Evaluation".into(), command: None, parts });
    }
    sections.push(data(run, known.as_ref().ok(), words));
    sections.push(model(run, known.as_ref().ok(), words));
    sections.extend(profile::profile(run, words));
    sections.push(origin(run, words));
    let lead = [Some(manifest.data.name.clone()), manifest.model.clone()].into_iter().flatten();
    Ok(Report { title: run.name(), lead: lead.collect::<Vec<_>>().join(", "), program: program(), sections })
}

fn program() -> String {
    format!("vitreous {}", env!("CARGO_PKG_VERSION"))
}

fn evaluate(run: &Run) -> Command {
    Command::new(Verb::Evaluate).operand(run.folder())
}

fn card(label: &str, value: String, below: String) -> Card {
    Card { label: label.to_string(), value, below }
}

/// A table; `numeric` are the places of the columns with numbers.
fn table(caption: impl Into<String>, columns: &[&str], numeric: &[usize], rows: Vec<Vec<String>>) -> Table {
    let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
    let is_number = (0..columns.len()).map(|at| numeric.contains(&at)).collect();
    Table { caption: caption.into(), columns, is_number, rows, is_folded: false }
}

fn interval([low, high]: [f64; 2]) -> String {
    format!("95 % interval {} to {}", numbers::percent(low), numbers::percent(high))
}

/// A picture in a run's plots folder.
fn picture(run: &Run, name: &str, what: &str) -> Option<Drawing> {
    let read = |ending: &str| run.files().read(&format!("{PLOTS}/{name}.{ending}"), PICTURE_MAX).ok();
    let svg = read("svg").and_then(|bytes| String::from_utf8(bytes).ok()).filter(|svg| svg.starts_with("<svg "));
    match svg {
        Some(svg) => Some(Drawing::of_svg(&svg)),
        None => read("png").filter(|bytes| bytes.starts_with(b"\x89PNG")).map(|bytes| Drawing::of_png(bytes, what)),
    }
}

/// Where the run comes from, and how to repeat it.
fn origin(run: &Run, words: &Words) -> Section {
    let manifest = run.manifest();
    let machine = &manifest.machine;
    let mut rows = vec![
        vec!["Program".to_string(), format!("vitreous {}", manifest.version)],
        vec![
            "Machine".to_string(),
            format!(
                "{}, {}, kernels for {}, {} of {}",
                machine.os,
                machine.arch,
                machine.instruction_set,
                numbers::counted(machine.threads, "thread"),
                numbers::counted(machine.processors, "processor")
            ),
        ],
        vec!["Started".to_string(), manifest.started.clone()],
        vec!["Ended".to_string(), manifest.finished.clone().unwrap_or_else(|| "-".to_string())],
        vec!["Seed".to_string(), manifest.seed.to_string()],
    ];
    rows.extend(
        sha256_of(&run.folder().join("ledger.csv")).ok().map(|hash| vec!["Ledger (SHA-256)".to_string(), hash]),
    );
    let results = manifest.results.as_ref();
    rows.extend(
        results
            .and_then(|found| found.last_sha256.clone())
            .map(|hash| vec!["Last weights (SHA-256)".to_string(), hash]),
    );
    let mut parts = vec![facts("Where the run was made", rows)];
    if !manifest.resumed.is_empty() {
        let row = |piece: &Piece| {
            let changes = if piece.changes.is_empty() { "-".to_string() } else { piece.changes.join("; ") };
            vec![piece.started.clone(), numbers::count(piece.from_step), piece.version.clone(), changes]
        };
        let rows = manifest.resumed.iter().map(row).collect();
        parts.push(Part::Table(table("Resumed", &["Started", "From step", "Version", "Changed settings"], &[1], rows)));
    }
    let what = "The command that made it; equal config, data and version give equal weights, bit for bit:".to_string();
    // A run of the library has none.
    parts.extend(command_of(manifest).map(|command| Part::Command { what, command: (words.shell)(&command) }));
    let again = Command::new(Verb::Train).with(Argument::Config, run.config_path().as_path());
    parts.push(Part::Command { what: "The same from its config:".to_string(), command: (words.command)(&again) });
    Section { title: "Repeat it".to_string(), command: None, parts }
}

/// The words that started a run, with the program's plain name; none where the library did.
fn command_of(manifest: &Manifest) -> Option<Vec<String>> {
    let words = std::iter::once("vitreous".to_string()).chain(manifest.command.iter().skip(1).cloned()).collect();
    (!manifest.command.is_empty()).then_some(words)
}
