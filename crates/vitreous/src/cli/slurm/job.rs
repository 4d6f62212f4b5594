//! The parts of a job: its resources, the words of its command, and its script.

use std::path::{Path, PathBuf};

use crate::cli::CliError;
use crate::cli::flags::Resources;
use crate::cli::train::command;
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

/// The words behind `vitreous slurm VERB`, without those for this command itself. The JSON is that of the submission: a
/// job's log is for people.
pub fn arguments(verb: &str) -> Result<Vec<String>, CliError> {
    let words: Vec<_> = std::env::args_os().collect();
    let start =
        words.windows(2).position(|pair| pair[0] == "slurm" && pair[1] == verb).map_or(words.len(), |at| at + 2);
    let words = words[start..].iter().map(|word| {
        let hint = || Some("rename it".to_string());
        word.to_str().map(str::to_string).ok_or_else(|| {
            CliError::user(
                format!("{} is not valid Unicode, which a batch script needs", text::visible(&word.to_string_lossy())),
                hint(),
            )
        })
    });
    Ok(without_own(words.collect::<Result<_, _>>()?))
}

/// Leaves out the flags of resources, each with its value.
fn without_own(words: Vec<String>) -> Vec<String> {
    let own: Vec<(String, bool)> = Resources::words()
        .chain(
            [("--site", true), ("--dry-run", false), ("--simulate", false), ("--json", false)]
                .map(|(word, takes_value)| (word.to_string(), takes_value)),
        )
        .collect();
    let mut left = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let name = word.split('=').next().unwrap_or_default();
        let found = own.iter().find(|(own, _)| match own.starts_with("--") {
            true => own == name,
            // `-t2h`, `-t=2h`, `-t 2h`; no other short flag starts with these letters.
            false => word.starts_with(own.as_str()) && !word.starts_with("--"),
        });
        match found {
            None => left.push(word),
            Some((own, true)) if word == *own => drop(words.next()),
            Some(_) => {}
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
    pub resumes: bool,
    pub array: Option<Array>,
    pub staged: Option<Staged>,
    pub memory: (u64, String),
    pub cpus: usize,
}

impl Job {
    /// Its script, for the folder `slurm`.
    pub fn script(&self, spec: &SlurmSpec, slurm: &Path) -> Result<String, CliError> {
        let (here, program) = (here()?, program()?);
        let words: Vec<String> =
            command().into_iter().skip(1).map(|word| crate::slurm::quoted(&word).into_owned()).collect();
        let script = Script {
            name: &self.name,
            written_by: &format!("vitreous {}", words.join(" ")),
            path: &slurm.join(&self.file),
            folder: &here,
            logs: &here.join(slurm),
            spec,
            cpus: self.cpus,
            memory: self.memory.clone(),
            work: Work {
                program: &program,
                arguments: &self.arguments,
                task_argument: "--task",
                data_argument: "--data-dir",
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
        let left = |line: &str| without_own(line.split(' ').map(str::to_string).collect()).join(" ");
        let line = "-p cpu --preset digits --time=2h --epochs 3 --mem 4G --scratch --name a --json --extra #SBATCH=x --dry-run -t5m -j 2";
        assert_eq!(left(line), "--preset digits --epochs 3 --name a -j 2");
        assert_eq!(left("--simulate=20 --max-time 2h --set slurm.time=2h"), "--max-time 2h --set slurm.time=2h");
        // It starts like one of them.
        assert_eq!(left("--test-winner --partitions x"), "--test-winner --partitions x");
    }
}
