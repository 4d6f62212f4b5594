//! The parts of a job: its resources, the words of its command, and its script.

use std::path::{Path, PathBuf};

use crate::cli::flags::Resources;
use crate::cli::{CliError, command, train};
use crate::config::layers::Layers;
use crate::config::slurm::SlurmSpec;
use crate::config::{CheckedConfig, data::DataSpec};
use crate::data_sets;
use crate::experiment::unicode;
use crate::slurm::{Array, Script, SlurmError, Staged, Work, memory_mebibytes};
use crate::{system_errors, text};

/// Processors of a job where nothing says how many.
const CPUS: usize = 4;

/// Memory of a job of which nothing is predicted, in mebibytes.
const MEBIBYTES: u64 = 4096;

/// The flags of this command itself, besides those of resources.
const OWN: [&str; 5] = ["site", "dry_run", "simulate", "json", "quiet"];

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
    // Before the two words of the command there are only flags without values.
    let is_flag = |word: &std::ffi::OsString| word.as_encoded_bytes().starts_with(b"-");
    let mut words = std::env::args_os().skip(1);
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
    Ok(without_own(words.collect::<Result<_, _>>()?, verb))
}

/// Leaves out the flags of this command itself, each with its value.
fn without_own(words: Vec<String>, verb: &str) -> Vec<String> {
    let mut whole = command();
    // Flags that all commands have become known to each.
    whole.build();
    let inner = |command: &clap::Command, name: &str| command.find_subcommand(name).cloned();
    let mut parser = inner(&whole, "slurm").and_then(|slurm| inner(&slurm, verb)).expect("clap has read it");
    let is_own = |arg: &clap::Arg| arg.get_id().as_str().starts_with("slurm.") || OWN.contains(&arg.get_id().as_str());
    // Whether the next word is its value, unless that is in the same word.
    let has_next = |arg: &clap::Arg| {
        arg.get_num_args().is_some_and(|count| count.min_values() > 0) && !arg.is_require_equals_set()
    };
    let mut left = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            left.push(word);
            left.extend(words);
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
    Ok(unicode(&path)?.to_string())
}

/// The current folder, in which a job runs too.
pub fn here() -> Result<PathBuf, CliError> {
    let here = std::env::current_dir();
    here.map_err(|error| CliError::user(format!("the current folder: {}", system_errors::system_error(&error)), None))
}

/// What is copied to a node's own disk before a run reads it. A folder of images must be named by a relative path: the
/// copy has the same name in another data folder, so that the run's config stays the same.
pub fn staged(data: &DataSpec) -> Result<Option<Staged>, SlurmError> {
    let dir = data.dir.clone().unwrap_or_else(|| PathBuf::from("."));
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let refused = |why| SlurmError::Staging { name: data.name.clone(), why };
    match data_sets::data_set(&data.name) {
        Some(set) if set.folders.is_empty() => Ok(None),
        Some(set) => {
            let folder = set.folders.iter().find(|folder| dir.join(folder).is_dir());
            let folder = folder.ok_or_else(|| refused("the data folder has no folder of that name"))?;
            Ok(Some(Staged { from: text(&dir.join(folder)), to: (*folder).to_string() }))
        }
        None => {
            let inside = Path::new(&data.name);
            let is_plain = inside.components().all(|part| matches!(part, std::path::Component::Normal(_)));
            if !is_plain {
                return Err(refused("only a relative path without `..` can be found in the copy"));
            }
            let from = [dir.join(inside), inside.to_path_buf()].into_iter().find(|path| path.is_dir());
            Ok(from.map(|from| Staged { from: text(&from), to: data.name.clone() }))
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
    pub array: Option<Array>,
    pub staged: Option<Staged>,
    /// The folder of its data.
    pub reads: Option<PathBuf>,
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
        let again: Vec<&str> = words.iter().filter(submits).map(String::as_str).collect();
        let script = Script {
            name: &self.name,
            written_by: &written_by,
            again: &format!("vitreous {}{}", again.join(" "), self.continued),
            path: &slurm.join(&self.file),
            folder: &here,
            logs: &here.join(slurm),
            spec,
            cpus: self.cpus,
            memory: self.memory.clone(),
            work: Work {
                program: &program,
                arguments: &self.arguments,
                reads: self.reads.as_deref(),
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
        let left = |line: &str| without_own(line.split(' ').map(str::to_string).collect(), "train").join(" ");
        let line = "-p cpu --preset digits --time=2h --epochs 3 --mem 4G --scratch --name a --json --extra #SBATCH=x --dry-run -t5m -j 2";
        assert_eq!(left(line), "--preset digits --epochs 3 --name a -j 2");
        assert_eq!(left("--simulate=20 --max-time 2h --set slurm.time=2h"), "--max-time 2h --set slurm.time=2h");
        // It starts like one of them, or is a value.
        assert_eq!(left("--test-winner --partitions x"), "--test-winner --partitions x");
        assert_eq!(left("--extra --json --name --time=2h digits"), "--name --time=2h digits");
        // Several in one word.
        assert_eq!(left("-vp cpu -qpcpu -vqj2 -qj 3 -qvt=2h"), "-v -vj2 -j 3 -v");
        assert_eq!(left("-- -p cpu"), "-- -p cpu");
        let left = |line: &str| without_own(line.split(' ').map(str::to_string).collect(), "verify").join(" ");
        assert_eq!(left("-t 2h threads -j 2 --json --counts 1,2"), "threads -j 2 --counts 1,2");
    }
}
