//! Plans a sweep: the config, folder and state of every run, all checked before the first one starts.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::Value;
use vitreous_engine::Memory;

use super::{State, SweepError, SweepFile, Variation, folder_name, state_of};
use crate::advice::{Argument, Source};
use crate::compare::Measure;
use crate::config::data::DataSpec;
use crate::config::difference::{changes, flat_config};
use crate::config::layers::Layers;
use crate::config::train::TrainSpec;
use crate::config::{CheckedConfig, ResolvedConfig};
use crate::data::{Facts, SplitName};
use crate::experiment::{ExperimentError, Listener, Prepared, fitted_config, inspect};
use crate::plots::PlotChoice;
use crate::record::{RecordError, Run, Status, is_name};
use crate::train::{TrainError, Work, available_memory, check_memory, peak_bytes, threads};

/// Options of a sweep that are not in its file.
#[derive(Clone, Debug)]
pub struct SweepOptions {
    /// The name of the sweep and of its folder.
    pub name: String,
    /// The folder that contains the sweep's folder.
    pub out: PathBuf,
    /// Runs side by side.
    pub jobs: usize,
    /// Splits on which each run is evaluated, instead of those in the file.
    pub evaluate: Vec<SplitName>,
    /// Whether each run is evaluated on the validation split, which saves its predictions; its accuracy there is known
    /// without.
    pub is_validated: bool,
    /// Whether the winner is evaluated on the test split.
    pub test_winner: bool,
    /// The command, for the manifests and the analysis.
    pub command: Vec<String>,
    /// The plots of each run, if any are wanted.
    pub plots: Option<PlotChoice>,
    /// Where the runs are trained.
    pub runs_on: RunsOn,
}

/// Where the runs of a sweep are trained. Only those of this machine must fit into its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunsOn {
    /// This machine.
    Here,
    /// Others, each run alone on so many processors.
    Others(usize),
    /// None: what is finished is compared.
    Nothing,
}

/// A sweep whose runs are all checked.
pub struct Sweep {
    pub(super) file: SweepFile,
    pub(super) options: SweepOptions,
    pub(super) folder: PathBuf,
    pub(super) variations: Vec<Variation>,
    pub(super) runs: Vec<PlannedRun>,
    notes: Vec<String>,
    pub(super) threads: usize,
    /// Of the largest run that is not done.
    memory_needed: u64,
    checkpoint_bytes: u64,
}

/// One run of a sweep.
pub struct PlannedRun {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    /// The place of its setting.
    pub(super) setting: usize,
    pub(super) checked: CheckedConfig,
    /// The same, filled in.
    config: ResolvedConfig,
    pub(super) state: State,
    /// Splits on which it is evaluated.
    pub(super) splits: Vec<SplitName>,
}

impl Sweep {
    /// Checks every run and finds out how far it is. `start` makes the config from which a setting starts; the
    /// setting's assignments override it. The jobs share the number of threads in the first run's config.
    ///
    /// # Errors
    /// When the file, a config or the data is wrong, two runs would share a folder, or there is too little memory.
    pub fn plan<E: From<ExperimentError> + From<SweepError>>(
        file: SweepFile,
        options: SweepOptions,
        start: impl Fn(&Variation) -> Result<Layers, E>,
        listener: Listener,
    ) -> Result<Sweep, E> {
        let variations = file.expand()?;
        let folder = options.out.join(&options.name);
        if !is_name(&options.name) {
            return Err(SweepError::from(RecordError::Name { name: options.name }).into());
        }
        check_no_run(&folder)?;
        let splits = splits(&options, &file)?;
        let mut runs: Vec<PlannedRun> = Vec::new();
        let mut names = BTreeSet::new();
        let mut notes: Vec<String> = Vec::new();
        let (mut needs, mut checkpoint_bytes) = (Vec::new(), 0);
        let mut shares: Option<(usize, usize)> = None;
        let mut seen: Vec<(DataSpec, Facts)> = Vec::new();
        for (setting, variation) in variations.iter().enumerate() {
            let alone = with_assignments(start(variation)?, variation, None, None)?;
            let TrainSpec { seed: own, threads: all_threads, .. } = alone.config().train;
            let (jobs, share) = match shares {
                Some(shares) => shares,
                None => *shares.insert(divided(options.jobs, threads(all_threads))?),
            };
            let given: Vec<Option<u64>> = variation.seeds.iter().copied().map(Some).collect();
            for seed in if given.is_empty() { vec![None] } else { given } {
                let checked = with_assignments(start(variation)?, variation, seed, (jobs > 1).then_some(share))?;
                let data = &checked.config().data;
                // Hundreds of runs may share a folder of which every file is read.
                let known = seen.iter().find(|(spec, _)| spec == data).map(|(_, facts)| facts.clone());
                let is_new = known.is_none();
                let inspected = || known.map_or_else(|| inspect(&checked, listener), Ok);
                let prepared = match options.runs_on {
                    RunsOn::Here if is_new => Prepared::new(&checked, listener)?,
                    RunsOn::Here => Prepared::of_inspected(&checked, inspected()?)?,
                    RunsOn::Others(processors) => Prepared::elsewhere(&checked, inspected()?, processors)?,
                    RunsOn::Nothing => Prepared::elsewhere(&checked, inspected()?, 1)?,
                };
                let saved = prepared.checkpoint_bytes();
                let Prepared { facts, config, notes: found, needed, .. } = prepared;
                if is_new {
                    seen.push((data.clone(), facts.clone()));
                }
                for note in found {
                    if !notes.contains(&note) {
                        notes.push(note);
                    }
                }
                let name = folder_name(&variation.name, seed.unwrap_or(own), own);
                if !is_name(&name) {
                    return Err(SweepError::Name { name, origin: variation.seeds_source.clone() }.into());
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
                let ranks = variations.len() > 1 && (options.test_winner || file.reproduces.is_none());
                if ranks && !there(&SplitName::Validation) {
                    let reproduces = file.reproduces.clone();
                    return Err(SweepError::NoValidation { run: name, reproduces }.into());
                }
                if options.test_winner && !there(&SplitName::Test) {
                    return Err(SweepError::NoTest { run: name }.into());
                }
                let folder = folder.join(&name);
                let mut run = PlannedRun { name, folder, setting, checked, config, state: State::New, splits };
                run.look::<E>()?;
                if run.state != State::Done {
                    needs.push(needed);
                    checkpoint_bytes = checkpoint_bytes.max(saved);
                }
                runs.push(run);
            }
        }
        if options.test_winner {
            check_same_images::<E>(&runs)?;
        }
        let (jobs, threads) = shares.expect("a sweep has settings");
        let memory_needed = needs.iter().map(|needed| peak_bytes(*needed)).max().unwrap_or(0);
        if options.runs_on == RunsOn::Here {
            check_side_by_side(needs, jobs, available_memory(jobs * threads)).map_err(ExperimentError::from)?;
        }
        Ok(Sweep { file, options, folder, variations, runs, notes, threads, memory_needed, checkpoint_bytes })
    }

    /// The folder of the sweep.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its runs, in order.
    pub fn runs(&self) -> &[PlannedRun] {
        &self.runs
    }

    /// Adjusted values, and what is unusual.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The memory that the largest of the runs that are not done needs by itself, in bytes.
    pub fn memory_needed(&self) -> u64 {
        self.memory_needed
    }

    /// Whether runs are evaluated on the test split in the end.
    pub fn tests_winner(&self) -> bool {
        self.options.test_winner || self.file.reproduces.is_some()
    }

    /// Bytes of the largest checkpoint of these runs.
    pub fn checkpoint_bytes(&self) -> u64 {
        self.checkpoint_bytes
    }

    /// Runs side by side, and the threads of each.
    pub fn jobs(&self) -> [usize; 2] {
        [self.options.jobs, self.threads]
    }

    /// What a run changes of the first one's config, as keys and values.
    ///
    /// # Errors
    /// When a config cannot be read back.
    pub fn changes(&self, run: &PlannedRun) -> Result<Vec<(String, Option<Value>)>, ExperimentError> {
        let settings = |run: &PlannedRun| flat_config(&run.checked.config().to_toml(), "config.toml");
        let (first, own) = (settings(&self.runs[0])?, settings(run)?);
        let changed = changes(&first, &own).into_iter();
        Ok(changed.map(|(key, _, value)| (key.to_string(), value.cloned())).collect())
    }
}

impl PlannedRun {
    /// Its name, which is that of its folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How far it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether its folder holds a finished run.
    pub fn is_done(&self) -> bool {
        Run::open(&self.folder).is_ok_and(|run| run.manifest().status.is_finished())
    }

    /// Whether it ended with an error the last time.
    pub(super) fn has_failed(&self) -> bool {
        Run::open(&self.folder).is_ok_and(|run| run.manifest().status == Status::Failed)
    }

    /// Finds out how far it is, and remembers it.
    pub(super) fn look<E: From<ExperimentError> + From<SweepError>>(&mut self) -> Result<(), E> {
        self.state = self.state_now::<E>()?;
        Ok(())
    }

    /// Finds out how far it is. A default or preset batch size is reduced twice: to the number of listed images and,
    /// when some cannot be decoded, to the number of the others.
    pub(super) fn state_now<E: From<ExperimentError> + From<SweepError>>(&self) -> Result<State, E> {
        let config = match Run::open(&self.folder) {
            Ok(run) => fitted_config(&self.checked, &self.config, &run),
            Err(_) => self.config.clone(),
        };
        let wanted = flat_config(&config.to_toml(), "config.toml").map_err(ExperimentError::from)?;
        Ok(state_of(&self.folder, &wanted)?)
    }
}

/// Refuses a folder in which a run is.
pub(super) fn check_no_run(folder: &Path) -> Result<(), SweepError> {
    match Run::open(folder) {
        Err(RecordError::NoRun { .. }) => Ok(()),
        _ => Err(SweepError::IsRun { path: folder.to_path_buf() }),
    }
}

/// Runs side by side, and the threads of each.
fn divided(jobs: usize, threads: usize) -> Result<(usize, usize), SweepError> {
    match (1..=threads).contains(&jobs) {
        true => Ok((jobs, threads / jobs)),
        false => Err(SweepError::Jobs { jobs, threads }),
    }
}

/// The splits on which every run is evaluated: never the test split where it could choose.
fn splits(options: &SweepOptions, file: &SweepFile) -> Result<Vec<SplitName>, SweepError> {
    let given = if options.evaluate.is_empty() { file.evaluate.clone() } else { Some(options.evaluate.clone()) };
    let also = given.unwrap_or(if file.reproduces.is_some() { vec![SplitName::Test] } else { Vec::new() });
    if also.contains(&SplitName::Test) && file.reproduces.is_none() {
        return Err(SweepError::TestSplit);
    }
    let also = also.into_iter().filter(|split| *split != SplitName::Validation);
    Ok(options.is_validated.then_some(SplitName::Validation).into_iter().chain(also).collect())
}

/// Checks that the largest runs fit into memory together; each by itself does.
fn check_side_by_side(mut needs: Vec<(Memory, u64)>, jobs: usize, available: Option<u64>) -> Result<(), TrainError> {
    if jobs.min(needs.len()) < 2 {
        return Ok(());
    }
    needs.sort_by_key(|(memory, images)| Reverse(memory.total().saturating_add(*images)));
    let sum = |of: fn(&(Memory, u64)) -> u64| needs.iter().take(jobs).map(of).fold(0, u64::saturating_add);
    let memory = Memory { parameters: sum(|(memory, _)| memory.total()), ..Memory::default() };
    check_memory(Work::SideBySide, (memory, sum(|(_, images)| *images)), false, available)
}

/// The config of a setting: its start, then its own assignments, which are what varies.
fn with_assignments(
    mut layers: Layers,
    variation: &Variation,
    seed: Option<u64>,
    threads: Option<usize>,
) -> Result<CheckedConfig, ExperimentError> {
    for assignment in &variation.set {
        layers.set(assignment, Source::File(format!("run {}", variation.name)))?;
    }
    if let Some(seed) = seed {
        layers.put(
            "train.seed",
            i64::try_from(seed).expect("larger seeds were refused"),
            &variation.seeds_source.source(),
        )?;
    }
    if let Some(threads) = threads {
        layers.put("train.threads", i64::try_from(threads).unwrap_or(i64::MAX), Argument::Jobs.name())?;
    }
    Ok(layers.finish()?)
}

/// Refuses runs that are validated on different images, between which nothing can be chosen.
fn check_same_images<E: From<ExperimentError> + From<SweepError>>(runs: &[PlannedRun]) -> Result<(), E> {
    let settings = |run: &PlannedRun| flat_config(&run.config.to_toml(), "config.toml").map_err(ExperimentError::from);
    let first = settings(&runs[0])?;
    for run in &runs[1..] {
        let keys = Measure::Validation.apart(&first, &settings(run)?);
        if !keys.is_empty() {
            return Err(SweepError::OtherImages { runs: [runs[0].name.clone(), run.name.clone()], keys }.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advice::Explain;

    #[test]
    fn runs_side_by_side_are_given_memory_for_the_largest_of_them_together() {
        let need = |parameters, images| (Memory { parameters, ..Memory::default() }, images);
        // In no order; the largest three take 11 GB and 2 GB of images.
        let needs = vec![need(1_000_000_000, 0), need(5_000_000_000, 0), need(2_000_000_000, 2_000_000_000)];
        let needs = [needs, vec![need(300_000_000, 0), need(4_000_000_000, 0)]].concat();
        let check = |jobs, available| check_side_by_side(needs.clone(), jobs, Some(available));
        let error = check(3, 12_900_000_000).unwrap_err();
        assert_eq!(error.to_string(), "training side by side needs 13.0 GB of memory, but 12.9 GB are available");
        assert_eq!(error.hint().unwrap(), "use fewer jobs, or end other programs");
        assert_eq!([check(3, 13_100_000_000), check(2, 9_100_000_000)], [Ok(()), Ok(())]);
        assert!(check(2, 8_900_000_000).is_err() && check(7, 14_200_000_000).is_err());
        // What was checked by itself, and what is done, is not asked again.
        assert_eq!([check(1, 0), check_side_by_side(needs[..1].to_vec(), 4, Some(0))], [Ok(()), Ok(())]);
        assert_eq!(check_side_by_side(needs.clone(), 3, None), Ok(()));
    }
}
