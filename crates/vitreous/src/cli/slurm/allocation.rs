//! What Slurm has given to this process, read from its environment.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::numbers::counted;
use crate::record::{Claim, Folder};
use crate::slurm::JobFolder;
use crate::train::{limit_processors, threads};

/// How long the process of a job's earlier start may keep a run.
const PATIENCE: Duration = Duration::from_secs(300);

/// Time between two looks at it.
const LOOK: Duration = Duration::from_secs(1);

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Counts only the processors that Slurm allocated to this process. Returns a note where it allocated others than the
/// system lets the process use: without a control group or affinity it sees all processors of the node, and with an older
/// `srun` only one.
pub fn use_allocation() -> Option<String> {
    variable("SLURM_JOB_ID")?;
    let allocated = ["SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"].into_iter().find_map(variable)?.parse().ok()?;
    let visible = threads(0);
    limit_processors(allocated);
    disagreement(allocated, visible)
}

/// Says that the number of allocated processors is not that of the visible ones.
fn disagreement(allocated: usize, visible: usize) -> Option<String> {
    let used = allocated.min(visible);
    (allocated != visible).then(|| {
        let [allocated, visible] = [allocated, visible].map(|number| counted(number, "processor"));
        format!("Slurm allocated {allocated}, the system shows {visible}: the default is {}", counted(used, "thread"))
    })
}

/// Notes the run that this task of a job array trains; does nothing outside of one.
pub fn note_run(sweep: &Path, run: &str) {
    if let Some(task) = task() {
        JobFolder::of(sweep).note_run(&task, run);
    }
}

/// In a job that was started again, waits until the process of its earlier start has let go of a run: on a node that has failed
/// it may still be ending, and a network drive releases the locks of such a node late.
pub fn wait_for_earlier_start(run: &Path, stop: &AtomicBool) {
    if variable("SLURM_RESTART_COUNT").is_none() {
        return;
    }
    let is_taken = || Folder::open(run).is_ok_and(|folder| Claim::is_taken(&folder)) && !stop.load(Ordering::Relaxed);
    let clock = Instant::now();
    while is_taken() && clock.elapsed() < PATIENCE {
        if clock.elapsed() < LOOK {
            say!("waiting for an earlier start of this job, which still has {}", run.display());
        }
        sleep(LOOK);
    }
}

/// The run that an earlier start of this task of a job array trained last.
pub fn earlier_run(sweep: &Path) -> Option<String> {
    JobFolder::of(sweep).run_of(&task()?)
}

/// The number of this task of a job array, as `squeue` has it.
fn task() -> Option<String> {
    Some(format!("{}_{}", variable("SLURM_ARRAY_JOB_ID")?, variable("SLURM_ARRAY_TASK_ID")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_number_of_processors_is_used_and_named() {
        let expected = "Slurm allocated 3 processors, the system shows 8 processors: the default is 3 threads";
        assert_eq!(disagreement(3, 8).unwrap(), expected);
        let expected = "Slurm allocated 8 processors, the system shows 3 processors: the default is 3 threads";
        assert_eq!(disagreement(8, 3).unwrap(), expected);
        assert_eq!(disagreement(5, 5), None);
    }
}
