//! What a report says of a run, or of several: read from their folders, nothing is trained or evaluated.

mod curves;
mod profile;
mod runs;

use std::path::Path;

pub use runs::report_comparison;

use self::curves::charts;
use super::ExperimentError;
use crate::advice::{Argument, Command, Note, Suggestion, Verb};
use crate::config::difference::{FlatConfig, changes, flat, flat_config, shown};
use crate::config::layers::Layers;
use crate::config::model::ImageFacts;
use crate::config::train::Keep;
use crate::config::{Config, ResolvedConfig, key, presets};
use crate::data::SplitName;
use crate::evaluate::{Accuracy, Reached, Report as Evaluation, Scores};
use crate::models;
use crate::models::modules::modules;
use crate::plot::Theme;
use crate::plot::curves::curves;
use crate::plots::architecture::architecture;
use crate::plots::{evaluation_figures, positions, recorded};
use crate::record::{Manifest, PLOTS, Run, sha256_of};
use crate::report::{Card, Drawing, Packed, Part, Report, Section, Table, facts};
use crate::{durations, numbers};

/// Largest picture that is read from a run's folder, in bytes.
const PICTURE_MAX: u64 = 4 << 20;

/// Most rows of a table of epochs.
const EPOCHS_MAX: usize = 200;

/// Most classes that are listed by name.
const CLASSES_MAX: usize = 1000;

/// The keys that a reader of results looks for.
const MATTER: [&str; 27] = [
    "data.name",
    "data.classes",
    "model.kind",
    "model.patch_size",
    "model.embed_dim",
    "model.depth",
    "model.num_heads",
    "model.mlp_ratio",
    "model.position",
    "model.activation",
    "model.pooling",
    "model.dropout",
    "model.layers",
    "train.epochs",
    "train.max_steps",
    "train.batch_size",
    "train.grad_accum_steps",
    "train.opt",
    "train.lr",
    "train.sched",
    "train.warmup_epochs",
    "train.weight_decay",
    "train.clip_grad",
    "train.smoothing",
    "train.model_ema_decay",
    "train.keep",
    "train.seed",
];

/// Keys of the model that follow from the data.
const OF_THE_DATA: [&str; 3] = ["model.image_size", "model.channels", "model.num_classes"];

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
    let open = |name: String| Some((format!("{below}{name}"), Packed::File(run.files().open_file(&name).ok()?)));
    Ok(names.into_iter().filter_map(open).collect())
}

/// What is known of a run's config.
pub(super) struct Known {
    settings: FlatConfig,
    config: Config,
    resolved: Option<ResolvedConfig>,
}

impl Known {
    fn of(run: &Run) -> Result<Known, ExperimentError> {
        let mut layers = Layers::new();
        layers.add_file(&run.config_path())?;
        let checked = layers.finish()?;
        let config = checked.config().clone();
        // The sizes that the data decides are written in a run's config.
        let sizes = [config.model.image_size(), config.model.channels(), config.model.num_classes()];
        let resolved = match sizes {
            [Some(image_size), Some(channels), Some(num_classes)] => {
                checked.resolve(ImageFacts { image_size, channels, num_classes }).ok()
            }
            _ => None,
        };
        Ok(Known { settings: flat(&config), config, resolved })
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
    let evaluations: Vec<(String, Evaluation)> = [SplitName::Test, SplitName::Validation, SplitName::Train]
        .into_iter()
        .flat_map(|split| Evaluation::kept(run.folder(), split))
        .map(|(folder, report)| (folder.file_name().unwrap_or_default().to_string_lossy().into_owned(), report))
        .collect();
    let mut sections = vec![results(run, known.as_ref().ok(), words)];
    match &known {
        Ok(known) => sections.push(settings(manifest, known)),
        Err(error) => {
            let text = format!("the settings cannot be read: {error}; version {} wrote them", manifest.version);
            sections.push(Section { title: "Settings".into(), command: None, parts: vec![Part::Warning { text }] });
        }
    }
    sections.push(training(run, known.as_ref().map_or(Keep::Last, |known| known.config.train.keep), words)?);
    for (name, report) in &evaluations {
        sections.push(evaluation(run, name, report, words));
    }
    if evaluations.is_empty() {
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

pub(super) fn program() -> String {
    format!("vitreous {}", env!("CARGO_PKG_VERSION"))
}

fn evaluate(run: &Run) -> Command {
    Command::new(Verb::Evaluate).operand(run.folder())
}

pub(super) fn card(label: &str, value: String, below: String) -> Card {
    Card { label: label.to_string(), value, below }
}

pub(super) fn table(
    caption: impl Into<String>,
    columns: &[&str],
    numbers_from: usize,
    rows: Vec<Vec<String>>,
) -> Table {
    let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
    let is_number = (0..columns.len()).map(|at| at >= numbers_from).collect();
    Table { caption: caption.into(), columns, is_number, rows, is_folded: false }
}

fn interval([low, high]: [f64; 2]) -> String {
    format!("95 % interval {} to {}", numbers::percent(low), numbers::percent(high))
}

/// What was requested and what was reached.
fn results(run: &Run, known: Option<&Known>, words: &Words) -> Section {
    let manifest = run.manifest();
    let (mut cards, mut parts) = (Vec::new(), Vec::new());
    let results = manifest.results.as_ref();
    let test = manifest.evaluation(SplitName::Test);
    if let Some(test) = test {
        let accuracy = Accuracy::from(test);
        let below =
            format!("{} of {} images, {}", test.weights, numbers::count(test.images), interval(accuracy.interval()));
        cards.push(card("Test accuracy", numbers::percent(accuracy.value), below.replacen(" of ", " weights, ", 1)));
    }
    let best = results.and_then(|results| Some((results.best_val_acc?, results.best_epoch)));
    let last = results.and_then(|results| Some((results.val_acc?, None)));
    if let Some((value, epoch)) = best.or(last) {
        let images = manifest.data.validation as u64;
        let when = epoch.map_or("after the last epoch".to_string(), |epoch| format!("best, epoch {epoch}"));
        let below = format!("{when}; {}", interval(Accuracy { value, images }.interval()));
        cards.push(card("Validation accuracy", numbers::percent(value), below));
    }
    cards.push(card("Parameters", numbers::count(manifest.parameters as u64), String::new()));
    if let Some(results) = results {
        let machine = &manifest.machine;
        let below = format!("{} on {}", numbers::counted(machine.threads, "thread"), machine.instruction_set);
        cards.push(card("Training time", durations::duration(results.seconds), below));
    }
    parts.push(Part::Cards { cards });

    let requested = known.map(|known| match known.settings.get("train.max_steps") {
        Some(steps) => format!("{} epochs, at most {} steps", known.config.train.epochs, shown(Some(steps))),
        None => numbers::counted(known.config.train.epochs, "epoch"),
    });
    let mut rows = vec![vec!["Status".to_string(), manifest.status.to_string()]];
    rows.extend(requested.map(|requested| vec!["Requested".to_string(), requested]));
    if let Some(results) = results {
        let epochs = numbers::counted(usize::try_from(results.epochs).unwrap_or(usize::MAX), "epoch");
        let mut done = format!("{epochs}, {} steps", numbers::count(results.steps));
        if results.skipped_steps > 0 {
            done.push_str(&format!(", {} of them skipped", numbers::count(results.skipped_steps)));
        }
        rows.push(vec!["Trained".to_string(), done]);
        rows.extend(results.train_loss.map(|loss| vec!["Training loss".to_string(), format!("{loss:.4}")]));
        rows.extend(results.train_acc.map(|acc| {
            vec![
                "Training accuracy".to_string(),
                format!("{} (last epoch, while the weights change)", numbers::percent(acc)),
            ]
        }));
    }
    rows.push(vec!["Test results seen".to_string(), numbers::count(manifest.test_evaluations)]);
    parts.push(facts("Requested and reached", rows));

    let train = match (manifest.evaluation(SplitName::Train), results.and_then(|results| results.train_acc)) {
        (Some(measured), _) => numbers::percent(measured.top1),
        (None, Some(running)) => format!("~{}", numbers::percent(running)),
        (None, None) => "-".to_string(),
    };
    let of = |key: &str| known.map_or("-".to_string(), |known| known.value(key));
    let row = vec![
        manifest.model.clone().unwrap_or_else(|| of("model.kind")),
        of("model.position"),
        of("model.activation"),
        results.map_or("-".to_string(), |results| durations::duration(results.seconds)),
        train,
        test.map_or("-".to_string(), |test| numbers::percent(test.top1)),
    ];
    let caption = "Row for a write-up (accuracies; ~ is the mean over the last epoch, while the weights change)";
    parts.push(Part::Table(table(
        caption,
        &["model", "position", "activation", "time", "train", "test"],
        3,
        vec![row],
    )));
    if test.is_none() && manifest.data.test != Some(0) {
        let what = Note::new("the test accuracy has not been measured")
            .suggest(Suggestion::new().text("measure it with").run(evaluate(run)));
        parts.push(Part::Missing { text: (words.note)(&what) });
    }
    Section { title: "Results".to_string(), command: None, parts }
}

/// The settings that matter, and those that differ from the preset.
fn settings(manifest: &Manifest, known: &Known) -> Section {
    let row = |path: &&str| {
        let value = known.settings.get(*path)?;
        let meaning = key(path).map_or(String::new(), |key| first_sentence(key.doc));
        Some(vec![path.to_string(), shown(Some(value)), meaning])
    };
    let rows = MATTER.iter().filter_map(row).collect();
    let mut parts =
        vec![Part::Table(table("The settings that matter most", &["Setting", "Value", "Meaning"], 9, rows))];
    if let Some((name, preset)) = preset(manifest) {
        let mut found = changes(&preset, &known.settings);
        found.retain(|(key, before, _)| !(OF_THE_DATA.contains(key) && before.is_none()));
        if found.is_empty() {
            parts.push(Part::Text { text: format!("All settings are those of the preset {name}.") });
        } else {
            let rows =
                found.iter().map(|(key, before, now)| vec![key.to_string(), shown(*before), shown(*now)]).collect();
            let caption = format!("Settings that differ from the preset {name}");
            parts.push(Part::Table(table(caption, &["Setting", "Preset", "This run"], 9, rows)));
        }
    }
    let all = known.settings.iter().map(|(key, value)| vec![key.clone(), shown(Some(value))]).collect();
    let all = Table { is_folded: true, ..table("All settings", &["Setting", "Value"], 9, all) };
    parts.push(Part::Table(all));
    Section { title: "Settings".to_string(), command: None, parts }
}

fn first_sentence(text: &str) -> String {
    text.split(". ").next().unwrap_or(text).trim_end_matches('.').replace('`', "")
}

/// The preset that a run was started from, by its command line, and its settings.
fn preset(manifest: &Manifest) -> Option<(&'static str, FlatConfig)> {
    let known = |word: &str| presets::names().find(|name| *name == word.rsplit('=').next().unwrap_or(word));
    // A name that follows another argument is that argument's value.
    let words = manifest.command.windows(2).skip(1);
    let is_own =
        |before: &str, word: &str| !before.starts_with('-') || before.ends_with("preset") || word.contains("preset=");
    let name = words.filter(|pair| is_own(&pair[0], &pair[1])).find_map(|pair| known(&pair[1]))?;
    Some((name, flat_config(presets::text(name)?, name).ok()?))
}

/// The curves, and the epochs as a table.
fn training(run: &Run, keep: Keep, words: &Words) -> Result<Section, ExperimentError> {
    let title = "Training".to_string();
    let (record, marks) = recorded(run, keep)?;
    let Some(drawing) = Drawing::made("curves", |theme| curves(&record, &marks, theme.style())) else {
        let resume = Suggestion::new().text("continue it with").run(Command::resume(run.folder()));
        let what = Note::new("nothing was recorded of the training yet: no curves").suggest(resume);
        return Ok(Section { title, command: None, parts: vec![Part::Missing { text: (words.note)(&what) }] });
    };
    let mut parts = vec![Part::Curves { charts: charts(&record, &marks), drawing }];
    let number = |value: f64| if value.is_finite() { format!("{value:.4}") } else { "-".to_string() };
    let percent = |value: f64| if value.is_finite() { numbers::percent(value) } else { "-".to_string() };
    let all = record.epochs.len();
    let every = all.div_ceil(EPOCHS_MAX).max(1);
    let best = marks.best.map(|(epoch, _)| epoch);
    let is_shown = |at: usize, epoch: f64| {
        (at + 1).is_multiple_of(every) || at == 0 || at + 1 == all || Some(epoch as u64) == best
    };
    let rows: Vec<Vec<String>> = (record.epochs.iter().enumerate())
        .filter(|(at, epoch)| is_shown(*at, epoch.epoch))
        .map(|(_, epoch)| {
            let mark = if Some(epoch.epoch as u64) == best { " (best)" } else { "" };
            vec![
                format!("{}{mark}", epoch.epoch),
                numbers::count(epoch.step as u64),
                number(epoch.train_loss),
                percent(epoch.train_acc),
                number(epoch.val_loss),
                percent(epoch.val_acc),
                numbers::number(epoch.lr),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let caption = match rows.len() {
            few if few < all => format!("{few} of {} epochs", numbers::count(all as u64)),
            _ => "The epochs".to_string(),
        };
        let columns = ["Epoch", "Step", "Train loss", "Train accuracy", "Val loss", "Val accuracy", "Learning rate"];
        parts.push(Part::Table(Table { is_folded: true, ..table(caption, &columns, 1, rows) }));
    }
    let command = Some((words.shell)(&command_of(run.manifest())));
    Ok(Section { title, command, parts })
}

/// An evaluation: figures, mistakes and scores.
fn evaluation(run: &Run, name: &str, report: &Evaluation, words: &Words) -> Section {
    let split = if report.split == SplitName::Validation { "validation".to_string() } else { report.split.to_string() };
    let title = match name.ends_with("-last") {
        true => format!("Evaluation: {split} images, last weights"),
        false => format!("Evaluation: {split} images"),
    };
    let mut parts = Vec::new();
    let loss = format!("loss {:.4}", report.reached.loss());
    match &report.reached {
        Reached::Classes(scores) => {
            let of = |part: f64| numbers::percent(part);
            let mut cards = vec![
                card("Accuracy", of(scores.top1), interval(scores.top1_interval)),
                card("Top-5 accuracy", of(scores.top5), loss),
                card("Mean F1", of(scores.f1_mean), "over the classes".to_string()),
            ];
            cards.extend(scores.calibration.as_ref().map(|found| {
                let error = of(found.expected_calibration_error);
                card("Calibration error", error, "expected, 15 bins".to_string())
            }));
            parts.push(Part::Cards { cards });
        }
        Reached::Reading(scores) => {
            let exact =
                card("Exact matches", numbers::percent(scores.exact_match), interval(scores.exact_match_interval));
            let digits = card("Digit accuracy", numbers::percent(scores.digit_accuracy), loss);
            parts.push(Part::Cards { cards: vec![exact, digits] });
        }
    }
    parts.extend(report.note.iter().map(|note| Part::Warning { text: note.clone() }));
    let dark = evaluation_figures(report, Theme::Dark);
    for (what, light) in evaluation_figures(report, Theme::Light) {
        let dark = dark.iter().find(|(other, _)| *other == what).map(|(_, figure)| figure.clone());
        let drawing = Drawing::of_figures(&format!("{what}-{name}"), light, dark);
        parts.push(Part::Figure { drawing });
    }
    if let Reached::Classes(scores) = &report.reached {
        parts.push(Part::Table(class_table(scores)));
        if scores.calibration.is_none() {
            parts.push(again(run, "an earlier version evaluated this run: no calibration", words));
        }
    }
    match picture(run, &format!("mistakes-{name}"), "The most confident mistakes") {
        Some(drawing) => parts.push(Part::Figure { drawing }),
        None => parts.push(again(run, "no picture of the mistakes was made", words)),
    }
    let mut command = evaluate(run);
    if report.split != SplitName::Test {
        command = command.with(Argument::Split, if split == "validation" { "val" } else { split.as_str() });
    }
    Section { title, command: Some((words.command)(&command)), parts }
}

fn again(run: &Run, what: &str, words: &Words) -> Part {
    let note = Note::new(what).suggest(Suggestion::new().text("make it with").run(evaluate(run)));
    Part::Missing { text: (words.note)(&note) }
}

fn class_table(scores: &Scores) -> Table {
    let some = |part: Option<f64>| part.map_or("-".to_string(), numbers::percent);
    let row = |one: &crate::evaluate::ClassScores| {
        vec![one.name.clone(), numbers::count(one.support), some(one.precision), some(one.recall), some(one.f1)]
    };
    let rows = scores.classes.iter().map(row).collect();
    let columns = ["Class", "Images", "Precision", "Recall", "F1"];
    Table { is_folded: scores.classes.len() > 20, ..table("Scores of each class", &columns, 1, rows) }
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

/// The images.
fn data(run: &Run, known: Option<&Known>, words: &Words) -> Section {
    let data = &run.manifest().data;
    let count = |n: usize| numbers::count(n as u64);
    let mut rows = vec![
        vec!["Data set".to_string(), data.name.clone()],
        vec!["Training images".to_string(), count(data.train)],
        vec!["Validation images".to_string(), count(data.validation)],
        vec!["Test images".to_string(), data.test.map_or("not counted".to_string(), count)],
        vec!["Classes".to_string(), count(data.class_names.len())],
    ];
    if let Some(config) = known.and_then(|known| known.resolved.as_ref()) {
        let [size, channels] = [config.model.image_size(), config.model.channels()];
        let colors = if channels == 1 { "gray".to_string() } else { format!("{channels} color channels") };
        rows.push(vec!["Image size".to_string(), format!("{size} x {size} pixels, {colors}")]);
    }
    let list = |values: &[f32]| values.iter().map(|value| format!("{value:.4}")).collect::<Vec<_>>().join(", ");
    let normalization =
        format!("mean {}; standard deviation {}", list(&data.normalization.mean), list(&data.normalization.std));
    rows.push(vec!["Normalization".to_string(), normalization]);
    rows.push(vec!["Fingerprint (SHA-256)".to_string(), data.fingerprint.clone()]);
    let mut parts = vec![facts("The images of this run", rows)];
    let mut warn = |text: String| parts.push(Part::Warning { text });
    if data.validation == 0 {
        warn("there are no validation images, so the best epoch cannot be chosen by accuracy".to_string());
    }
    if !data.skipped.is_empty() {
        let first = &data.skipped[0];
        let many = numbers::counted(data.skipped.len(), "image");
        warn(format!("{many} could not be decoded and took no part, such as {} ({})", first.name, first.reason));
    }
    if let Some(forced) = data.forced.as_ref().filter(|forced| forced.train + forced.validation > 0) {
        let many = numbers::counted(forced.train + forced.validation, "image");
        warn(format!("{many} changed sides between train and validation, so that each class has images in both"));
    }
    let names = data.class_names.iter().take(CLASSES_MAX).enumerate();
    let rows = names.map(|(label, name)| vec![label.to_string(), name.clone()]).collect();
    let caption = match data.class_names.len() {
        many if many > CLASSES_MAX => format!("The first {} classes", count(CLASSES_MAX)),
        _ => "The classes".to_string(),
    };
    parts.push(Part::Table(Table { is_folded: true, ..table(caption, &["Label", "Class"], 9, rows) }));
    for (name, what) in [("samples", "Training images"), ("patches", "What the model reads of an image")] {
        match picture(run, name, what) {
            Some(drawing) => parts.push(Part::Figure { drawing }),
            None if name == "samples" => {
                let show = Command::new(Verb::Show).operand(run.folder());
                let look = Suggestion::new().text("see them with").run(show);
                let text = "no picture of the samples: the run was trained without plots, or by an earlier version";
                parts.push(Part::Missing { text: (words.note)(&Note::new(text).suggest(look)) });
            }
            None => {}
        }
    }
    Section { title: "Data".to_string(), command: None, parts }
}

/// The layers.
fn model(run: &Run, known: Option<&Known>, words: &Words) -> Section {
    let title = "Model".to_string();
    let resolved = known.and_then(|known| known.resolved.as_ref());
    let built = resolved.and_then(|config| Some((config, models::build_for_training(config).ok()?)));
    let Some((config, built)) = built else {
        let text = "the layers are unknown: the config of this run does not say the size of its images".to_string();
        return Section { title, command: None, parts: vec![Part::Missing { text }] };
    };
    let root = modules(&built, &config.model);
    let count = |n: u64| if n == 0 { String::new() } else { numbers::count(n) };
    let mut path: Vec<&str> = Vec::new();
    let (mut rows, mut mult_adds) = (Vec::new(), 0);
    // The first is the model itself.
    for (depth, module) in root.flat().into_iter().skip(1) {
        path.truncate(depth - 1);
        path.push(&module.name);
        let shape: Vec<String> = module.output.iter().map(usize::to_string).collect();
        let cells = [path.join("."), module.class.clone(), format!("[{}]", shape.join(", "))];
        rows.push(cells.into_iter().chain([count(module.params), count(module.mult_adds)]).collect::<Vec<String>>());
        mult_adds += module.mult_adds;
    }
    let all = [root.all_params(), mult_adds].map(numbers::count);
    rows.push(vec!["Total".into(), String::new(), String::new(), all[0].clone(), all[1].clone()]);
    let caption =
        "Layers; shapes are without the batch, multiply-adds are those of one image, as torchinfo counts them";
    let columns = ["Layer", "Module", "Output shape", "Parameters", "Multiply-adds"];
    let drawn = Drawing::made("architecture", |theme| architecture(&root, &run.name()).figure(theme.style()));
    let mut parts: Vec<Part> = drawn.into_iter().map(|drawing| Part::Figure { drawing }).collect();
    parts.push(Part::Table(table(caption, &columns, 3, rows)));
    let encoded = Drawing::made("positions", |theme| positions(run, &config.model, u64::MAX, theme));
    parts.extend(encoded.map(|drawing| Part::Figure { drawing }));
    let command = Command::new(Verb::Summary).with(Argument::Run, run.folder());
    Section { title, command: Some((words.command)(&command)), parts }
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
        let row = |piece: &crate::record::Piece| {
            let changes = if piece.changes.is_empty() { "-".to_string() } else { piece.changes.join("; ") };
            vec![piece.started.clone(), numbers::count(piece.from_step), piece.version.clone(), changes]
        };
        let rows = manifest.resumed.iter().map(row).collect();
        parts.push(Part::Table(table("Resumed", &["Started", "From step", "Version", "Changed settings"], 9, rows)));
    }
    let what = "The command that made it; equal config, data and version give equal weights, bit for bit:".to_string();
    parts.push(Part::Command { what, command: (words.shell)(&command_of(manifest)) });
    let again = Command::new(Verb::Train).with(Argument::Config, run.config_path().as_path());
    parts.push(Part::Command { what: "The same from its config:".to_string(), command: (words.command)(&again) });
    Section { title: "Repeat it".to_string(), command: None, parts }
}

/// The words that started a run, with the program's plain name.
fn command_of(manifest: &Manifest) -> Vec<String> {
    std::iter::once("vitreous".to_string()).chain(manifest.command.iter().skip(1).cloned()).collect()
}
