//! `vitreous sweep`: runs of one config with something varied, restartable, and what they say together (`conclude`).
//!
//! Everything is checked before the first run starts. Which runs are done is seen from their folders alone.

mod conclude;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use toml::Value;
use vitreous_engine::Memory;

use super::advice::Context;
use super::evaluate::SplitArg;
use super::flags::Flags;
use super::progress::TrainProgress;
use super::reading::watched;
use super::screen::{Align, table};
use super::settings::SettingsArgs;
use super::train::{INTERRUPTED, SAVE_EVERY, base, command, watch_signals};
use super::{CliError, show};
use crate::advice::Verb;
use crate::config::data::DataSpec;
use crate::config::difference::{changes, flat_config, shown};
use crate::config::text_file;
use crate::config::train::TrainSpec;
use crate::config::{CheckedConfig, ResolvedConfig};
use crate::data::{Facts, SplitName};
use crate::experiment::{EarlierRun, EvaluateOptions, Evaluated, Prepared, TrainingRun, evaluate, fitted_config};
use crate::parallel::on_threads;
use crate::record::{Claim, Place, RecordError, Run, Status, is_name};
use crate::sweep::{self, State, SweepError, SweepFile, Variation, folder_name, state_of};
use crate::train::{Event, Limits, Outcome, SIDE_BY_SIDE, TrainError, available_memory, check_memory, threads};
use crate::{durations, numbers};

use conclude::End;

/// Trains variations of a config, compares them, and says what each change did
#[derive(clap::Args)]
pub struct Args {
    /// A sweep that comes with the program (e1, fashion), or a TOML file; without one, name what varies
    #[arg(value_name = "SWEEP")]
    sweep: Option<String>,
    /// A key and the values that it takes in turn, such as train.lr=1e-3,3e-4; several make a grid
    #[arg(long, value_name = "TABLE.KEY=VALUE,...")]
    set_each: Vec<String>,
    /// Seeds with which each run is made, such as 1,2,3 [default: the sweep's, else the config's own]
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    seeds: Vec<u64>,
    /// Runs side by side; threads are divided among them
    #[arg(long, value_name = "N", default_value_t = 1)]
    jobs: usize,
    /// Splits on which each run is measured at its end, in addition to val, which ranks the runs [default: the sweep's]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    evaluate: Vec<SplitArg>,
    /// After the ranking, measure the setting that val ranks first on the test split
    #[arg(long)]
    test_winner: bool,
    /// The name of the sweep's folder [default: the sweep's, or the preset's with -sweep]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The folder in which sweeps are
    #[arg(long, value_name = "DIR", default_value = "runs")]
    out: PathBuf,
    /// Only show the runs, how far they are and what they change
    #[arg(long)]
    list: bool,
    /// Print the comparison as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    flags: Flags,
}

/// One run of the sweep, checked.
struct Item {
    /// The name of its folder.
    name: String,
    folder: PathBuf,
    /// Which of the settings it is of.
    setting: usize,
    checked: CheckedConfig,
    /// The same, filled in.
    config: ResolvedConfig,
    state: State,
    /// Splits to be measured.
    splits: Vec<SplitName>,
}

/// What is to be done.
struct Plan {
    items: Vec<Item>,
    /// What was made to fit, or is unusual.
    notes: Vec<String>,
    /// Runs side by side.
    jobs: usize,
    /// Threads of each.
    threads: usize,
}

/// All that a worker needs to know of the others.
struct Work<'a> {
    items: &'a [Item],
    claim: &'a Claim,
    next: AtomicUsize,
    stop: &'a AtomicBool,
    jobs: usize,
    threads: usize,
    failed: Mutex<Vec<(usize, CliError)>>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode, CliError> {
    let (file, name) = sweep_file(&args)?;
    let variations = file.expand()?;
    let folder = args.out.join(&name);
    if !is_name(&name) {
        return Err(RecordError::Name { name }.into());
    }
    check_no_run(&folder)?;
    let Plan { mut items, notes, jobs, threads } = plan(&args, &file, &variations, &folder)?;
    if args.list {
        return list(&items).map(|()| ExitCode::SUCCESS);
    }
    std::fs::create_dir_all(&folder).map_err(|error| RecordError::write(&folder, &error))?;
    let claim = Claim::of(&folder)?;
    // Again: another process may have been at the sweep until now, or have made a run of its name.
    check_no_run(&folder)?;
    items.iter_mut().try_for_each(Item::look)?;
    say_what(&name, &items, jobs, threads, &folder);
    notes.iter().for_each(|note| say!("note: {note}"));
    let stop = watch_signals()?;
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = Work { items: &items, claim: &claim, next, stop: &stop, jobs, threads, failed };
    on_threads(jobs, || work.take_turns());
    let failed = work.failed.lock().expect("no worker panics with the lock");
    // First of all: what comes next may fail as they did, on a full disk for instance.
    for (index, error) in failed.iter() {
        say!("run {}:", items[*index].name);
        error.report(&Context::of(Verb::Sweep, args.json));
    }
    if stop.load(Ordering::Relaxed) {
        let done = items.iter().filter(|item| is_done(&item.folder)).count();
        show(&format!("interrupted: {done} of {} runs are done; the same command goes on from there\n", items.len()))?;
        return Ok(ExitCode::from(INTERRUPTED));
    }
    claim.check()?;
    let end = End { args: &args, file: &file, name: &name, variations: &variations, work: &work, claim: &claim };
    if !end.conclude()? {
        show("interrupted: all runs are done; the same command measures the winner\n")?;
        return Ok(ExitCode::from(INTERRUPTED));
    }
    match failed.len() {
        0 => Ok(ExitCode::SUCCESS),
        count => Err(CliError::failure(format!("{count} of {} runs have failed", items.len()), None)),
    }
}

/// Refuses a folder in which a run is.
fn check_no_run(folder: &Path) -> Result<(), SweepError> {
    match Run::open(folder) {
        Err(RecordError::NoRun { .. }) => Ok(()),
        _ => Err(SweepError::IsRun { path: folder.to_path_buf() }),
    }
}

/// The sweep as written, flags included, and its name.
fn sweep_file(args: &Args) -> Result<(SweepFile, String), CliError> {
    let (mut file, name) = match &args.sweep {
        None => (SweepFile::default(), format!("{}-sweep", crate::record::base_name(&base(&args.settings)))),
        Some(name) => match sweep::text(name) {
            Some(text) => (SweepFile::parse(text, &format!("sweep {name}"))?, name.clone()),
            None => {
                let path = Path::new(name);
                if !path.exists() {
                    return Err(SweepError::Unknown { name: name.clone() }.into());
                }
                let text = text_file::read(path).map_err(|error| SweepError::Read {
                    path: name.clone(),
                    reason: error.reason,
                    hint: error.hint,
                })?;
                let stem = path.file_stem().map_or("sweep".to_string(), |stem| stem.to_string_lossy().into_owned());
                (SweepFile::parse(&text, name)?, stem)
            }
        },
    };
    file.each.extend(args.set_each.iter().cloned());
    if !args.seeds.is_empty() {
        file.seeds.clone_from(&args.seeds);
        file.run.iter_mut().for_each(|run| run.seeds.clear());
    }
    Ok((file, args.name.clone().unwrap_or(name)))
}

/// How many runs go side by side, and the threads of each.
fn divided(jobs: usize, threads: usize) -> Result<(usize, usize), CliError> {
    if !(1..=threads).contains(&jobs) {
        let error = format!("jobs {jobs} is not between 1 and {threads}, the number of threads (--jobs)");
        return Err(CliError::user(error, Some(format!("use --jobs {}", jobs.clamp(1, threads)))));
    }
    Ok((jobs, threads / jobs))
}

/// The splits on which every run is measured: always the one that ranks them, never the test split where it could choose.
fn splits(args: &Args, file: &SweepFile) -> Result<Vec<SplitName>, SweepError> {
    let given: Vec<SplitName> = args.evaluate.iter().map(|&split| split.into()).collect();
    let given = if given.is_empty() { file.evaluate.clone() } else { Some(given) };
    let also = given.unwrap_or(if file.reproduces.is_some() { vec![SplitName::Test] } else { Vec::new() });
    if also.contains(&SplitName::Test) && file.reproduces.is_none() {
        return Err(SweepError::TestSplit);
    }
    let also = also.into_iter().filter(|split| *split != SplitName::Validation);
    Ok([SplitName::Validation].into_iter().chain(also).collect())
}

/// Checks every run and sees how far it is. The threads that jobs share are those of the first run's config.
fn plan(args: &Args, file: &SweepFile, variations: &[Variation], folder: &Path) -> Result<Plan, CliError> {
    let splits = splits(args, file)?;
    let mut items: Vec<Item> = Vec::new();
    let mut names = BTreeSet::new();
    let mut noted: Vec<String> = Vec::new();
    let mut needs = Vec::new();
    let mut shares: Option<(usize, usize)> = None;
    let mut seen: Vec<(DataSpec, Facts)> = Vec::new();
    for (setting, variation) in variations.iter().enumerate() {
        let alone = checked(args, variation, None, None)?;
        let TrainSpec { seed: own, threads: all_threads, .. } = alone.config().train;
        let (jobs, share) = match shares {
            Some(shares) => shares,
            None => *shares.insert(divided(args.jobs, threads(all_threads))?),
        };
        let given: Vec<Option<u64>> = variation.seeds.iter().copied().map(Some).collect();
        for seed in if given.is_empty() { vec![None] } else { given } {
            let checked = checked(args, variation, seed, (jobs > 1).then_some(share))?;
            let data = &checked.config().data;
            // Hundreds of runs may share a folder of which every file is read.
            let known = seen.iter().find(|(spec, _)| spec == data).map(|(_, facts)| facts.clone());
            let is_new = known.is_none();
            let Prepared { facts, config, notes, needed, .. } = match known {
                Some(facts) => Prepared::of_inspected(&checked, facts)?,
                None => watched(true, |listener| Prepared::new(&checked, listener))?,
            };
            if is_new {
                seen.push((data.clone(), facts.clone()));
            }
            for note in notes {
                if !noted.contains(&note) {
                    noted.push(note);
                }
            }
            let name = folder_name(&variation.name, seed.unwrap_or(own), own);
            if !is_name(&name) {
                return Err(SweepError::Name { name, source_name: variation.seeds_source.clone() }.into());
            }
            // A name may end like that of another one with a seed behind it.
            if !names.insert(name.clone()) {
                return Err(SweepError::Twice { name }.into());
            }
            let there = |split: &SplitName| match split {
                SplitName::Train => true,
                SplitName::All => false,
                SplitName::Validation => facts.validation > 0,
                SplitName::Test => facts.has_test(),
            };
            let splits = splits.iter().copied().filter(there).collect();
            let ranks = variations.len() > 1 && (args.test_winner || file.reproduces.is_none());
            if ranks && !there(&SplitName::Validation) {
                let reproduces = file.reproduces.as_ref().and(args.sweep.clone());
                return Err(SweepError::NoValidation { run: name, reproduces }.into());
            }
            if args.test_winner && !there(&SplitName::Test) {
                return Err(SweepError::NoTest { run: name }.into());
            }
            let folder = folder.join(&name);
            let mut item = Item { name, folder, setting, checked, config, state: State::New, splits };
            item.look()?;
            if item.state != State::Done {
                needs.push(needed);
            }
            items.push(item);
        }
    }
    if args.test_winner {
        conclude::check_same_images(&items)?;
    }
    let (jobs, threads) = shares.expect("a sweep has settings");
    check_side_by_side(needs, jobs, available_memory(jobs * threads))?;
    Ok(Plan { items, notes: noted, jobs, threads })
}

/// Checks that the largest runs fit into memory together; each by itself does.
fn check_side_by_side(mut needs: Vec<(Memory, u64)>, jobs: usize, available: Option<u64>) -> Result<(), TrainError> {
    if jobs.min(needs.len()) < 2 {
        return Ok(());
    }
    needs.sort_by_key(|(memory, images)| Reverse(memory.total().saturating_add(*images)));
    let sum = |of: fn(&(Memory, u64)) -> u64| needs.iter().take(jobs).map(of).fold(0, u64::saturating_add);
    let memory = Memory { parameters: sum(|(memory, _)| memory.total()), ..Memory::default() };
    check_memory(SIDE_BY_SIDE, (memory, sum(|(_, images)| *images)), false, available)
}

/// The config of a setting: its start, the flags, then its own assignments, which are what varies.
fn checked(
    args: &Args,
    variation: &Variation,
    seed: Option<u64>,
    threads: Option<usize>,
) -> Result<CheckedConfig, CliError> {
    let mut settings = args.settings.clone();
    if variation.preset.is_some() || variation.config.is_some() {
        if settings.preset.is_some() || settings.config.is_some() || settings.model.is_some() {
            let hint = "change its runs with --set, or copy its file and edit that";
            let error = "the sweep says itself where its runs start (--preset, --config, --model)";
            return Err(CliError::user(error, Some(hint.to_string())));
        }
        (settings.preset, settings.config) = (variation.preset.clone(), variation.config.clone());
    }
    let mut layers = settings.layers(args.flags.values())?;
    for assignment in &variation.set {
        layers.set_from(assignment, &format!("run {}", variation.name))?;
    }
    if let Some(seed) = seed {
        layers.put("train.seed", i64::try_from(seed).expect("larger seeds were refused"), &variation.seeds_source)?;
    }
    if let Some(threads) = threads {
        layers.put("train.threads", i64::try_from(threads).unwrap_or(i64::MAX), "--jobs")?;
    }
    Ok(layers.finish()?)
}

fn list(items: &[Item]) -> Result<(), CliError> {
    let settings = |item: &Item| flat_config(&item.checked.config().to_toml(), "config.toml");
    let base = settings(&items[0])?;
    let mut rows = vec![["run", "state", "against the first"].map(str::to_string)];
    for item in items {
        let own = settings(item)?;
        let changed: Vec<String> = changes(&base, &own)
            .into_iter()
            .map(|(key, _, own): (_, Option<&Value>, _)| format!("{key} {}", shown(own)))
            .collect();
        let state = match item.state {
            State::Done => "done",
            State::New => "to do",
            State::Begun => "to go on",
            State::Again => "to do again",
        };
        rows.push([item.name.clone(), state.to_string(), changed.join(", ")]);
    }
    show(&table(&rows, &[Align::Left; 3]))
}

fn say_what(name: &str, items: &[Item], jobs: usize, threads: usize, folder: &Path) {
    let done = items.iter().filter(|item| item.state == State::Done).count();
    let before = if done > 0 { format!(", {done} of them done before") } else { String::new() };
    let threads = numbers::counted(threads, "thread");
    let how = if jobs > 1 { format!("{jobs} side by side, each on {threads}") } else { format!("on {threads}") };
    say!("sweep {name}: {} runs{before}, {how}, into {}", items.len(), folder.display());
}

impl Item {
    /// Sees how far it is. A batch that nobody chose is made to fit twice: to the pictures that are listed, and when
    /// some could not be decoded, to those that were left.
    fn look(&mut self) -> Result<(), CliError> {
        let config = match Run::open(&self.folder) {
            Ok(run) => fitted_config(&self.checked, &self.config, &run),
            Err(_) => self.config.clone(),
        };
        self.state = state_of(&self.folder, &flat_config(&config.to_toml(), "config.toml")?)?;
        Ok(())
    }
}

impl Work<'_> {
    /// Takes one run after the other until none is left, or the sweep is to stop.
    fn take_turns(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = self.items.get(index) else { break };
            // Where the sweep's folder was moved, runs would be made in a new one.
            let done = self.claim.check().map_err(CliError::from).and_then(|()| self.bring_to_end(index, item));
            if let Err(error) = done {
                say!("run {} has failed; the sweep goes on", item.name);
                self.failed.lock().expect("no worker panics with the lock").push((index, error));
            }
        }
    }

    fn bring_to_end(&self, index: usize, item: &Item) -> Result<(), CliError> {
        let started = Instant::now();
        if item.state != State::Done {
            say!("run {} of {}: {}", index + 1, self.items.len(), item.name);
            let outcome = self.train(item, started)?;
            if outcome.status == Status::Interrupted {
                return Ok(());
            }
        }
        let mut found = Vec::new();
        for &split in &item.splits {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            if let Some(accuracy) = self.measure(item, split)? {
                found.push(format!("{split} {}", numbers::percent(accuracy)));
            }
        }
        if !found.is_empty() {
            say!("{}: {}, {}", item.name, found.join(", "), durations::duration(started.elapsed().as_secs_f64()));
        }
        Ok(())
    }

    /// Measures a run on a split, unless that was done before.
    fn measure(&self, item: &Item, split: SplitName) -> Result<Option<f64>, CliError> {
        let run = Run::open(&item.folder)?;
        let (weights, _) = run.find_weights(None)?;
        if run.manifest().evaluation_of(split, weights).is_some() {
            return Ok(None);
        }
        let options = EvaluateOptions { split: Some(split), threads: self.threads, ..EvaluateOptions::default() };
        let Evaluated { report, written, .. } =
            watched(self.jobs == 1, |listener| evaluate(&item.folder, &options, listener))?;
        written?;
        Ok(Some(report.reached.accuracy()))
    }

    /// Trains a run from its start, or from where it was.
    fn train(&self, item: &Item, started: Instant) -> Result<Outcome, CliError> {
        let out = item.folder.parent().unwrap_or(Path::new("."));
        let earlier = (item.state == State::Begun).then(|| EarlierRun::open(&item.folder)).transpose()?;
        let job = watched(self.jobs == 1, |listener| Prepared::new(&item.checked, listener)?.load(listener))?;
        job.dropped_batch().iter().for_each(|problem| say!("note: {}: {}; {}", item.name, problem.what, problem.fix));
        let epochs = job.config().train.epochs;
        let before = earlier.as_ref().map_or(0, EarlierRun::step);
        let mut alone = (self.jobs == 1).then(|| TrainProgress::start(&job, before, None));
        let mut training = match earlier {
            Some(earlier) => {
                say!("{}: {}", item.name, earlier.resume_point());
                let notes = earlier.notes().to_vec();
                let (training, note) = earlier.resume(job, Vec::new(), command())?;
                notes.iter().chain(&note).for_each(|note| say!("note: {}: {note}", item.name));
                training
            }
            None => TrainingRun::start(Place::choose(out, Some(&item.name), &item.name)?, job, command())?,
        };
        let limits = Limits { stop: self.stop, until: None, save_every: SAVE_EVERY };
        let outcome = training.train(started, &limits, &mut |event| match (&mut alone, event) {
            (Some(progress), event) => progress.show(event),
            (None, Event::Epoch { row, .. }) => {
                let validation = row
                    .validation
                    .map_or_else(String::new, |found| format!("  val acc {}", numbers::percent(found.accuracy)));
                let acc = numbers::percent(row.train_acc);
                say!("{}: epoch {}/{epochs}  loss {:.4}  acc {acc}{validation}", item.name, row.epoch, row.train_loss);
            }
            (None, _) => {}
        });
        alone.iter().for_each(TrainProgress::finish);
        Ok(outcome?)
    }
}

fn is_done(folder: &Path) -> bool {
    Run::open(folder).is_ok_and(|run| matches!(run.manifest().status, Status::Finished | Status::MaxSteps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_side_by_side_are_given_memory_for_the_largest_of_them_together() {
        let need = |parameters, images| (Memory { parameters, ..Memory::default() }, images);
        // In no order; the largest three take 11 GB and 2 GB of images.
        let needs = vec![need(1_000_000_000, 0), need(5_000_000_000, 0), need(2_000_000_000, 2_000_000_000)];
        let needs = [needs, vec![need(300_000_000, 0), need(4_000_000_000, 0)]].concat();
        let check = |jobs, available| check_side_by_side(needs.clone(), jobs, Some(available));
        let error = check(3, 12_900_000_000).unwrap_err();
        assert_eq!(error.to_string(), "training side by side needs 13.0 GB of memory, but 12.9 GB are available");
        assert_eq!(error.hint().unwrap(), "use fewer --jobs, or end other programs");
        assert_eq!([check(3, 13_100_000_000), check(2, 9_100_000_000)], [Ok(()), Ok(())]);
        assert!(check(2, 8_900_000_000).is_err() && check(7, 14_200_000_000).is_err());
        // What was checked by itself, and what is done, is not asked again.
        assert_eq!([check(1, 0), check_side_by_side(needs[..1].to_vec(), 4, Some(0))], [Ok(()), Ok(())]);
        assert_eq!(check_side_by_side(needs.clone(), 3, None), Ok(()));
    }
}
