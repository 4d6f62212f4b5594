//! The table of `slurm status`: for each run its last job, what Slurm says of that, and how far the run is.

use std::path::PathBuf;

use serde::Serialize;

use super::{Found, JobFolder, Progress, Queue, SubmittedJob};

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The run, or what a job without one does, such as the table of a sweep.
    #[serde(serialize_with = "crate::text::lossy")]
    pub run: PathBuf,
    /// The job's number.
    pub job: String,
    /// Its state in Slurm's words; `ended` or `unknown` where Slurm does not list it.
    pub state: String,
    /// Why it waits, or how it has ended.
    pub reason: Option<String>,
    /// How far the run is.
    #[serde(flatten)]
    pub progress: Progress,
    /// Whether it waits, runs, or will again.
    #[serde(skip)]
    pub is_active: bool,
    /// The cluster that it is on, where that is another one.
    #[serde(skip)]
    pub elsewhere: Option<String>,
    /// Its log.
    #[serde(skip)]
    pub log: PathBuf,
}

/// Which jobs of a run are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The last one.
    Last,
    /// All, in the order of their submission.
    All,
}

/// Puts together what is known of the jobs of each run. `squeue` comes before `sacct`, which may lag behind; `cluster`
/// is the one that both speak of.
pub fn rows(folders: &[JobFolder], shown: Shown, [squeue, sacct]: [&Queue; 2], cluster: Option<&str>) -> Vec<Row> {
    folders.iter().flat_map(|folder| rows_of(folder, shown, [squeue, sacct], cluster)).collect()
}

fn rows_of(folder: &JobFolder, shown: Shown, [squeue, sacct]: [&Queue; 2], cluster: Option<&str>) -> Vec<Row> {
    let mut last: Vec<(PathBuf, String, SubmittedJob)> = Vec::new();
    let mut put = |run: PathBuf, id: String, job: &SubmittedJob| {
        let earlier = last.iter_mut().find(|(of, ..)| *of == run).filter(|_| shown == Shown::Last);
        match earlier {
            Some(found) => (found.1, found.2) = (id, job.clone()),
            None => last.push((run, id, job.clone())),
        }
    };
    for job in folder.jobs() {
        for (task, run) in &job.tasks {
            let id = format!("{}_{task}", job.job);
            // A task whose own run was done has taken another one.
            let taken = folder.run_of(&id).filter(|taken| taken != run);
            [Some(run.clone()), taken]
                .into_iter()
                .flatten()
                .for_each(|run| put(folder.owner().join(run), id.clone(), &job));
        }
        match job.verb.as_str() {
            _ if !job.tasks.is_empty() => {}
            "train" => put(folder.owner().to_path_buf(), job.job.clone(), &job),
            verb => put(folder.owner().join(format!("({verb})")), job.job.clone(), &job),
        }
    }
    let row = |(run, id, job): (PathBuf, String, SubmittedJob)| {
        let progress = Progress::of(&run);
        // Numbers are given again on another cluster, and after a cluster was set up anew.
        let elsewhere = job.cluster.as_deref().filter(|other| cluster.is_some_and(|cluster| cluster != *other));
        let listed =
            squeue.get(&id).or_else(|| sacct.get(&id)).filter(|found| elsewhere.is_none() && found.name == job.name);
        let (state, reason, is_active) = match (listed, elsewhere) {
            (Some(Found { state, reason, .. }), _) => (state.to_string(), reason.clone(), state.is_active()),
            (None, Some(other)) => ("unknown".to_string(), Some(format!("on cluster {other}")), false),
            (None, None) if progress.status.as_deref() == Some("finished") => ("ended".to_string(), None, false),
            (None, None) => ("unknown".to_string(), Some("no longer listed by Slurm".to_string()), false),
        };
        let elsewhere = elsewhere.map(str::to_string);
        Row { run, log: folder.log(&id), job: id, state, reason, progress, is_active, elsewhere }
    };
    last.into_iter().map(row).collect()
}
