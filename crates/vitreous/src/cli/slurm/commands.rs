//! Slurm's own commands: starts them, and reads their output.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::cli::CliError;
use crate::slurm::{Queue, SACCT_FORMAT, SQUEUE_FORMAT, Version, parse_sacct, parse_squeue, parse_squeue_json};
use crate::system_errors::system_error;

/// Job numbers in one call of `sacct`: a command line has a maximum length.
const JOBS_OF_A_CALL: usize = 500;

/// How long a command may take to answer: a busy controller takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the variables start that change what Slurm's commands answer.
const ASKING: [&str; 4] = ["SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_"];

/// The output of a command that succeeded, and what it wrote to stderr.
pub struct Output {
    pub stdout: String,
    pub stderr: String,
}

/// Why a command of Slurm gave no result.
pub enum Refused {
    /// It is not installed.
    Missing,
    /// It failed, and wrote this to stderr.
    Failed(String),
}

/// Runs a command of Slurm that asks or cancels. One that does not answer is ended.
pub fn call(program: &str, arguments: &[&str]) -> Result<Output, Refused> {
    run(slurm_command(program, arguments), Some(PATIENCE))
}

/// Runs `sbatch`, without some environment variables. It may take as long as it needs: an end would not tell whether the
/// job was accepted.
pub fn sbatch(without: &[&str], arguments: &[&str]) -> Result<Output, Refused> {
    let mut command = slurm_command("sbatch", arguments);
    // Those for `sbatch` come before the lines of a script.
    without.iter().for_each(|name| _ = command.env_remove(name));
    run(command, None)
}

fn slurm_command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    // Times of all commands are written in one way, their messages in English, and lists of tasks whole.
    command.args(arguments).env("SLURM_TIME_FORMAT", "standard").env("LC_ALL", "C").env("SLURM_BITSTR_LEN", "0");
    // The user's variables for these commands change what they answer.
    for (name, _) in std::env::vars_os() {
        if ASKING.iter().any(|start| name.as_encoded_bytes().starts_with(start.as_bytes())) {
            command.env_remove(name);
        }
    }
    command
}

fn run(mut command: Command, patience: Option<Duration>) -> Result<Output, Refused> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Refused::Missing,
        _ => Refused::Failed(system_error(&error)),
    })?;
    let number = child.id();
    let (sender, receiver) = mpsc::channel();
    // After a timeout, what is sent has no receiver.
    let wait = move || _ = sender.send(child.wait_with_output());
    std::thread::Builder::new().spawn(wait).map_err(|error| Refused::Failed(system_error(&error)))?;
    let finished = match patience {
        Some(patience) => receiver.recv_timeout(patience).ok(),
        None => receiver.recv().ok(),
    };
    match finished {
        None => {
            kill(number);
            Err(Refused::Failed(format!("no answer in {} s", patience.unwrap_or_default().as_secs())))
        }
        Some(Err(error)) => Err(Refused::Failed(system_error(&error))),
        Some(Ok(output)) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
            if output.status.success() { Ok(Output { stdout, stderr }) } else { Err(Refused::Failed(stderr)) }
        }
    }
}

#[cfg(unix)]
fn kill(number: u32) {
    use rustix::process::{Pid, Signal, kill_process};
    if let Some(process) = i32::try_from(number).ok().and_then(Pid::from_raw) {
        // It may have ended by now.
        let _ = kill_process(process, Signal::KILL);
    }
}

#[cfg(not(unix))]
fn kill(_: u32) {}

/// The lines of a command's messages, without the command's name.
pub fn messages<'a>(program: &str, stderr: &'a str) -> Vec<&'a str> {
    let start = format!("{program}: ");
    let lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| line.strip_prefix(&start).unwrap_or(line)).collect()
}

/// The error for a command that is needed.
pub fn needed(program: &str, refused: Refused) -> CliError {
    match refused {
        Refused::Missing => {
            let hint = "use a login node of the cluster; `vitreous slurm train --dry-run` prints the script, and --simulate \
                        rehearses it without Slurm";
            CliError::user(format!("Slurm is not installed here: there is no `{program}`"), Some(hint.to_string()))
        }
        Refused::Failed(stderr) => {
            let messages = messages(program, &stderr);
            let what = if messages.is_empty() { "it says nothing about why".to_string() } else { messages.join("; ") };
            CliError::failure(format!("{program} failed: {}", what.trim_start_matches("error: ")), None)
        }
    }
}

/// What a cluster says of itself: `ClusterName`, `MaxArraySize`. Empty where it cannot be asked.
pub struct Cluster(BTreeMap<String, String>);

impl Cluster {
    pub fn ask() -> Cluster {
        let text = call("scontrol", &["show", "config"]).map_or_else(|_| String::new(), |output| output.stdout);
        let pair =
            |line: &str| line.split_once('=').map(|(key, value)| (key.trim().to_string(), value.trim().to_string()));
        Cluster(text.lines().filter_map(pair).collect())
    }

    pub fn name(&self) -> Option<&str> {
        self.0.get("ClusterName").map(String::as_str)
    }

    /// The number below which the numbers of an array's tasks are; Slurm's default where it is unknown.
    pub fn max_array_size(&self) -> usize {
        self.0.get("MaxArraySize").and_then(|size| size.parse().ok()).unwrap_or(1001)
    }
}

/// The partitions, where they can be listed.
pub fn partitions() -> Option<Vec<String>> {
    let output = call("sinfo", &["--noheader", "--all", "--format=%R"]).ok()?;
    Some(output.stdout.lines().map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect())
}

/// What `squeue` knows of this user's jobs.
pub fn queue() -> Result<Queue, Refused> {
    let version = call("squeue", &["--version"])?.stdout;
    let user = format!("--user={}", user_number());
    // Those that have just ended too: many clusters keep no accounts.
    if Version::parse(&version).is_some_and(|version| version >= Version::JSON)
        && let Ok(output) = call("squeue", &[&user, "--states=all", "--json"])
        && let Some(queue) = parse_squeue_json(&output.stdout)
    {
        return Ok(queue);
    }
    let format = format!("--format={SQUEUE_FORMAT}");
    Ok(parse_squeue(&call("squeue", &[&user, "--states=all", "--noheader", "--array", &format])?.stdout))
}

/// What `sacct` knows of jobs. Many clusters keep no accounts: then it is nothing.
pub fn accounts(jobs: &[String]) -> Queue {
    let format = format!("--format={SACCT_FORMAT}");
    let of = |jobs: &[String]| {
        let jobs = format!("--jobs={}", jobs.join(","));
        let arguments = ["--noheader", "--parsable2", "--allocations", &format, &jobs];
        call("sacct", &arguments).map_or_else(|_| Queue::new(), |output| parse_sacct(&output.stdout))
    };
    jobs.chunks(JOBS_OF_A_CALL).flat_map(of).collect()
}

#[cfg(unix)]
fn user_number() -> u32 {
    rustix::process::getuid().as_raw()
}

#[cfg(not(unix))]
fn user_number() -> u32 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_command_that_does_not_answer_is_ended() {
        let run = |script: &str, patience| run(slurm_command("sh", &["-c", script]), patience);
        let failed = |result: Result<Output, Refused>| match result {
            Err(Refused::Failed(message)) => message,
            _ => panic!("it has not failed"),
        };
        assert_eq!(failed(run("exec sleep 600", Some(Duration::ZERO))), "no answer in 0 s");
        let output = run("echo 12; echo careful >&2", Some(PATIENCE)).ok().expect("it answers");
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("12\n", "careful\n"));
        assert_eq!(failed(run("echo no >&2; exit 3", None)), "no\n");
        assert!(matches!(self::run(slurm_command("no-such-command", &[]), None), Err(Refused::Missing)));
    }
}
