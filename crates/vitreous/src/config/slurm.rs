//! The `[slurm]` table: what a job on a Slurm cluster needs. It decides where and how long a run is computed, never what:
//! no run saves it.

use std::time::Duration;

use super::error::RuleError;
use super::schema::{Range, config_table};
use crate::advice::Suggestion;
use crate::durations;

/// Largest number of processors of a job.
const CPUS_MAX: u64 = 1024;

/// Most seconds that are kept for saving a checkpoint.
pub const SIGNAL_SECONDS_MAX: u64 = 3600;

/// Seconds by which Slurm may send a job's signal too early.
pub const EARLY_S: u64 = 60;

config_table! {
    /// Resources of a Slurm job, and how it is requeued.
    pub struct SlurmSpec in "slurm" {
        /// Partition, or several separated by commas, of which Slurm chooses one. `sinfo` lists them.
        partition: Option<String> = None, example "cpu";
        /// Account that is charged.
        account: Option<String> = None, example "course";
        /// Quality of service.
        qos: Option<String> = None, example "normal";
        /// Time limit of one job: `2h`, `90m`, or as Slurm writes it, `days-hours:minutes:seconds`. A run that needs longer is
        /// requeued and continues. The partition's default when it is absent.
        time: Option<String> = None, example "2h";
        /// Processors of a job, and so threads of a run. When it is absent: `train.threads`, or 4.
        cpus: Option<usize> = None, range Range::Whole(1, CPUS_MAX), example 4;
        /// Memory of a job, such as `4G` or `900M`. When it is absent: what the run is predicted to need, and a margin.
        memory: Option<String> = None, example "4G";
        /// Generic resources, such as `tmp:20G`.
        gres: Option<String> = None, example "tmp:20G";
        /// Features that a node must have.
        constraint: Option<String> = None, example "avx512";
        /// Address for mail when a job ends or fails.
        mail: Option<String> = None, example "ada@example.org";
        /// Maximum number of times that a job requeues itself.
        requeues: usize = 50, range Range::Whole(0, 10_000);
        /// Seconds before the time limit at which a run is signalled to save a checkpoint and end.
        signal_seconds: u64 = 120, range Range::Whole(10, SIGNAL_SECONDS_MAX);
        /// Runs of a sweep that are trained at the same time. As many as Slurm starts when it is absent.
        parallel: Option<usize> = None, range Range::Whole(1, 10_000), example 8;
        /// Copy the data to the node's own disk first.
        scratch: bool = false, example true;
        /// Apptainer image in which the program runs.
        container: Option<String> = None, example "images/debian.sif";
        /// Environment modules to load.
        modules: Vec<String> = Vec::new(), example ["apptainer"];
        /// More lines for the script. Those that start with `#SBATCH` are added to the options, the others run before the
        /// program.
        extra: Vec<String> = Vec::new(), example ["export LANG=C"];
    }
}

impl SlurmSpec {
    /// Checks all rules.
    pub(super) fn check(&self) -> Result<(), RuleError> {
        self.check_ranges()?;
        let wrong = |key: &str, value: &str, problem: &str, example: &str| {
            let suggestion = Suggestion::new().set(&format!("slurm.{key}"), example);
            Err(RuleError::new(&format!("slurm.{key}"), value, problem).suggest(suggestion))
        };
        let single = [
            ("partition", &self.partition, "cpu"),
            ("account", &self.account, "course"),
            ("qos", &self.qos, "normal"),
            ("gres", &self.gres, "tmp:20G"),
            ("constraint", &self.constraint, "avx512"),
            ("mail", &self.mail, "ada@example.org"),
            ("container", &self.container, "images/debian.sif"),
        ];
        for (key, value, example) in single {
            if let Some(value) = value.as_ref().filter(|value| value.is_empty() || value.contains(char::is_control)) {
                return wrong(key, value, "is empty or has control characters", example);
            }
        }
        let is_odd = |text: &&String| text.is_empty() || text.starts_with('-') || text.contains(char::is_control);
        if let Some(module) = self.modules.iter().find(is_odd) {
            let suggestion = Suggestion::new().set("slurm.modules", vec!["apptainer".to_string()]);
            return Err(
                RuleError::new("slurm.modules", module.as_str(), "is not the name of a module").suggest(suggestion)
            );
        }
        if let Some(line) = self.extra.iter().find(|line| line.contains(['\n', '\r', '\0'])) {
            let suggestion = Suggestion::new().text("write each line as a text of its own");
            return Err(RuleError::new("slurm.extra", line.as_str(), "has several lines").suggest(suggestion));
        }
        if let Some(time) = &self.time {
            let Some(limit) = parse_limit(time) else {
                return wrong("time", time, "is not a time limit", "2h");
            };
            let least = self.signal_seconds + EARLY_S;
            if limit.as_secs() <= least {
                // A number alone is in minutes.
                let is_alone = time.bytes().all(|byte| byte.is_ascii_digit());
                let means = if is_alone { format!("is {time} min, which is") } else { "is".to_string() };
                let problem = format!(
                    "{means} too short: slurm.signal_seconds {} and up to {EARLY_S} s more are kept for saving a checkpoint",
                    self.signal_seconds
                );
                let suggestion = Suggestion::new().set("slurm.time", format!("{}m", least.div_ceil(60) + 5));
                let suggestion = suggestion.or().using("a smaller").key("slurm.signal_seconds");
                return Err(RuleError::new("slurm.time", time.as_str(), problem)
                    .and("slurm.signal_seconds")
                    .suggest(suggestion));
            }
        }
        match &self.memory {
            Some(memory) if parse_mebibytes(memory).is_none() => {
                wrong("memory", memory, "is not an amount of memory", "4G")
            }
            _ => Ok(()),
        }
    }

    /// The time limit of a job.
    pub fn limit(&self) -> Option<Duration> {
        self.time.as_deref().and_then(parse_limit)
    }

    /// The memory of a job, in mebibytes.
    pub fn mebibytes(&self) -> Option<u64> {
        self.memory.as_deref().and_then(parse_mebibytes)
    }
}

/// Reads a time limit: `2h`, `90m`, or as Slurm writes it: `minutes`, `minutes:seconds`, `hours:minutes:seconds`,
/// `days-hours`, `days-hours:minutes`, `days-hours:minutes:seconds`.
pub fn parse_limit(text: &str) -> Option<Duration> {
    if let Some(duration) = durations::parse_duration(text) {
        return Some(duration);
    }
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (Some(days.parse::<u64>().ok()?), rest),
        None => (None, text),
    };
    let parts =
        rest.split(':').map(|part| part.parse::<u64>().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit())));
    let parts = parts.collect::<Option<Vec<u64>>>()?;
    let [hours, minutes, seconds] = match (days.is_some(), parts.as_slice()) {
        (true, &[hours]) => [hours, 0, 0],
        (true, &[hours, minutes]) => [hours, minutes, 0],
        (false, &[minutes]) => [0, minutes, 0],
        (false, &[minutes, seconds]) => [0, minutes, seconds],
        (_, &[hours, minutes, seconds]) => [hours, minutes, seconds],
        _ => return None,
    };
    let add =
        |sum: u64, [number, seconds]: [u64; 2]| number.checked_mul(seconds).and_then(|more| sum.checked_add(more));
    let parts = [[days.unwrap_or(0), 86_400], [hours, 3600], [minutes, 60], [seconds, 1]];
    let seconds = parts.into_iter().try_fold(0, add)?;
    // A thousand years, and no limit at all.
    (1..31_536_000_000).contains(&seconds).then(|| Duration::from_secs(seconds))
}

/// Reads an amount of memory as mebibytes; without a unit, Slurm means mebibytes. 0 is all the memory of a node.
fn parse_mebibytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let factor = match unit.to_ascii_uppercase().as_str() {
        "K" | "KB" | "KIB" => 1.0 / 1024.0,
        "" | "M" | "MB" | "MIB" => 1.0,
        "G" | "GB" | "GIB" => 1024.0,
        "T" | "TB" | "TIB" => 1024.0 * 1024.0,
        _ => return None,
    };
    let number: f64 = number.trim().parse().ok()?;
    let mebibytes = (number * factor).ceil();
    (0.0..1e12).contains(&mebibytes).then_some(mebibytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advice::Explain;
    use crate::config::layers::Layers;

    #[test]
    fn limits_are_read_as_slurm_and_as_this_program_writes_them() {
        let cases = [
            ("2h", 7200),
            ("1h30m", 5400),
            ("90", 5400),
            ("90:30", 5430),
            ("01:02:03", 3723),
            ("1-2", 93_600),
            ("1-02:30", 95_400),
            ("1-02:30:07", 95_407),
        ];
        for (text, seconds) in cases {
            assert_eq!(parse_limit(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0", "2 hours", "1:2:3:4", "-5", "+5", "1-", "UNLIMITED", "99999999999999999999-1", "5:-1"] {
            assert_eq!(parse_limit(text), None, "{text}");
        }
    }

    #[test]
    fn memory_is_read_with_and_without_a_unit() {
        let cases = [
            ("4G", 4096),
            ("1.5g", 1536),
            ("900M", 900),
            ("900", 900),
            ("2GiB", 2048),
            ("0.0001M", 1),
            ("2048K", 2),
            ("0", 0),
        ];
        for (text, mebibytes) in cases {
            assert_eq!(parse_mebibytes(text), Some(mebibytes), "{text}");
        }
        for text in ["", "G", "-4G", "inf", "4 apples", "9999999999999T", "4bbb", "4i", "4b", "4GBB"] {
            assert_eq!(parse_mebibytes(text), None, "{text}");
        }
    }

    #[test]
    fn a_bad_value_is_refused_with_one_that_works() {
        let refused = |lines: &str| {
            let mut layers = Layers::new();
            layers.add_toml(&format!("[slurm]\n{lines}"), "my.toml").unwrap();
            let error = layers.finish().unwrap_err();
            format!("{error}; {}", error.hint().unwrap_or_default())
        };
        assert_eq!(
            refused("time = 'soon'"),
            "time \"soon\" is not a time limit (my.toml, [slurm]); use slurm.time = \"2h\""
        );
        assert_eq!(
            refused("time = '3m'"),
            "time \"3m\" is too short: slurm.signal_seconds 120 and up to 60 s more are kept for saving a checkpoint \
             (my.toml, [slurm]); use slurm.time = \"8m\", or a smaller slurm.signal_seconds"
        );
        assert!(
            refused("time = '2'").starts_with("time \"2\" is 2 min, which is too short: slurm.signal_seconds 120 and ")
        );
        assert_eq!(
            refused("memory = 'lots'"),
            "memory \"lots\" is not an amount of memory (my.toml, [slurm]); use slurm.memory = \"4G\""
        );
        assert_eq!(
            refused("partition = ''"),
            "partition \"\" is empty or has control characters (my.toml, [slurm]); use slurm.partition = \"cpu\""
        );
        assert!(refused("modules = ['-x']").starts_with("modules \"-x\" is not the name of a module"));
        assert!(refused(r#"extra = ["a\nb"]"#).contains("has several lines"));
        assert!(refused("cpus = 0").starts_with("cpus 0 is not between 1 and 1024"));
    }

    #[test]
    fn the_table_is_no_part_of_what_a_run_saves() {
        let with = |text: &str| {
            let mut layers = Layers::new();
            layers.add_toml(text, "my.toml").unwrap();
            layers.finish().unwrap()
        };
        let (plain, slurm) = (with(""), with("[slurm]\ntime = '2h'\ncpus = 3\n"));
        assert_eq!(
            (slurm.config().slurm.cpus, slurm.config().slurm.limit()),
            (Some(3), Some(Duration::from_secs(7200)))
        );
        assert_eq!(plain.config().to_toml(), slurm.config().to_toml());
        assert_eq!(super::super::difference::flat(plain.config()), super::super::difference::flat(slurm.config()));
    }
}
