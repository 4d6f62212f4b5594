//! The batch script: options for Slurm, then a few lines of shell around one `srun`. A comment says why each line is there.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use super::{SlurmError, directive, quoted};
use crate::config::slurm::SlurmSpec;
use crate::numbers::bytes;
use crate::text::visible;

/// Memory on top of the prediction: a part of it, and as much for the program's libraries and the system's buffers.
const MARGIN_PART: f64 = 0.25;
const MARGIN_MEBIBYTES: u64 = 256;

/// Memory is asked for in steps of this, in mebibytes.
const STEP_MEBIBYTES: u64 = 256;

/// What errors call a folder.
const FOLDER: &str = "the folder";

/// What a job does.
#[derive(Clone, Debug)]
pub struct Work<'a> {
    /// The program.
    pub program: &'a str,
    /// Its arguments, without the number of threads: it follows from the allocation.
    pub arguments: &'a [String],
    /// The folder of its data, where that is known.
    pub reads: Option<&'a Path>,
    /// The folder of the weights that it starts from.
    pub weights: Option<&'a Path>,
    /// `$VITREOUS_DATA_DIR` of who submits it, where its arguments do not have it.
    pub data_dir: Option<&'a Path>,
    /// Whether it ends with a checkpoint when it is signalled: then the job requeues itself.
    pub resumes: bool,
}

/// The tasks of a job array.
#[derive(Clone, Debug)]
pub struct Array {
    /// Their numbers, from 1 within this array.
    pub tasks: Vec<usize>,
    /// The number of a sweep's run minus that of its task: arrays are shorter than some sweeps.
    pub offset: usize,
    /// Tasks that run at the same time.
    pub parallel: Option<usize>,
}

/// Data that is copied to a node's own disk.
#[derive(Clone, Debug)]
pub struct Staged {
    /// What is copied.
    pub from: String,
    /// Its path in the copy, where the program looks for it.
    pub to: String,
}

/// A batch script.
#[derive(Clone, Debug)]
pub struct Script<'a> {
    /// The job's name.
    pub name: &'a str,
    /// The command that wrote it.
    pub written_by: &'a str,
    /// The command that continues what it does.
    pub again: &'a str,
    /// The file it is written to.
    pub path: &'a Path,
    /// Whether it comes after all runs of a sweep.
    pub is_last: bool,
    /// The folder in which it runs.
    pub folder: &'a Path,
    /// The folder of logs.
    pub logs: &'a Path,
    /// Resources.
    pub spec: &'a SlurmSpec,
    /// Processors.
    pub cpus: usize,
    /// Memory in mebibytes, and why as much.
    pub memory: (u64, String),
    /// The work.
    pub work: Work<'a>,
    /// The tasks, of a job array.
    pub array: Option<Array>,
    /// What is copied first.
    pub staged: Option<Staged>,
}

/// The memory of a job that is predicted to need some bytes, in mebibytes, and why as much.
pub fn memory_mebibytes(needed: u64) -> (u64, String) {
    let mebibytes = (needed as f64 * (1.0 + MARGIN_PART) / f64::from(1 << 20)) as u64 + MARGIN_MEBIBYTES;
    let why = format!(
        "The run is predicted to need {}; added are {:.0} % and {MARGIN_MEBIBYTES} MiB",
        bytes(needed),
        100.0 * MARGIN_PART
    );
    (mebibytes.div_ceil(STEP_MEBIBYTES) * STEP_MEBIBYTES, why)
}

/// The text of a path. Another text would be the path of something else.
///
/// # Errors
/// When it is not valid Unicode.
pub fn unicode<'a>(what: &'static str, path: &'a Path) -> Result<&'a str, SlurmError> {
    path.to_str().ok_or_else(|| SlurmError::Characters {
        what,
        text: visible(&path.to_string_lossy()).into_owned(),
        characters: "invalid Unicode",
    })
}

/// A time limit as Slurm writes it.
pub fn limit_text(limit: Duration) -> String {
    // Slurm rounds up to minutes anyway.
    let minutes = limit.as_secs().div_ceil(60);
    let (days, hours, minutes) = (minutes / 1440, minutes % 1440 / 60, minutes % 60);
    if days > 0 { format!("{days}-{hours:02}:{minutes:02}:00") } else { format!("{hours:02}:{minutes:02}:00") }
}

impl Array {
    /// The tasks as an option's value: `1-4,6%2`.
    pub fn text(&self) -> String {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for &task in &self.tasks {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == task => *last = task,
                _ => ranges.push((task, task)),
            }
        }
        let ranges = ranges.iter().map(|&(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
        let parallel = self.parallel.map_or(String::new(), |parallel| format!("%{parallel}"));
        ranges.collect::<Vec<_>>().join(",") + &parallel
    }

    /// Divides the open runs of a sweep, counted from 1, into arrays whose task numbers are below `size_max`.
    pub fn divide(open: &[usize], parallel: Option<usize>, size_max: usize) -> Vec<Array> {
        let most = size_max.saturating_sub(1).max(1);
        let mut arrays: Vec<Array> = Vec::new();
        for &run in open {
            let offset = (run - 1) / most * most;
            match arrays.last_mut() {
                Some(array) if array.offset == offset => array.tasks.push(run - offset),
                _ => arrays.push(Array { tasks: vec![run - offset], offset, parallel }),
            }
        }
        arrays
    }
}

impl Script<'_> {
    /// Writes the script.
    ///
    /// # Errors
    /// When a name in it has characters that it cannot hold.
    pub fn text(&self) -> Result<String, SlurmError> {
        let mut text = self.head()?;
        self.prepare(&mut text)?;
        self.start(&mut text)?;
        Ok(text)
    }

    fn head(&self) -> Result<String, SlurmError> {
        let Script { spec, .. } = self;
        let option = |what: &'static str, text: &str| {
            let characters = "control characters";
            directive(text).ok_or_else(|| SlurmError::Characters { what, text: text.to_string(), characters })
        };
        let line = |text: &str| text.replace(|c: char| c.is_control(), "?");
        let mut text = "#!/bin/bash\n".to_string();
        let _ = write!(
            text,
            "# Written by: {}\n# To submit it by hand{}: sbatch {}\n\n",
            line(self.written_by),
            if self.is_last { " when all runs have ended" } else { "" },
            line(&quoted(unicode("the script", self.path)?))
        );
        let mut add = |why: &str, options: &[String]| {
            let _ = writeln!(text, "# {why}.");
            options.iter().for_each(|option| text.push_str(&format!("#SBATCH {option}\n")));
        };
        add("The name in the list of squeue", &[format!("--job-name={}", option("the name", self.name)?)]);
        add(
            "Paths in the command start here",
            &[format!("--chdir={}", option(FOLDER, unicode(FOLDER, self.folder)?)?)],
        );
        // In the name of a log, `%` starts a replacement.
        let folder = unicode(FOLDER, self.logs)?;
        let logs = folder.replace('%', "%%");
        // With one, Slurm replaces nothing in the name.
        if logs.contains('\\') {
            let text = folder.to_string();
            return Err(SlurmError::Characters { what: FOLDER, text, characters: "a backslash" });
        }
        let (pattern, what) = match &self.array {
            Some(_) => ("%A_%a.log", "the array's and the task's number"),
            None => ("%j.log", "the job's number"),
        };
        add(
            &format!("The log is next to the run, named by {what}; a requeued job appends to it"),
            &[format!("--output={}", option(FOLDER, &format!("{logs}/{pattern}"))?), "--open-mode=append".to_string()],
        );
        if let Some(array) = &self.array {
            let parallel = array.parallel.map_or(String::new(), |parallel| format!("; at most {parallel} at a time"));
            add(&format!("One task for each run that is not done{parallel}"), &[format!("--array={}", array.text())]);
        }
        let cpus = format!("--cpus-per-task={}", self.cpus);
        add(
            "One process on one node, with this many threads",
            &["--nodes=1".to_string(), "--ntasks=1".to_string(), cpus],
        );
        add(&self.memory.1, &[format!("--mem={}M", self.memory.0)]);
        if let Some(limit) = spec.limit() {
            let why = match self.work.resumes {
                true => "Time limit of one job; what is left then is done after a requeue",
                false => "Time limit",
            };
            add(why, &[format!("--time={}", limit_text(limit))]);
        }
        if self.work.resumes {
            let seconds = spec.signal_seconds;
            add(
                &format!(
                    "{seconds} s before the limit (or up to a minute earlier), Slurm signals the job step (the program that \
                     srun starts), not this shell: the run saves a checkpoint and ends"
                ),
                &[format!("--signal=USR1@{seconds}")],
            );
            add(
                "After a failure of the node, or when the job is preempted, Slurm starts it again",
                &["--requeue".to_string()],
            );
        }
        let values = [
            ("partition", &spec.partition, "Nodes of this partition"),
            ("account", &spec.account, "The account that is charged"),
            ("qos", &spec.qos, "Quality of service"),
            ("gres", &spec.gres, "Generic resources"),
            ("constraint", &spec.constraint, "Features that the node must have"),
        ];
        for (name, value, why) in values {
            if let Some(value) = value {
                add(why, &[format!("--{name}={}", option("the value", value)?)]);
            }
        }
        if let Some(mail) = &spec.mail {
            let options = [format!("--mail-user={}", option("the address", mail)?), "--mail-type=END,FAIL".to_string()];
            add("Mail when the job ends or fails", &options);
        }
        let extra: Vec<String> =
            spec.extra.iter().filter_map(|line| Some(line.strip_prefix("#SBATCH ")?.trim().to_string())).collect();
        if !extra.is_empty() {
            add("From slurm.extra", &extra);
        }
        Ok(text)
    }

    fn prepare(&self, text: &mut String) -> Result<(), SlurmError> {
        let Script { spec, .. } = self;
        let folder = quoted(unicode(FOLDER, self.folder)?);
        let _ = write!(
            text,
            "\n# Where the folder is missing, Slurm starts the job in another one.\ncd {folder} || exit 1\n"
        );
        if !spec.modules.is_empty() {
            text.push_str("\n# Software of the cluster.\n");
            for module in &spec.modules {
                let _ = writeln!(text, "module load {} || exit 1", quoted(module));
            }
        }
        let lines: Vec<&String> = spec.extra.iter().filter(|line| !line.starts_with("#SBATCH ")).collect();
        if !lines.is_empty() {
            text.push_str("\n# From slurm.extra.\n");
            lines.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        }
        if let Some(dir) = self.work.data_dir {
            let dir = quoted(unicode(FOLDER, dir)?);
            let _ = write!(text, "\n# Not every job inherits the environment.\nexport VITREOUS_DATA_DIR={dir}\n");
        }
        let job = match self.array {
            Some(_) => "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID",
            None => "$SLURM_JOB_ID",
        };
        let _ = write!(text, "\n# The job's number, as squeue has it.\njob={job}\n");
        if self.work.resumes {
            let _ = write!(
                text,
                "# How often the job has requeued itself. Slurm's own count has other restarts too, so a file has a line for each.\n\
                 counted={}/$job.requeues\n\
                 lines=()\n\
                 [ ! -r \"$counted\" ] || mapfile -t lines < \"$counted\"\n\
                 requeued=${{#lines[@]}}\n\
                 requeues={}\n\
                 echo \"job $job on $(hostname), restart ${{SLURM_RESTART_COUNT:-0}}, $(date)\"\n",
                quoted(unicode(FOLDER, self.logs)?),
                spec.requeues,
            );
        } else {
            text.push_str("echo \"job $job on $(hostname), $(date)\"\n");
        }
        if let Some(Staged { from, to }) = &self.staged {
            let to = quoted(to);
            let _ = write!(
                text,
                "\n# The data is read from the node's own disk; the copy is removed at the end.\n\
                 scratch=$(mktemp -d \"${{SLURM_TMPDIR:-${{TMPDIR:-/tmp}}}}/vitreous-$job.XXXXXX\") || exit 1\n\
                 trap 'rm -rf \"$scratch\"' EXIT\n\
                 mkdir -p \"$scratch/$(dirname {to})\" && cp -RL {} \"$scratch\"/{to} || exit 1\n",
                quoted(from),
            );
        }
        Ok(())
    }

    fn start(&self, text: &mut String) -> Result<(), SlurmError> {
        let Work { program, arguments, resumes, reads, weights, data_dir: _ } = &self.work;
        let mut words: Vec<String> = vec!["srun --export=ALL --cpus-per-task=\"$SLURM_CPUS_PER_TASK\"".to_string()];
        if let Some(image) = &self.spec.container {
            text.push_str("\n# Apptainer was called Singularity before.\ncontainer=$(command -v apptainer || command -v singularity) || {\n  \
                 echo \"error: neither apptainer nor singularity is on the path (slurm.container)\"\n  \
                 echo \"hint: load its module with slurm.modules\"\n  exit 1\n}\n");
            words.push("\"$container\" exec".to_string());
            // What the program is, works in, writes and reads. The folder of logs is in that of the run, and that in another.
            let (program, out) = (Path::new(program).parent(), self.logs.ancestors().nth(2));
            let mut folders: Vec<&Path> =
                [program, Some(self.folder), out, *reads, *weights].into_iter().flatten().collect();
            folders.dedup();
            for folder in folders {
                let text = unicode(FOLDER, folder)?;
                // They separate the parts of a bind.
                if text.contains([':', ',']) {
                    let text = text.to_string();
                    return Err(SlurmError::Characters { what: FOLDER, text, characters: "a colon or a comma" });
                }
                words.push(format!("--bind {}", quoted(text)));
            }
            if self.staged.is_some() {
                words.push("--bind \"$scratch\"".to_string());
            }
            words.push(quoted(image).into_owned());
        }
        words.push(quoted(program).into_owned());
        words.extend(arguments.iter().map(|word| quoted(word).into_owned()));
        if let Some(array) = &self.array {
            words.push(match array.offset {
                0 => "--task \"$SLURM_ARRAY_TASK_ID\"".to_string(),
                offset => format!("--task $((SLURM_ARRAY_TASK_ID + {offset}))"),
            });
        }
        if self.staged.is_some() {
            words.push("--data-dir \"$scratch\"".to_string());
        }
        text.push_str("\n# srun makes a job step, which the signal reaches. Since Slurm 22.05 a step does not inherit --cpus-per-task.\n");
        // Also where a line of the site says `set -e`.
        let _ = writeln!(text, "status=0\n{} || status=$?", words.join(" "));
        if !resumes {
            text.push_str("\n# The job ends as the program did.\nexit \"$status\"\n");
            return Ok(());
        }
        let hint = format!("hint: with a longer time limit or more requeues, it continues: {}", self.again);
        text.push_str(&REQUEUE.replace("HINT", &quoted(&hint.replace(|c: char| c.is_control(), "?"))));
        Ok(())
    }
}

/// The end of a script whose work can be resumed.
const REQUEUE: &str = r#"
# 124 and 130: time is up, a checkpoint is saved. Any other status is that of the job: what has failed would fail again.
case $status in
  124 | 130) ;;
  *) exit "$status" ;;
esac
# A job that was cancelled must not come back. Slurm does not always answer at once; SQUEUE_* variables could hide the job.
unset "${!SQUEUE_@}"
for pause in 0 1 4 10; do
  sleep "$pause"
  state=$(squeue --noheader --states=all --jobs="$job" --format=%T) && [ -n "$state" ] && break
done
case $state in
  CANCELLED | COMPLETING | TIMEOUT) exit "$status" ;;
esac
if ((requeued >= requeues)); then
  echo "error: the run is not finished after $requeued requeues (slurm.requeues $requeues)"
  echo HINT
  exit "$status"
fi
date >> "$counted" || exit "$status"
echo "requeue $((requeued + 1)) of at most $requeues, $(date)"
for pause in 0 5 20; do
  sleep "$pause"
  scontrol requeue "$job" && exit 0
done
exit "$status"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn script(spec: &SlurmSpec, change: impl FnOnce(&mut Script)) -> Result<String, SlurmError> {
        let arguments: Vec<String> = ["train", "--resume", "auto", "--name", "it's $(x)"].map(str::to_string).into();
        let mut script = Script {
            name: r#"a "b" $(c)"#,
            written_by: "vitreous slurm train",
            again: "vitreous slurm sweep --name 'a b' -j 2",
            path: Path::new("runs/a b/slurm/train.sh"),
            is_last: false,
            folder: Path::new("/data/my project"),
            logs: Path::new("/data/my project/runs/100%/slurm"),
            spec,
            cpus: 3,
            memory: memory_mebibytes(700 << 20),
            work: Work {
                program: "/opt/my bin/vitreous",
                arguments: &arguments,
                reads: Some(Path::new("/data/sets")),
                weights: Some(Path::new("/data/weights")),
                data_dir: None,
                resumes: true,
            },
            array: None,
            staged: None,
        };
        change(&mut script);
        script.text()
    }

    #[test]
    fn a_script_has_every_resource_with_its_reason_and_quotes_every_name() {
        let mut spec = SlurmSpec { time: Some("1-2".to_string()), ..SlurmSpec::default() };
        spec.partition = Some("cpu,big".to_string());
        spec.mail = Some("ada@example.org".to_string());
        spec.modules = vec!["app tainer".to_string()];
        spec.extra = vec!["#SBATCH --exclusive".to_string(), "export A=1".to_string()];
        spec.container = Some("my image.sif".to_string());
        let staged = Some(Staged { from: "../all/photos".to_string(), to: "photos".to_string() });
        let text = script(&spec, |script| script.staged = staged).unwrap();
        for line in [
            r#"#SBATCH --job-name="a \"b\" $(c)""#,
            r#"#SBATCH --chdir="/data/my project""#,
            r#"#SBATCH --output="/data/my project/runs/100%%/slurm/%j.log""#,
            "#SBATCH --open-mode=append",
            "#SBATCH --cpus-per-task=3",
            // 700 MiB, a quarter, 256 MiB, rounded up.
            "#SBATCH --mem=1280M",
            "#SBATCH --time=1-02:00:00",
            "#SBATCH --signal=USR1@120",
            "#SBATCH --requeue",
            r#"#SBATCH --partition="cpu,big""#,
            "#SBATCH --mail-type=END,FAIL",
            "#SBATCH --exclusive",
            "module load 'app tainer' || exit 1",
            "export A=1",
            "job=$SLURM_JOB_ID",
            "counted='/data/my project/runs/100%/slurm'/$job.requeues",
            r#"scratch=$(mktemp -d "${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/vitreous-$job.XXXXXX") || exit 1"#,
            r#"mkdir -p "$scratch/$(dirname photos)" && cp -RL ../all/photos "$scratch"/photos || exit 1"#,
            r#"srun --export=ALL --cpus-per-task="$SLURM_CPUS_PER_TASK" "$container" exec --bind '/opt/my bin' --bind '/data/my project' --bind '/data/my project/runs' --bind /data/sets --bind /data/weights --bind "$scratch" 'my image.sif' '/opt/my bin/vitreous' train --resume auto --name 'it'\''s $(x)' --data-dir "$scratch" || status=$?"#,
            r"  echo 'hint: with a longer time limit or more requeues, it continues: vitreous slurm sweep --name '\''a b'\'' -j 2'",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        // Above each option is a comment.
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair[1].starts_with("#SBATCH")) {
            assert!(pair[0].starts_with('#'), "{pair:?}");
        }
    }

    #[test]
    fn a_name_with_a_line_break_is_refused_and_does_not_leave_its_comment() {
        let spec = SlurmSpec::default();
        let error = script(&spec, |script| script.folder = Path::new("a\n#SBATCH --exclusive")).unwrap_err();
        assert!(matches!(error, SlurmError::Characters { what: "the folder", characters: "control characters", .. }));
        let error = script(&spec, |script| script.logs = Path::new(r"/data/a\b/slurm")).unwrap_err();
        assert!(matches!(error, SlurmError::Characters { characters: "a backslash", .. }));
        let spec = SlurmSpec { container: Some("a.sif".to_string()), ..spec };
        let error = script(&spec, |script| script.folder = Path::new("/data/a:b")).unwrap_err();
        assert!(matches!(error, SlurmError::Characters { characters: "a colon or a comma", .. }));
        use std::os::unix::ffi::OsStrExt;
        let odd = Path::new(std::ffi::OsStr::from_bytes(b"/data/a\xff"));
        let with = |change: fn(&mut Script, &'static Path)| {
            script(&spec, |script| change(script, odd)).unwrap_err().to_string()
        };
        let expected =
            |what| format!("{what} `/data/a\u{fffd}` has invalid Unicode, which a batch script cannot hold there");
        assert_eq!(with(|script, odd| script.path = odd), expected("the script"));
        assert_eq!(with(|script, odd| script.folder = odd), expected("the folder"));
        assert_eq!(with(|script, odd| script.logs = odd), expected("the folder"));
        assert_eq!(with(|script, odd| script.work.reads = Some(odd)), expected("the folder"));
        let text = script(&spec, |script| script.written_by = "vitreous slurm train --name 'a\nrm -rf x'").unwrap();
        assert!(text.contains("# Written by: vitreous slurm train --name 'a?rm -rf x'\n"), "{text}");
    }

    #[test]
    fn open_runs_become_arrays_that_slurm_accepts() {
        let of = |open: &[usize], size| -> Vec<(String, usize)> {
            Array::divide(open, Some(2), size).iter().map(|array| (array.text(), array.offset)).collect()
        };
        assert_eq!(of(&[1, 2, 3, 5, 7, 8], 1001), [("1-3,5,7-8%2".to_string(), 0)]);
        let all: Vec<usize> = (1..=11).collect();
        assert_eq!(of(&all, 6), [("1-5%2".to_string(), 0), ("1-5%2".to_string(), 5), ("1%2".to_string(), 10)]);
        assert_eq!(of(&[2, 9], 6), [("2%2".to_string(), 0), ("4%2".to_string(), 5)]);
        let spec = SlurmSpec::default();
        let array = Array { tasks: vec![1, 2], offset: 5, parallel: None };
        let text = script(&spec, |script| script.array = Some(array)).unwrap();
        assert!(
            text.contains(" --task $((SLURM_ARRAY_TASK_ID + 5)) || status=$?\n") && text.contains("/%A_%a.log\"\n"),
            "{text}"
        );
        assert!(text.contains("job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID\n"), "{text}");
    }

    #[test]
    fn limits_are_written_as_slurm_does() {
        let text = |seconds| limit_text(Duration::from_secs(seconds));
        assert_eq!([text(61), text(7200), text(93_600)], ["00:02:00", "02:00:00", "1-02:00:00"]);
    }
}
