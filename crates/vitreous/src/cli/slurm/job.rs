//! The parts of a job: its resources, the words of its command, and its script.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use crate::cli::flags::Resources;
use crate::cli::settings::SettingsArgs;
use crate::cli::sweep::key_of;
use crate::cli::{CliError, command, train, words_given};
use crate::config::layers::Layers;
use crate::config::slurm::SlurmSpec;
use crate::config::{CheckedConfig, data::DataSpec};
use crate::data_sets;
use crate::numbers::{bytes, counted};
use crate::slurm::{Array, Script, SlurmError, Staged, Work, memory_mebibytes, unicode};
use crate::{system_errors, text};

/// Processors of a job where nothing says how many.
const CPUS: usize = 4;

/// Most processors that a training uses: the images of a step are divided into as many parts.
const CPUS_USED: usize = 16;

/// Memory of a job of which nothing is predicted, in mebibytes.
const MEBIBYTES: u64 = 4096;

/// The flags of this command itself, besides those of resources.
const OWN: [&str; 6] = ["site", "dry_run", "simulate", "simulate_seed", "json", "quiet"];

/// The longest name that is shown for a job: `squeue` shows few letters.
const NAME_MAX: usize = 100;

/// What is asked of the cluster.
#[derive(clap::Args)]
pub struct Wanted {
    #[command(flatten)]
    resources: Resources,
    /// Site file with the keys of [slurm] for all jobs [default: ~/.config/vitreous/slurm.toml, if it exists]
    #[arg(long, value_name = "FILE", help_heading = "Job")]
    site: Option<PathBuf>,
}

impl Wanted {
    /// Adds flags, then the site file, to a config.
    pub fn layers(&self, mut layers: Layers) -> Result<Layers, CliError> {
        for (key, value, flag) in self.resources.values() {
            layers.put(key, value, flag)?;
        }
        if let Some(site) = self.site.clone().or_else(|| site_of_user().filter(|site| site.exists())) {
            layers.add_site(&site)?;
        }
        Ok(layers)
    }
}

fn site_of_user() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(config.join("vitreous/slurm.toml"))
}

/// The processors of a job.
pub fn cpus(checked: &CheckedConfig) -> usize {
    let config = checked.config();
    config.slurm.cpus.unwrap_or(if config.train.threads > 0 { config.train.threads } else { CPUS })
}

/// What is doubtful about the resources of a job, whose work is predicted to need so many bytes of memory.
pub fn notes(checked: &CheckedConfig, predicted: u64) -> Vec<String> {
    let (spec, threads) = (&checked.config().slurm, checked.config().train.threads);
    let differ = |what: String, cpus| format!("slurm.cpus {cpus} and train.threads {threads} differ: {what}");
    let threads_note = spec.cpus.filter(|_| threads > 0).and_then(|cpus| match threads.cmp(&cpus) {
        Ordering::Less => Some(differ(format!("{} not used", counted(cpus - threads, "processor")), cpus)),
        Ordering::Greater => {
            Some(differ(format!("{} share {}", counted(threads, "thread"), counted(cpus, "processor")), cpus))
        }
        Ordering::Equal => None,
    });
    let cpus = spec.cpus.filter(|&cpus| cpus > CPUS_USED && threads == 0);
    let cpus_note = cpus.map(|cpus| {
        format!("slurm.cpus {cpus}: more than {CPUS_USED} processors do not make a training faster, but the job waits longer")
    });
    let given = spec.mebibytes().filter(|&mebibytes| mebibytes > 0 && mebibytes << 20 < predicted);
    let memory_note = given.zip(spec.memory.as_ref()).map(|(mebibytes, memory)| {
        let [given, predicted] = [mebibytes << 20, predicted].map(bytes);
        format!("slurm.memory {memory} is {given}, less than the {predicted} that the work is predicted to need")
    });
    let gpu = spec.gres.as_ref().filter(|gres| gres.contains("gpu"));
    let gpu_note = gpu.map(|gres| format!("slurm.gres {gres}: no GPU is used, but the job waits until one is free"));
    [threads_note, cpus_note, memory_note, gpu_note].into_iter().flatten().collect()
}

/// The memory of a job, and why as much; `predicted` is what its work needs, in bytes.
pub fn memory(spec: &SlurmSpec, predicted: Option<u64>) -> (u64, String) {
    match (spec.mebibytes(), predicted) {
        (Some(mebibytes), _) => (mebibytes, "Memory, as asked for".to_string()),
        (None, Some(needed)) => memory_mebibytes(needed),
        (None, None) => (MEBIBYTES, "Memory; nothing is predicted for this command".to_string()),
    }
}

/// The words behind `vitreous slurm VERB`, without those for this command itself. JSON and quiet are those of the submission:
/// a job's log is for people.
pub fn arguments(verb: &str) -> Result<Vec<String>, CliError> {
    arguments_without(verb, &[])
}

/// As [`arguments`], but without more flags, named by clap's identifiers.
pub fn arguments_without(verb: &str, more: &[&str]) -> Result<Vec<String>, CliError> {
    // Before the two words of the command there are only flags without values.
    let is_flag = |word: &std::ffi::OsString| word.as_encoded_bytes().starts_with(b"-");
    let mut words = words_given().into_iter().skip(1);
    let found: Vec<_> = words.by_ref().filter(|word| !is_flag(word)).take(2).collect();
    assert!(found == ["slurm", verb], "clap has read `slurm {verb}`, not {found:?}");
    let words = words.map(|word| {
        let hint = || Some("rename it".to_string());
        word.to_str().map(str::to_string).ok_or_else(|| {
            CliError::user(
                format!("{} is not valid Unicode, which a batch script needs", text::visible(&word.to_string_lossy())),
                hint(),
            )
        })
    });
    Ok(without_own(words.collect::<Result<_, _>>()?, verb, more))
}

/// Leaves out the flags of this command itself, each with its value.
fn without_own(words: Vec<String>, verb: &str, more: &[&str]) -> Vec<String> {
    let mut whole = command();
    // Flags that all commands have become known to each.
    whole.build();
    let inner = |command: &clap::Command, name: &str| command.find_subcommand(name).cloned();
    let mut parser = inner(&whole, "slurm").and_then(|slurm| inner(&slurm, verb)).expect("clap has read it");
    let is_own = |arg: &clap::Arg| {
        let id = arg.get_id().as_str();
        id.starts_with("slurm.") || OWN.contains(&id) || more.contains(&id)
    };
    // Whether the next word is its value, unless that is in the same word.
    let has_next = |arg: &clap::Arg| {
        arg.get_num_args().is_some_and(|count| count.min_values() > 0) && !arg.is_require_equals_set()
    };
    let mut left = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        // What follows is not a flag. The script adds flags at the end.
        if word == "--" {
            left.extend(words.map(|word| if word.starts_with('-') { format!("./{word}") } else { word }));
            break;
        }
        if let Some(long) = word.strip_prefix("--") {
            let name = long.split('=').next().unwrap_or_default();
            let is_it = |arg: &&clap::Arg| {
                arg.get_long() == Some(name) || arg.get_all_aliases().unwrap_or_default().contains(&name)
            };
            let arg = parser.get_arguments().find(is_it);
            let value = arg.filter(|arg| has_next(arg) && !long.contains('=')).and_then(|_| words.next());
            if !arg.is_some_and(is_own) {
                left.extend([word].into_iter().chain(value));
            }
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            // Several may share a word: `-vp cpu`, `-j2`.
            let (mut kept, mut value) = (String::from("-"), None);
            for (at, letter) in letters.char_indices() {
                let arg = parser.get_arguments().find(|arg| arg.get_short() == Some(letter));
                let rest = &letters[at + letter.len_utf8()..];
                let takes_rest = arg.is_none_or(has_next);
                let next = if takes_rest && arg.is_some() && rest.is_empty() { words.next() } else { None };
                if !arg.is_some_and(is_own) {
                    kept.push(letter);
                    if takes_rest {
                        kept.push_str(rest);
                    }
                    value = next;
                }
                if takes_rest {
                    break;
                }
            }
            if kept.len() > 1 {
                left.extend([kept].into_iter().chain(value));
            }
        } else {
            parser = inner(&parser, &word).unwrap_or(parser);
            left.push(word);
        }
    }
    left
}

/// The program of this process.
pub fn program() -> Result<String, CliError> {
    let path = std::env::current_exe().map_err(|error| {
        CliError::failure(format!("cannot find this program: {}", system_errors::system_error(&error)), None)
    })?;
    Ok(unicode("the program", &path)?.to_string())
}

/// The current folder, in which a job runs too.
pub fn here() -> Result<PathBuf, CliError> {
    let here = std::env::current_dir();
    here.map_err(|error| CliError::user(format!("the current folder: {}", system_errors::system_error(&error)), None))
}

/// What is copied to a node's own disk before a run reads it. A folder of images must be named by a relative path: the
/// copy has the same name in another data folder, so that the run's config stays the same.
pub fn staged(spec: &SlurmSpec, data: &DataSpec, settings: &SettingsArgs) -> Result<Option<Staged>, CliError> {
    if !spec.scratch {
        return Ok(None);
    }
    // It would come before the copy's folder.
    if settings.set.iter().any(|assignment| key_of(assignment) == "data.dir") {
        let hint = "name the folder with --data-dir".to_string();
        let error = "--set data.dir cannot be used together with --scratch (slurm.scratch)";
        return Err(CliError::user(error, Some(hint)));
    }
    let dir = data.dir.clone().unwrap_or_else(|| PathBuf::from("."));
    let text = |path: &Path| unicode("the folder", path).map(str::to_string);
    let refused = |why| SlurmError::Staging { name: data.name.clone(), why };
    match data_sets::data_set(&data.name) {
        Some(set) if set.folders.is_empty() => {
            say!("note: slurm.scratch: {} is built in, so nothing is copied", data.name);
            Ok(None)
        }
        Some(set) => {
            let folder = set.folders.iter().find(|folder| dir.join(folder).is_dir());
            let folder = folder.ok_or_else(|| refused("the data folder has no folder of that name"))?;
            Ok(Some(Staged { from: text(&dir.join(folder))?, to: (*folder).to_string() }))
        }
        None => {
            let inside = Path::new(&data.name);
            let is_plain = inside.components().all(|part| matches!(part, std::path::Component::Normal(_)));
            if !is_plain {
                return Err(refused("only a relative path without `..` can be found in the copy").into());
            }
            let from = [dir.join(inside), inside.to_path_buf()].into_iter().find(|path| path.is_dir());
            from.map(|from| Ok(Staged { from: text(&from)?, to: data.name.clone() })).transpose()
        }
    }
}

/// A job that is to be submitted.
pub struct Job {
    /// Its name.
    pub name: String,
    /// The file of its script, in the folder `slurm/`.
    pub file: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What the command that submits it lacks to continue it; empty where the same command does.
    pub continued: String,
    pub resumes: bool,
    /// Whether it comes after all runs of a sweep.
    pub is_last: bool,
    pub array: Option<Array>,
    pub staged: Option<Staged>,
    /// The folder of its data.
    pub reads: Option<PathBuf>,
    /// The folder of the weights that it starts from.
    pub weights: Option<PathBuf>,
    /// Whether that folder is known from the environment only.
    pub reads_environment: bool,
    pub memory: (u64, String),
    pub cpus: usize,
}

impl Job {
    /// Its script, for the folder `slurm`.
    pub fn script(&self, spec: &SlurmSpec, slurm: &Path) -> Result<String, CliError> {
        let (here, program) = (here()?, program()?);
        let words: Vec<String> =
            train::command().into_iter().skip(1).map(|word| crate::slurm::quoted(&word).into_owned()).collect();
        let written_by = format!("vitreous {}", words.join(" "));
        let submits = |word: &&String| !["--dry-run", "--json"].contains(&word.as_str());
        let mut again: Vec<&str> = words.iter().filter(submits).map(String::as_str).collect();
        // What follows `--` is not a flag.
        let end = again.iter().position(|word| *word == "--").unwrap_or(again.len());
        again.splice(end..end, Some(self.continued.as_str()).filter(|flags| !flags.is_empty()));
        let script = Script {
            name: &self.name,
            written_by: &written_by,
            again: &format!("vitreous {}", again.join(" ")),
            path: &slurm.join(&self.file),
            is_last: self.is_last,
            folder: &here,
            logs: &here.join(slurm),
            spec,
            cpus: self.cpus,
            memory: self.memory.clone(),
            work: Work {
                program: &program,
                arguments: &self.arguments,
                reads: self.reads.as_deref(),
                weights: self.weights.as_deref(),
                data_dir: self.reads.as_deref().filter(|_| self.reads_environment),
                resumes: self.resumes,
            },
            array: self.array.clone(),
            staged: self.staged.clone(),
        };
        Ok(script.text()?)
    }
}

/// A job's name: that of its run.
pub fn job_name(owner: &Path) -> String {
    let name = owner.file_name().unwrap_or_default().to_string_lossy();
    let name: String = text::visible(&name).chars().take(NAME_MAX).collect();
    if name.is_empty() { "vitreous".to_string() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_words_for_the_job_are_left_out() {
        let left = |line: &str| without_own(line.split(' ').map(str::to_string).collect(), "train", &[]).join(" ");
        let line = "-p cpu --preset digits --time=2h --epochs 3 --mem 4G --scratch --name a --json --extra #SBATCH=x --dry-run -t5m -j 2";
        assert_eq!(left(line), "--preset digits --epochs 3 --name a -j 2");
        assert_eq!(left("--simulate=20 --max-time 2h --set slurm.time=2h"), "--max-time 2h --set slurm.time=2h");
        // It starts like one of them, or is a value.
        assert_eq!(left("--test-winner --partitions x"), "--test-winner --partitions x");
        assert_eq!(left("--extra --json --name --time=2h digits"), "--name --time=2h digits");
        // Several in one word.
        assert_eq!(left("-vp cpu -qpcpu -vqj2 -qj 3 -qvt=2h"), "-v -vj2 -j 3 -v");
        assert_eq!(left("-- -p cpu"), "./-p cpu");
        assert_eq!(left("--simulate --simulate-seed 7 -j 2"), "-j 2");
        let words = ["--name", "a", "--max-steps=3", "--out=b", "--seeds", "1,2"].map(str::to_string).to_vec();
        assert_eq!(without_own(words, "sweep", &["name", "out", "train.max_steps"]), ["--seeds", "1,2"]);
        let left = |line: &str| without_own(line.split(' ').map(str::to_string).collect(), "verify", &[]).join(" ");
        assert_eq!(left("-t 2h threads -j 2 --json --counts 1,2"), "threads -j 2 --counts 1,2");
    }
}
