//! What Slurm's commands say about jobs: `squeue` about those that wait, run or have just ended, as JSON or in the plain format
//! that exists since 20.11; `sacct` about all, in its plain format.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::config::slurm::parse_limit;

/// Most tasks of a pending array that are read: Slurm's own limit.
const TASKS_MAX: usize = 4_000_001;

/// The format of `squeue` that [`parse_squeue`] reads. The name is last, because it may contain the separator.
pub const SQUEUE_FORMAT: &str = "%i|%T|%r|%j";

/// The fields of `sacct` that [`parse_sacct`] reads.
pub const SACCT_FORMAT: &str = "JobID,State,ExitCode,JobName";

/// What is known of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its state.
    pub state: JobState,
    /// Why it waits or has ended, if that is said.
    pub reason: Option<String>,
    /// Its name.
    pub name: String,
}

/// The state of a job, in Slurm's words: `PENDING`, `RUNNING`, `COMPLETED`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobState(String);

/// Jobs by their numbers: `12`, or `12_3` for the third task of an array.
pub type Queue = BTreeMap<String, Found>;

/// The version of Slurm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The year.
    pub major: u32,
    /// The month.
    pub minor: u32,
}

impl Version {
    /// The first version whose commands apply their filters to JSON too: before, they print the jobs of all users.
    pub const JSON: Version = Version { major: 23, minor: 2 };

    /// Reads what `squeue --version` prints: `slurm-wlm 22.05.8`.
    pub fn parse(text: &str) -> Option<Version> {
        let mut parts = text.split_whitespace().next_back()?.split('.');
        let mut next = || parts.next()?.parse().ok();
        Some(Version { major: next()?, minor: next()? })
    }
}

impl JobState {
    /// Reads a state: `CANCELLED by 1000` is `CANCELLED`, `CANCELLED+` too.
    fn new(text: &str) -> JobState {
        JobState(text.split([' ', '+']).next().unwrap_or_default().to_string())
    }

    /// Whether the job waits, runs, or will again.
    pub fn is_active(&self) -> bool {
        let active = [
            "PENDING",
            "RUNNING",
            "CONFIGURING",
            "COMPLETING",
            "SUSPENDED",
            "STOPPED",
            "REQUEUED",
            "REQUEUE_HOLD",
            "REQUEUE_FED",
            "RESIZING",
            "RESV_DEL_HOLD",
            "SIGNALING",
            "SPECIAL_EXIT",
            "STAGE_OUT",
        ];
        active.contains(&self.0.as_str())
    }
}

impl std::fmt::Display for JobState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.to_lowercase())
    }
}

/// Reads what `squeue --json` prints; absent where the text is something else, or was cut.
pub fn parse_squeue_json(text: &str) -> Option<Queue> {
    let jobs = json_jobs(text)?;
    let jobs = jobs.iter().flat_map(|job| {
        let state = word(&job["job_state"])?;
        let reason = word(&job["state_reason"]).filter(|reason| reason != "None");
        let found = Found { state: JobState::new(&state), reason, name: word(&job["name"]).unwrap_or_default() };
        let array = number(&job["array_job_id"]).filter(|&array| array > 0);
        let pending = word(&job["array_task_string"]).filter(|tasks| !tasks.is_empty());
        Some(with_found(ids(number(&job["job_id"])?, array, number(&job["array_task_id"]), pending), &found))
    });
    Some(jobs.flatten().collect())
}

/// Reads the output of `squeue` in the format [`SQUEUE_FORMAT`]. Lines that cannot be read are skipped.
pub fn parse_squeue(text: &str) -> Queue {
    let line = |line: &str| {
        let mut parts = line.splitn(4, '|').map(str::trim);
        let (id, state, reason, name) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let reason = Some(reason.to_string()).filter(|reason| reason != "None" && !reason.is_empty());
        Some(with_found(expanded(id), &Found { state: JobState::new(state), reason, name: name.to_string() }))
    };
    text.lines().filter_map(line).flatten().collect()
}

/// Reads the output of `sacct` with the fields [`SACCT_FORMAT`] between `|`. Of the steps of a job, nothing is kept.
pub fn parse_sacct(text: &str) -> Queue {
    let line = |line: &str| {
        let mut parts = line.splitn(4, '|').map(str::trim);
        let (id, state, exit, name) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // `12.batch`, `12.0`: a step.
        if id.contains('.') {
            return None;
        }
        let (status, signal) = exit.split_once(':')?;
        let reason = ended_by(status.parse().ok()?, signal.parse().ok()?);
        Some(with_found(expanded(id), &Found { state: JobState::new(state), reason, name: name.to_string() }))
    };
    text.lines().filter_map(line).flatten().collect()
}

/// How a job ended, where it was not with success.
fn ended_by(status: u64, signal: u64) -> Option<String> {
    match (status, signal) {
        (0, 0) => None,
        (status, 0) => Some(format!("exit status {status}")),
        (_, signal) => Some(format!("signal {signal}")),
    }
}

/// The jobs in JSON; absent where the text is something else.
fn json_jobs(text: &str) -> Option<Vec<Value>> {
    match serde_json::from_str::<Value>(text).ok()? {
        Value::Object(mut answer) => match answer.remove("jobs")? {
            Value::Array(jobs) => Some(jobs),
            _ => None,
        },
        _ => None,
    }
}

/// A number: plain, or since 23.02 an object that says whether it is set.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Object(object) => match object.get("set") {
            Some(Value::Bool(true)) => object.get("number")?.as_u64(),
            _ => None,
        },
        value => value.as_u64(),
    }
}

/// A word: plain, or since 23.11 the first of a list.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::Array(words) => words.first()?.as_str().map(str::to_string),
        value => value.as_str().map(str::to_string),
    }
}

fn with_found(ids: Vec<String>, found: &Found) -> Vec<(String, Found)> {
    ids.into_iter().map(|id| (id, found.clone())).collect()
}

/// The numbers of a job in JSON.
fn ids(job: u64, array: Option<u64>, task: Option<u64>, pending: Option<String>) -> Vec<String> {
    match (array, task, pending) {
        (Some(array), _, Some(tasks)) => tasks_of(&tasks).into_iter().map(|task| format!("{array}_{task}")).collect(),
        (Some(array), Some(task), None) => vec![format!("{array}_{task}")],
        _ => vec![job.to_string()],
    }
}

/// The numbers of a job in the plain formats: `12`, `12_3`, `12_[3-5,7%2]`.
fn expanded(id: &str) -> Vec<String> {
    match id.split_once("_[") {
        Some((array, tasks)) => {
            tasks_of(tasks.trim_end_matches(']')).into_iter().map(|task| format!("{array}_{task}")).collect()
        }
        None => vec![id.to_string()],
    }
}

/// Reads the tasks of an array: `3-5,7%2`. A long list ends in `...`; what follows is not known.
fn tasks_of(text: &str) -> Vec<usize> {
    let text = text.split('%').next().unwrap_or_default();
    let range = |part: &str| -> Option<std::ops::RangeInclusive<usize>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (last < TASKS_MAX).then_some(first..=last)
    };
    text.split(',').filter_map(range).flatten().take(TASKS_MAX).collect()
}

/// How a cluster changed a job while it accepted it, as `squeue` lists it in the format `%P|%l|%C`: sentences with what was
/// asked for and what the job has now. `asked` is a partition, a limit in Slurm's form, and processors.
pub fn changed_by_cluster(asked: (Option<&str>, Option<&str>, usize), listed: &str) -> Vec<String> {
    let mut parts = listed.lines().next().unwrap_or_default().split('|').map(str::trim);
    let (Some(partition), Some(limit), Some(cpus)) = (parts.next(), parts.next(), parts.next()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut changed = |what: &str, asked: &str, now: &str| found.push(format!("{what} {asked}, now {now}"));
    if let Some(asked) = asked.0.filter(|asked| !asked.contains(',') && *asked != partition) {
        changed("partition", asked, partition);
    }
    if let Some(asked) = asked.1.filter(|asked| parse_limit(asked) != parse_limit(limit)) {
        changed("time limit", asked, limit);
    }
    if let Ok(now) = cpus.parse::<usize>()
        && now < asked.2
    {
        changed("processors", &asked.2.to_string(), cpus);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Jobs with their states and reasons, as text.
    fn shown(queue: &Queue) -> Vec<String> {
        let line = |(id, found): (&String, &Found)| {
            format!("{id} {} {} {}", found.state, found.reason.as_deref().unwrap_or("-"), found.name)
        };
        queue.iter().map(line).collect()
    }

    #[test]
    fn squeue_is_read_as_slurm_22_05_printed_it() {
        // An array of six, two at a time; the fourth task was cancelled while it waited, the first requeued by hand.
        let text = include_str!("recorded/squeue-22.05.txt");
        assert_eq!(
            shown(&parse_squeue(text)),
            [
                "2 completed - digits",
                "3_1 pending JobArrayTaskLimit lr sweep",
                "3_2 running - lr sweep",
                "3_3 running - lr sweep",
                "3_5 pending JobArrayTaskLimit lr sweep",
                "3_6 pending JobArrayTaskLimit lr sweep",
            ]
        );
        // The same array before; the waiting tasks are one job.
        let expected = [
            "2 completed - digits",
            "3_1 running - lr sweep",
            "3_2 running - lr sweep",
            "3_3 pending JobArrayTaskLimit lr sweep",
            "3_4 pending JobArrayTaskLimit lr sweep",
            "3_5 pending JobArrayTaskLimit lr sweep",
            "3_6 pending JobArrayTaskLimit lr sweep",
        ];
        assert_eq!(shown(&parse_squeue_json(include_str!("recorded/squeue-22.05.json")).unwrap()), expected);
    }

    #[test]
    fn sacct_is_read_as_slurm_22_05_printed_it() {
        let plain = parse_sacct(include_str!("recorded/sacct-22.05.txt"));
        assert_eq!(
            shown(&plain),
            [
                "1 completed - ok|pipe",
                "2 failed exit status 3 fails",
                "3_1 cancelled - lr sweep",
                "3_2 failed signal 9 lr sweep",
                "3_3 completed - lr sweep",
                "3_5 running - lr sweep",
            ]
        );
        assert!(plain["3_5"].state.is_active() && !plain["3_1"].state.is_active());
        // Steps, and the form of 20.11 for tasks that wait.
        let text = "7|RUNNING|0:0|a\n7.batch|RUNNING|0:0|batch\n7.0|FAILED|1:0|vitreous\n8_[2-3%1]|PENDING|0:0|b\n";
        assert_eq!(shown(&parse_sacct(text)), ["7 running - a", "8_2 pending - b", "8_3 pending - b"]);
    }

    #[test]
    fn squeue_is_read_as_slurm_23_02_23_11_and_24_05_printed_it() {
        // The fields have the forms that users of these versions have published: since 23.02 a number is an object, since
        // 23.11 a state is a list. Numbers and names are ours, and of some sixty fields those are kept that say what a job is.
        let expected = [
            "21 running - digits",
            "22_2 running - lr sweep",
            "22_4 pending JobArrayTaskLimit lr sweep",
            "22_5 pending JobArrayTaskLimit lr sweep",
            "24 completed - a|b",
        ];
        for text in [
            include_str!("recorded/squeue-23.02.json"),
            include_str!("recorded/squeue-23.11.json"),
            include_str!("recorded/squeue-24.05.json"),
        ] {
            assert_eq!(shown(&parse_squeue_json(text).unwrap()), expected, "{}", &text[..300]);
            assert_eq!(parse_squeue_json(&text[..text.len() - 3]), None, "it was cut");
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_job() {
        for text in [
            "",
            "{",
            "{}",
            "[1]",
            "slurm_load_jobs error: Unable to contact slurm controller",
            "1|2",
            r#"{"jobs": [7]}"#,
        ] {
            assert_eq!((parse_squeue(text), parse_sacct(text)), (Queue::new(), Queue::new()), "{text}");
        }
        for text in ["", "{", "{}", "[1]", r#"{"jobs": []} x"#, r#"{"jobs": 7}"#] {
            assert_eq!(parse_squeue_json(text), None, "{text}");
        }
        assert_eq!(parse_squeue_json(r#"{"jobs": [7]}"#), Some(Queue::new()));
        assert_eq!(expanded("7_[3-5,8%2]"), ["7_3", "7_4", "7_5", "7_8"]);
        assert_eq!(expanded("7_[1-3,...]"), ["7_1", "7_2", "7_3"]);
        assert_eq!(expanded("7_[9-99999999999]"), [""; 0]);
    }

    #[test]
    fn versions_are_compared_by_year_and_month() {
        let version = |text| Version::parse(text).unwrap();
        assert!(version("slurm-wlm 22.05.8") < Version::JSON && version("slurm 20.11.9-1") < Version::JSON);
        assert!(version("slurm 23.02.0") >= Version::JSON && version("slurm 23.11.4-1.fc39") >= Version::JSON);
        assert_eq!(Version::parse("not found"), None);
    }

    #[test]
    fn a_job_that_a_cluster_has_changed_is_described() {
        let changes = |listed| changed_by_cluster((Some("cpu"), Some("02:00:00"), 4), listed);
        assert_eq!(changes("cpu|2:00:00|4\n"), [""; 0]);
        assert_eq!(
            changes("long|1-00:00:00|2\n"),
            ["partition cpu, now long", "time limit 02:00:00, now 1-00:00:00", "processors 4, now 2"]
        );
        assert_eq!(changed_by_cluster((Some("a,b"), None, 1), "b|UNLIMITED|2"), [""; 0]);
        assert_eq!(changes(""), [""; 0]);
    }
}
