//! `vitreous profile`: where the time of a training step goes, and how far each layer is from what the machine can do.

mod diff;
mod epoch;
mod table;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;

use super::output::{check_json, write_output};
use super::plots::{ThemeArg, check_figure, save_figure};
use super::presets::preset_of;
use super::runs::{RUNS, run_folder};
use super::settings::{SettingsArgs, image_facts, run_config};
use super::{CliError, json, show};
use crate::config::{CheckedConfig, ResolvedConfig};
use crate::numbers;
use crate::profile::{FILE, Options, Profile, Profiler, Row, alternate, figures};
use crate::record::is_run;
use crate::text::last_part;

/// The key that `--threads` writes.
const THREADS: &str = "train.threads";

/// The cache folder of all programs.
const CACHE_HOME: &str = "XDG_CACHE_HOME";

/// Shows where the time of a training step goes, layer by layer; `profile diff` compares two profiles
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    own: ProfileArgs,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Shows which layers make the difference between two profiles, or two presets or runs that are profiled in turn
    Diff(diff::Args),
}

#[derive(clap::Args)]
struct ProfileArgs {
    /// Profile this preset, such as mnist-vit, or the config of the run in this folder
    #[arg(value_name = "PRESET", conflicts_with_all = ["preset", "run"])]
    start: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Profile the config of the run in this folder, and save the profile there, for `vitreous report`
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["preset", "config", "model", "data"])]
    run: Option<PathBuf>,
    /// Profile the inference of a batch instead of a training step
    #[arg(long)]
    infer: bool,
    /// Show the time of an epoch instead: augmentation, steps, validation, saving; reads the data
    #[arg(long, conflicts_with_all = ["infer", "by", "sort", "top", "memory", "trace", "plot", "output", "counters"])]
    epoch: bool,
    /// What a row of the table is
    #[arg(long, value_name = "NAME", default_value = "layer")]
    by: By,
    /// Order of the rows
    #[arg(long, value_name = "NAME", default_value = "time")]
    sort: Sort,
    /// Show only the first rows, and the sum of the others; not for JSON
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Show the memory of each layer instead: what it stores in the forward pass, and until when; the most first
    #[arg(long, conflicts_with_all = ["by", "sort"])]
    memory: bool,
    /// Also count instructions, cycles, cache misses, context switches and page faults, where the system allows it
    #[arg(long)]
    counters: bool,
    /// Format of the table
    #[arg(long, value_name = "NAME", default_value = "text")]
    format: Format,
    /// Write one step as a trace for Perfetto, speedscope or chrome://tracing
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Draw the time by layer in this file (.svg, .png or .pdf), and the layers under the machine's roof in a second one
    /// with `-roofline` in its name
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Colors of the plots [default: light]
    #[arg(long, value_name = "NAME", requires = "plot")]
    plot_theme: Option<ThemeArg>,
    /// Save the profile in this file, for `profile diff`
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    how: MeasureArgs,
    /// Print one JSON object: --format json
    #[arg(long)]
    json: bool,
}

/// How a step is measured.
#[derive(clap::Args, Clone)]
struct MeasureArgs {
    /// Images in one step [default: the preset's]
    #[arg(short, long, value_name = "N")]
    batch_size: Option<usize>,
    /// Threads [default: one for each processor]
    #[arg(short = 'j', long, value_name = "N")]
    threads: Option<usize>,
    /// Time in which steps are measured
    #[arg(long, value_name = "S", default_value_t = 6.0)]
    seconds: f64,
    /// Measure again what the machine can do at most; otherwise, that is measured once and kept in a file
    #[arg(long)]
    measure_roof: bool,
}

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// A layer, with the operations that are computed together with it
    Layer,
    /// A kind of operation
    Kind,
    /// A call: one operation or several that are computed together, forward or backward
    Call,
    /// A phase of the step
    Phase,
}

/// The order of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// The longest time first
    Time,
    /// The model's order
    Order,
    /// The longest forward pass first
    Forward,
    /// The longest backward pass first
    Backward,
    /// Most floating-point operations first
    Flops,
    /// Most bytes first
    Bytes,
    /// Most floating-point operations per second first
    Gflops,
    /// The furthest from the roof first
    Roof,
}

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns for the screen
    Text,
    /// A Markdown table
    Markdown,
    /// Comma-separated values, with every figure
    Csv,
    /// One JSON object, with every figure
    Json,
}

/// Runs the command.
pub fn run(mut args: Args) -> Result<(), CliError> {
    if let Some(Verb::Diff(args)) = args.verb {
        return diff::run(&args);
    }
    let own = &mut args.own;
    if let Some(start) = own.start.take() {
        match is_run(Path::new(&start)) {
            true => own.run = Some(start.into()),
            false => own.settings.preset = Some(preset_of(start)?),
        }
    }
    own.plot.as_deref().map(|path| check_figure(path, "--plot")).transpose()?;
    for (path, flag) in [(&own.output, "--output"), (&own.trace, "--trace")] {
        path.as_deref().map_or(Ok(()), |path| check_json(path, flag))?;
    }
    if own.top.is_some() && own.format() == Format::Json {
        let hint = "leave out one of them, or use --format csv".to_string();
        return Err(CliError::user("--top cannot be used with JSON, which is the whole profile", Some(hint)));
    }
    if let (Some(output), Some(trace)) = (&own.output, &own.trace)
        && is_same(output, trace)
    {
        let error = format!("--output and --trace name the same file ({})", trace.display());
        return Err(CliError::user(error, Some("give each a name of its own".to_string())));
    }
    let run = own.run.as_deref().map(|run| run_folder(run, Path::new(RUNS))).transpose()?;
    let (name, checked) = own.how.checked(&own.settings, run.as_deref())?;
    if own.epoch {
        return epoch::run(own, name, &checked);
    }
    let config = facts_of(&checked)?;
    let options = Options { counters: own.counters, ..own.how.options(name, own.infer)? };
    let mut profiler = Profiler::new(&config, options)?;
    own.how.announce();
    let [profile] = alternate([&mut profiler]);
    note_threads(&profile);
    if own.infer
        && let Some(run) = &run
    {
        say!("note: the profile is not saved in {}, because it is of an inference", run.display());
    }
    if let Some(run) = run.filter(|_| !own.infer) {
        // Threads change no step, only its time.
        let of_run = run_config(&run, &SettingsArgs::default(), &[(THREADS, Some(profile.threads), "--threads")])?;
        let mut profiled = checked.config().clone();
        profiled.train.threads = of_run.config().train.threads;
        match profiled == *of_run.config() {
            true => {
                profile.write(&run.join(FILE))?;
                say!("wrote {}", run.join(FILE).display());
            }
            false => say!("note: the profile is not saved in {}, because it is of another config", run.display()),
        }
    }
    if let Some(path) = &own.output {
        write_output(path, |file| file.write_all(json(&profile).as_bytes()))?;
        say!("wrote {}", path.display());
    }
    if let Some(path) = &own.trace {
        write_output(path, |file| file.write_all(profiler.trace().as_bytes()))?;
        say!("wrote {}", path.display());
    }
    if let Some(path) = &own.plot {
        own.draw(&profile, path)?;
    }
    let (by, mut rows) = own.by.rows(&profile);
    own.sort.sort(&mut rows);
    if own.memory {
        rows.retain(|row| row.held_bytes > 0);
        rows.sort_by_key(|row| std::cmp::Reverse(row.held_bytes));
    }
    match own.format() {
        Format::Json => show(&json(&profile)),
        Format::Csv => show(&table::csv(by, table::shown(&rows, own.top))),
        Format::Text | Format::Markdown if own.memory => {
            show(&table::memory(&profile, &rows, own.top, own.format == Format::Markdown))
        }
        Format::Markdown => show(&table::markdown(&profile, by, &rows, own.top)),
        Format::Text => show(&table::text(&profile, by, &rows, own.top)),
    }
}

/// Whether two names lead to the same file, which need not exist.
fn is_same(first: &Path, second: &Path) -> bool {
    let real = |path: &Path| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        path.canonicalize()
            .or_else(|_| Ok::<_, std::io::Error>(folder.canonicalize()?.join(path.file_name().unwrap_or_default())))
            .ok()
    };
    real(first) == real(second)
}

/// Says that threads without a processor of their own only wait.
fn note_threads(profile: &Profile) {
    let Profile { threads, machine, .. } = profile;
    if *threads > machine.processors {
        let processors = numbers::counted(machine.processors, "processor");
        say!(
            "note: {threads} threads share {processors}: times, roof and limits are not those of {threads} processors"
        );
    }
}

impl ProfileArgs {
    fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }

    fn draw(&self, profile: &Profile, path: &Path) -> Result<(), CliError> {
        let style = ThemeArg::style_of(self.plot_theme);
        let [bars, roofline] = figures(profile, style);
        let none = || CliError::failure("the model has no layers to draw", None);
        for (figure, path) in [(bars, path), (roofline, &second(path))] {
            save_figure(&figure.ok_or_else(none)?, path, "--plot")?;
            say!("wrote {}", path.display());
        }
        Ok(())
    }
}

/// The name of the second figure: `step.svg` becomes `step-roofline.svg`.
fn second(path: &Path) -> PathBuf {
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_os_string();
    let mut name = part(path.file_stem());
    name.push("-roofline.");
    name.push(part(path.extension()));
    path.with_file_name(name)
}

/// The config for the images of its data, which need not be there.
fn facts_of(checked: &CheckedConfig) -> Result<ResolvedConfig, CliError> {
    let (facts, remark) = image_facts(checked)?;
    if let Some(remark) = remark {
        say!("note: {remark}");
    }
    Ok(checked.resolve(facts)?)
}

impl MeasureArgs {
    /// The name and the config of what is profiled: that of a run's folder, or of the settings.
    fn checked(&self, settings: &SettingsArgs, run: Option<&Path>) -> Result<(String, CheckedConfig), CliError> {
        let numbers = [("train.batch_size", self.batch_size, "--batch-size"), (THREADS, self.threads, "--threads")];
        Ok(match run {
            Some(run) => (last_part(&run.to_string_lossy()), run_config(run, settings, &numbers)?),
            None => (settings.name(), settings.checked(&numbers)?),
        })
    }

    /// Says how long it takes.
    fn announce(&self) {
        say!("measuring steps for {} s", self.seconds);
    }

    fn options(&self, name: String, infer: bool) -> Result<Options, CliError> {
        let Ok(time) = Duration::try_from_secs_f64(self.seconds) else {
            let error = format!("invalid time `{}` (--seconds)", self.seconds);
            return Err(CliError::user(error, Some("use --seconds 6".to_string())));
        };
        let measure_roof = self.measure_roof;
        Ok(Options { name, infer, time, roof_file: roof_file(), measure_roof, ..Options::default() })
    }
}

/// The file in which the roofs of machines are kept, in the user's cache folder.
fn roof_file() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let cache = folder(CACHE_HOME).or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(cache.join("vitreous").join("roof.json"))
}

impl By {
    /// The title and the rows.
    fn rows(self, profile: &Profile) -> (&'static str, Vec<Row>) {
        match self {
            By::Layer => ("layer", profile.layers.clone()),
            By::Kind => ("kind", profile.kinds.clone()),
            By::Call => ("call", profile.calls.clone()),
            By::Phase => ("phase", profile.phases.clone()),
        }
    }
}

impl Sort {
    fn sort(self, rows: &mut [Row]) {
        let descending = |rows: &mut [Row], of: fn(&Row) -> f64| rows.sort_by(|a, b| of(b).total_cmp(&of(a)));
        match self {
            Sort::Order => {}
            Sort::Time => descending(rows, |row| row.ms.median),
            Sort::Forward => descending(rows, |row| row.forward_ms),
            Sort::Backward => descending(rows, |row| row.backward_ms),
            Sort::Flops => descending(rows, |row| row.flops as f64),
            Sort::Bytes => descending(rows, |row| row.bytes as f64),
            Sort::Gflops => descending(rows, |row| row.gflops),
            Sort::Roof => descending(rows, |row| row.roof_share.map_or(f64::NEG_INFINITY, |share| -share)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_figure_has_a_name_of_its_own() {
        assert_eq!(second(Path::new("a.b/step.svg")), Path::new("a.b/step-roofline.svg"));
    }
}
