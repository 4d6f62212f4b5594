//! `vitreous slurm`: submits trainings, sweeps and other commands as jobs of a Slurm cluster, and shows what became of them.

mod allocation;
mod commands;
mod follow;
mod job;
mod simulate;
mod submit;

pub use allocation::{earlier_run, note_run, use_allocation, wait_for_earlier_start};

use std::path::Path;
use std::process::ExitCode;

use super::runs::{RUNS, run_folder};
use super::{CliError, advise, evaluate, sweep, train, verify};
use crate::record::Run;
use job::Wanted;

/// Submits jobs to a Slurm cluster, and shows their state
///
/// A job requeues itself at its time limit and continues until its run is finished. docs/cluster.md is a guide.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Submits a training: a job that requeues itself until the run is finished
    #[command(mut_arg("dry_run", |arg| {
        // Unlike that of `vitreous train`, it goes with --resume.
        arg.help("Print the batch script; write and submit nothing").conflicts_with(clap::builder::Resettable::<clap::Id>::Reset)
    }), mut_arg("simulate", |arg| arg.conflicts_with("resume")))]
    Train(Box<TrainJob>),
    /// Submits a sweep: a job array with a task for each run, and a job for the table
    Sweep(Box<SweepJob>),
    /// Submits `vitreous evaluate`
    Evaluate(Box<EvaluateJob>),
    /// Submits `vitreous verify`
    // Known behind the inner command too.
    #[command(mut_args(|arg| arg.global(true)))]
    Verify(Box<VerifyJob>),
    /// Submits `vitreous advise`: a job that requeues itself until the search is finished
    Advise(Box<AdviseJob>),
    /// Shows the jobs of runs: state and reason, epoch, validation accuracy, time left
    Status(follow::StatusArgs),
    /// Cancels the jobs of runs
    Cancel(follow::CancelArgs),
    /// Prints the log of a run's last job
    Logs(follow::LogsArgs),
}

#[derive(clap::Args)]
struct TrainJob {
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    simulated: Simulated,
    #[command(flatten)]
    train: train::Args,
}

#[derive(clap::Args)]
struct SweepJob {
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    dry: DryRun,
    #[command(flatten)]
    simulated: Simulated,
    #[command(flatten)]
    sweep: sweep::Args,
}

#[derive(clap::Args)]
struct EvaluateJob {
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    dry: DryRun,
    #[command(flatten)]
    evaluate: evaluate::Args,
}

#[derive(clap::Args)]
struct VerifyJob {
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    dry: DryRun,
    #[command(flatten)]
    _verify: verify::Args,
}

#[derive(clap::Args)]
struct AdviseJob {
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    dry: DryRun,
    #[command(flatten)]
    advise: advise::Args,
}

#[derive(clap::Args)]
struct DryRun {
    /// Print the batch scripts; write and submit nothing
    #[arg(long)]
    dry_run: bool,
}

/// A rehearsal instead of a submission.
#[derive(clap::Args)]
struct Simulated {
    /// Run the scripts here without Slurm: jobs are warned, killed and requeued N times, and must end with the weights of an
    /// uninterrupted training [default: 5]
    #[arg(
        long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "5",
        conflicts_with = "dry_run", value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    simulate: Option<u32>,
    /// Draw the times of the requeues from this number, which an earlier --simulate has printed
    #[arg(long, value_name = "N", requires = "simulate")]
    simulate_seed: Option<u64>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode, CliError> {
    match args.verb {
        Verb::Train(job) if job.simulated.simulate.is_some() => {
            return simulate::train(&job.wanted, &job.train, &job.simulated);
        }
        Verb::Train(job) => submit::train(&job.wanted, &job.train),
        Verb::Sweep(mut job) if job.simulated.simulate.is_some() => {
            return simulate::sweep(&job.wanted, &mut job.sweep, &job.simulated);
        }
        Verb::Sweep(job) => submit::sweep(&job.wanted, &job.sweep, job.dry.dry_run),
        Verb::Evaluate(job) => {
            let run = job.evaluate.run.as_ref().or(job.evaluate.named.as_ref()).expect("clap asks for one of them");
            let run = run_folder(run, Path::new(RUNS))?;
            Run::open(&run)?;
            submit::other(&job.wanted, "evaluate", &run, false, job.dry.dry_run)
        }
        Verb::Verify(job) => {
            submit::other(&job.wanted, "verify", &Path::new(RUNS).join("slurm-verify"), false, job.dry.dry_run)
        }
        Verb::Advise(job) => submit::other(&job.wanted, "advise", &advise::folder(&job.advise), true, job.dry.dry_run),
        Verb::Status(args) => follow::status(&args),
        Verb::Cancel(args) => follow::cancel(&args),
        Verb::Logs(args) => follow::logs(&args),
    }?;
    Ok(ExitCode::SUCCESS)
}
