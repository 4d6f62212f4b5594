//! `vitreous slurm train|sweep|evaluate|verify`: writes the scripts and submits them.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use super::commands::{Cluster, Refused, call, messages, needed, partitions, queue, sbatch};
use super::job::{Job, Wanted, arguments, arguments_without, cpus, here, job_name, memory, notes, staged};
use crate::advice::{Suggestion, Verb};
use crate::checkpoint::find_state;
use crate::cli::advice::{Context, asks_for_json};
use crate::cli::presets::preset_of;
use crate::cli::reading::watched;
use crate::cli::runs::{RUNS, run_folder};
use crate::cli::settings::{SettingsArgs, dir_of_environment, shell_word};
use crate::cli::train::{AUTO, base};
use crate::cli::verbosity::beyond_results;
use crate::cli::{CliError, json, show};
use crate::cli::{sweep as sweeps, train as trains};
use crate::config::CheckedConfig;
use crate::config::layers::Layers;
use crate::config::slurm::SlurmSpec;
use crate::experiment::{EarlierRun, Prepared, adopt_source, inspect, without_mnist};
use crate::numbers;
use crate::record::{Place, RecordError, Run, base_name, is_run, now_utc, seconds_to_write};
use crate::slurm::{
    Array, JobFolder, Queue, Row, Shown, Staged, SubmittedJob, changed_by_cluster, check_save, limit_text, quoted,
    rows, unicode,
};
use crate::sweep::Sweep;
use crate::train::peak_bytes;

/// A training with its resources, checked as far as that is possible before it is queued.
pub struct Planned {
    pub checked: CheckedConfig,
    pub cpus: usize,
    pub memory: (u64, String),
    pub prepared: Prepared,
    /// The start of its run's name.
    pub base: String,
}

/// Checks a training, and predicts its memory.
pub fn plan(wanted: &Wanted, args: &trains::Args) -> Result<Planned, CliError> {
    let mut settings: SettingsArgs = args.settings.clone();
    if let Some(start) = args.start.clone() {
        settings.preset = Some(preset_of(start)?);
    }
    if let Some(run) = args.resume.as_ref().filter(|resume| *resume != AUTO) {
        settings.config = Some(Run::open(&run_folder(Path::new(run), &args.out)?)?.config_path());
    }
    let mut layers = wanted.layers(settings.layers(args.flags.values())?)?;
    without_mnist(&mut layers, settings.data_dir.is_some())?.iter().for_each(|note| say!("note: {note}"));
    let base = base_name(&base(&settings));
    if args.resume.as_deref().is_none_or(|resume| resume == AUTO) {
        let owner = args.out.join(args.name.as_ref().unwrap_or(&base));
        let earlier = args.resume.as_ref().and_then(|_| Run::open(&owner).ok());
        let resumed =
            earlier.filter(|run| run.manifest().status.is_finished() || find_state(run.files()).state.is_some());
        let adopted = adopt_source(&mut layers, settings.chooses_model(), resumed.as_ref())?;
        adopted.iter().for_each(|note| say!("note: {note}"));
    }
    let checked = layers.finish()?;
    let cpus = cpus(&checked);
    // This machine need not have as much memory.
    let prepared = watched(|listener| Prepared::elsewhere(&checked, inspect(&checked, listener)?, cpus))?;
    let predicted = peak_bytes(prepared.needed);
    notes(&checked, predicted).iter().for_each(|note| say!("note: {note}"));
    let memory = memory(&checked.config().slurm, Some(predicted));
    Ok(Planned { cpus, memory, prepared, checked, base })
}

/// Submits a training.
pub fn train(wanted: &Wanted, args: &trains::Args) -> Result<(), CliError> {
    let Planned { checked, cpus, memory, prepared, base } = plan(wanted, args)?;
    let spec = &checked.config().slurm;
    let staged = staged(spec, &checked.config().data, &args.settings)?;
    let mut words = words_of("train", &checked, &args.settings, staged.as_ref())?;
    let mut continued = String::new();
    let owner = match args.resume.as_deref() {
        Some(run) if run != AUTO => run_folder(Path::new(run), &args.out)?,
        resume => {
            let name = match (&args.name, resume) {
                (Some(name), _) => name.clone(),
                (None, Some(_)) => base,
                (None, None) => free_name(&args.out, &base),
            };
            let owner = args.out.join(&name);
            if resume.is_none() || !is_run(&owner) {
                Place::choose(&args.out, Some(&name), &name)?;
            }
            if resume.is_none() {
                continued = format!("--resume {AUTO}");
            }
            if args.name.is_none() {
                let space = if continued.is_empty() { "" } else { " " };
                continued += &format!("{space}--name {}", quoted(&name));
                words.splice(1..1, ["--name".to_string(), name]);
            }
            if resume.is_none() {
                words.splice(1..1, ["--resume".to_string(), AUTO.to_string()]);
            }
            owner
        }
    };
    if args.resume.is_some()
        && is_run(&owner)
        && let Some(end) = EarlierRun::open(&owner)?.check(&prepared)?
    {
        say!("{}", Context::of(Verb::Train, false).note(&end));
        return Ok(());
    }
    let file = "train.sh".to_string();
    let (name, arguments) = (job_name(&owner), words);
    let (reads, weights) = (data_dir(&checked)?, weights_dir(&checked)?);
    let (resumes, is_last) = (true, false);
    let job = Job {
        name,
        file,
        arguments,
        continued,
        resumes,
        is_last,
        array: None,
        staged,
        reads,
        weights,
        reads_environment: false,
        memory,
        cpus,
    };
    let folder = JobFolder::of(&owner);
    if args.dry_run {
        return show_scripts(&[&job], spec, &folder);
    }
    let submission = Submission::new(spec, &folder, "train")?;
    submission.check_save(prepared.checkpoint_bytes())?;
    let submitted = submission.submit(&job, "train", Vec::new(), &[])?;
    finish(&folder, &[submitted])
}

/// The folder of the data, whole.
fn data_dir(checked: &CheckedConfig) -> Result<Option<PathBuf>, CliError> {
    checked.config().data.dir.as_ref().map(|dir| Ok(here()?.join(dir))).transpose()
}

/// The folder of the weights that a training starts from, whole: files next to them are read too.
fn weights_dir(checked: &CheckedConfig) -> Result<Option<PathBuf>, CliError> {
    let Some(path) = &checked.config().train.init_from else { return Ok(None) };
    let path = here()?.join(path);
    Ok(if path.is_dir() { Some(path) } else { path.parent().map(Path::to_path_buf) })
}

/// The words of a job's command, with the folder of its data: of data that is copied the script knows it, and not every
/// job inherits the environment.
pub fn words_of(
    verb: &str,
    checked: &CheckedConfig,
    settings: &SettingsArgs,
    staged: Option<&Staged>,
) -> Result<Vec<String>, CliError> {
    let dir = dir_of_environment()
        .filter(|dir| settings.data_dir.is_none() && checked.config().data.dir.as_ref() == Some(dir));
    let mut words = vec![verb.to_string()];
    if let Some(dir) = dir.filter(|_| staged.is_none()) {
        words.extend(["--data-dir".to_string(), unicode("the folder", &dir)?.to_string()]);
    }
    let without: &[&str] = if staged.is_some() { &["data_dir"] } else { &[] };
    words.extend(arguments_without(verb, without)?);
    Ok(words)
}

/// The first of `base`, `base-2`, ... that no folder has.
fn free_name(out: &Path, base: &str) -> String {
    let names = std::iter::once(base.to_string()).chain((2..).map(|number| format!("{base}-{number}")));
    names.into_iter().find(|name| !out.join(name).exists()).expect("some number is free")
}

/// Submits a sweep: an array for the runs that are not done, and a job for the table.
pub fn sweep(wanted: &Wanted, args: &sweeps::Args, is_dry: bool) -> Result<(), CliError> {
    let own = [
        ("--jobs", args.jobs > 1),
        ("--list", args.list),
        ("--task", args.task.is_some()),
        ("--conclude", args.conclude),
    ];
    if let Some((flag, _)) = own.into_iter().find(|(_, given)| *given) {
        let hint = format!("leave out {flag}; --parallel N limits the runs that are trained at the same time");
        return Err(CliError::user(format!("{flag} cannot be used: each run is a task of a job array"), Some(hint)));
    }
    let checked = wanted.layers(sweeps::first_layers(args)?)?.finish()?;
    let spec = &checked.config().slurm;
    let staged = staged(spec, &checked.config().data, &args.settings)?;
    let words = words_of("sweep", &checked, &args.settings, staged.as_ref())?;
    let (plan, jobs, table) = sweep_jobs(spec, &checked, args, &words, staged)?;
    let doubtful = notes(&checked, plan.memory_needed());
    doubtful.iter().chain(plan.notes()).for_each(|note| say!("note: {note}"));
    let folder = JobFolder::of(plan.folder());
    if is_dry {
        return show_scripts(&jobs.iter().chain([&table]).collect::<Vec<_>>(), spec, &folder);
    }
    let submission = Submission::new(spec, &folder, "sweep")?;
    submission.check_save(plan.checkpoint_bytes())?;
    let mut submitted: Vec<SubmittedJob> = Vec::new();
    for job in &jobs {
        let array = job.array.as_ref().expect("each has one");
        let task = |task: &usize| (*task, plan.runs()[task + array.offset - 1].name().to_string());
        let tasks = array.tasks.iter().map(task).collect();
        // One after the other, so that no more tasks run at a time than one array allows.
        let before: Vec<String> = submitted.last().map(|job| job.job.clone()).into_iter().collect();
        submitted.push(submission.submit(job, "sweep", tasks, &before)?);
    }
    let all: Vec<String> = submitted.iter().map(|job| job.job.clone()).collect();
    submitted.push(submission.submit(&table, "table", Vec::new(), &all)?);
    if jobs.is_empty() {
        say!("note: all runs are done; only the table is made");
    }
    finish(&folder, &submitted)
}

/// Plans a sweep, the arrays of its runs that are not done, and the job for the table. `words` are the command of all.
pub fn sweep_jobs(
    spec: &SlurmSpec,
    checked: &CheckedConfig,
    args: &sweeps::Args,
    words: &[String],
    staged: Option<Staged>,
) -> Result<(Sweep, Vec<Job>, Job), CliError> {
    let cpus = cpus(checked);
    let plan = sweeps::plan(args, Some(cpus))?;
    let open: Vec<usize> = (1..).zip(plan.runs()).filter(|(_, run)| !run.is_done()).map(|(number, _)| number).collect();
    let of_task = memory(spec, Some(plan.memory_needed()));
    let job = |file: String| -> Result<Job, CliError> {
        Ok(Job {
            name: job_name(plan.folder()),
            file,
            arguments: words.to_vec(),
            continued: String::new(),
            resumes: true,
            is_last: false,
            array: None,
            staged: staged.clone(),
            reads: data_dir(checked)?,
            weights: weights_dir(checked)?,
            reads_environment: false,
            memory: of_task.clone(),
            cpus,
        })
    };
    // Where Slurm cannot be asked, such as for a script that is only printed, its own default holds.
    let arrays = Array::divide(&open, spec.parallel, Cluster::ask().max_array_size());
    let array = |(number, array): (usize, Array)| {
        let file = if number == 1 { "sweep.sh".to_string() } else { format!("sweep-{number}.sh") };
        Ok(Job { array: Some(array), ..job(file)? })
    };
    let arrays = (1..).zip(arrays).map(array).collect::<Result<_, CliError>>()?;
    // To evaluate the winner needs less than its training did.
    let (cpus, of_table) = match plan.tests_winner() && of_task.0 > memory(spec, None).0 {
        true => (cpus, of_task.clone()),
        false => (if plan.tests_winner() { cpus } else { 1 }, memory(spec, None)),
    };
    // What is copied for a task is read where it is.
    let mut words = words.to_vec();
    if let Some(dir) = checked.config().data.dir.as_ref().filter(|_| staged.is_some()) {
        words.extend(["--data-dir".to_string(), unicode("the folder", dir)?.to_string()]);
    }
    let table = Job {
        name: format!("{}-table", job_name(plan.folder())),
        arguments: [&words[..], &["--conclude".to_string()]].concat(),
        resumes: false,
        is_last: true,
        staged: None,
        memory: of_table,
        cpus,
        ..job("table.sh".to_string())?
    };
    Ok((plan, arrays, table))
}

/// Submits another command. Its script is in the folder of `owner`; `resumes` says whether the same command continues it.
pub fn other(wanted: &Wanted, verb: &str, owner: &Path, resumes: bool, is_dry: bool) -> Result<(), CliError> {
    let checked = wanted.layers(Layers::new())?.finish()?;
    let spec = &checked.config().slurm;
    if spec.scratch {
        say!("note: data is copied to the node's disk for train and sweep only; {verb} reads it where it is");
    }
    let words = std::iter::once(verb.to_string()).chain(arguments(verb)?).collect();
    notes(&checked, 0).iter().for_each(|note| say!("note: {note}"));
    let job = Job {
        name: job_name(owner),
        file: format!("{verb}.sh"),
        arguments: words,
        continued: String::new(),
        resumes,
        is_last: false,
        array: None,
        staged: None,
        // In the script and not as a flag: evaluate prefers the folder of the run.
        reads: dir_of_environment().map(|dir| Ok::<_, CliError>(here()?.join(dir))).transpose()?,
        weights: None,
        reads_environment: true,
        memory: memory(spec, None),
        cpus: cpus(&checked),
    };
    let folder = JobFolder::of(owner);
    if is_dry {
        return show_scripts(&[&job], spec, &folder);
    }
    let submitted = Submission::new(spec, &folder, verb)?.submit(&job, verb, Vec::new(), &[])?;
    finish(&folder, &[submitted])
}

/// The variables for `sbatch` whose options every script has.
const ALWAYS_WRITTEN: [&str; 10] = [
    "SBATCH_ARRAY_INX",
    "SBATCH_JOB_NAME",
    "SBATCH_MEM_PER_CPU",
    "SBATCH_MEM_PER_GPU",
    "SBATCH_MEM_PER_NODE",
    "SBATCH_NO_REQUEUE",
    "SBATCH_OPEN_MODE",
    "SBATCH_OUTPUT",
    "SBATCH_REQUEUE",
    "SBATCH_SIGNAL",
];

/// Submits jobs of one run or sweep.
struct Submission<'a> {
    spec: &'a SlurmSpec,
    folder: &'a JobFolder,
    cluster: Option<String>,
    /// What was submitted until now.
    submitted: RefCell<Vec<String>>,
}

impl<'a> Submission<'a> {
    /// Checks that Slurm is there, and that no earlier job does the same.
    fn new(spec: &'a SlurmSpec, folder: &'a JobFolder, verb: &str) -> Result<Submission<'a>, CliError> {
        call("sbatch", &["--version"]).map_err(|refused| needed("sbatch", refused))?;
        let cluster = Cluster::ask().name().map(str::to_string);
        let jobs = folder.jobs();
        let is_same = |row: &&Row| {
            let job = jobs.iter().find(|job| job.job == row.job.split('_').next().unwrap_or_default());
            row.is_active && job.is_some_and(|job| job.verb == verb)
        };
        if !jobs.is_empty()
            && let Ok(queue) = queue()
            && let rows = rows(std::slice::from_ref(folder), Shown::All, [&queue, &Queue::new()], cluster.as_deref())
            && let Some(row) = rows.iter().find(is_same)
        {
            let owner = shell_word(folder.owner());
            let hint = format!("wait for it, or cancel it with `vitreous slurm cancel {owner}`");
            let Row { job, state, .. } = row;
            return Err(CliError::user(format!("job {job} of {owner} is {state}"), Some(hint)));
        }
        folder.create()?;
        Ok(Submission { spec, folder, cluster, submitted: RefCell::default() })
    }

    /// Checks that a checkpoint of so many bytes is saved in the time between the signal and the limit.
    fn check_save(&self, bytes: u64) -> Result<(), CliError> {
        let folder = self.folder.path();
        let seconds = seconds_to_write(folder, bytes).map_err(|error| RecordError::write(folder, &error))?;
        check_save(bytes, seconds, self.spec.signal_seconds, self.folder.owner()).map_err(|error| {
            self.folder.remove_unused();
            error.into()
        })
    }

    /// Writes a job's script, submits it, and keeps a record of it. It starts when the jobs `after` have ended.
    fn submit(
        &self,
        job: &Job,
        verb: &str,
        tasks: Vec<(usize, String)>,
        after: &[String],
    ) -> Result<SubmittedJob, CliError> {
        self.folder.write(&job.file, &job.script(self.spec, self.folder.path())?)?;
        // Whole: a path that starts with a dash would be an option.
        let script = here()?.join(self.folder.path()).join(&job.file);
        let script = unicode("the script", &script)?;
        let dependency = format!("--dependency=afterany:{}", after.join(":"));
        let mut words = vec!["--parsable"];
        if !after.is_empty() {
            words.push(&dependency);
        }
        words.push(script);
        let output = sbatch(&self.overridden(), &words).map_err(|refused| match refused {
            Refused::Missing => needed("sbatch", refused),
            Refused::Failed(stderr) => self.refused(&stderr),
        })?;
        for message in messages("sbatch", &output.stderr) {
            say!("note: sbatch: {message}");
        }
        // `12` or `12;cluster`; a site may print more before and after it.
        let answer = output.stdout.lines().rev().map(|line| line.trim().split_once(';').unwrap_or((line.trim(), "")));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let Some((id, cluster)) = answer.into_iter().find(|(id, _)| is_number(id)) else {
            let hint = "`squeue` shows whether the job was accepted".to_string();
            return Err(CliError::failure(
                format!("sbatch printed no job number: {}", output.stdout.trim()),
                Some(hint),
            ));
        };
        let cluster = if cluster.is_empty() { self.cluster.clone() } else { Some(cluster.to_string()) };
        let (id, name, verb) = (id.to_string(), job.name.clone(), verb.to_string());
        let submitted = SubmittedJob { job: id, cluster, name, verb, submitted: now_utc(), tasks };
        self.folder.add(&submitted).map_err(|error| {
            let hint =
                format!("cancel it with `scancel {}`, and submit again when the folder can be written", submitted.job);
            CliError::failure(
                format!("job {} is submitted, but cannot be recorded: {error}", submitted.job),
                Some(hint),
            )
        })?;
        self.submitted.borrow_mut().push(submitted.job.clone());
        self.tell_changes(job, &submitted.job);
        Ok(submitted)
    }

    /// The variables for `sbatch` that would come before a line of the script.
    fn overridden(&self) -> Vec<&'static str> {
        let SlurmSpec { partition, account, qos, time, gres, constraint, .. } = self.spec;
        let values = [
            ("SBATCH_PARTITION", partition),
            ("SBATCH_ACCOUNT", account),
            ("SBATCH_QOS", qos),
            ("SBATCH_TIMELIMIT", time),
            ("SBATCH_GRES", gres),
            ("SBATCH_CONSTRAINT", constraint),
        ];
        let given = values.into_iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name);
        given.chain(ALWAYS_WRITTEN).collect()
    }

    /// The error for a job that `sbatch` has refused. Nothing is left of it, so that its name is free again.
    fn refused(&self, stderr: &str) -> CliError {
        let messages = messages("sbatch", stderr);
        let why: Vec<&str> = messages.iter().map(|line| line.trim_start_matches("error: ")).collect();
        let hint = "`--dry-run` prints the script; `sinfo` lists partitions and limits".to_string();
        let error = CliError::user(format!("sbatch refused the job: {}", why.join("; ")), Some(hint));
        let submitted: Vec<String> = self.submitted.borrow().clone();
        if !submitted.is_empty() {
            let hint = format!(
                "{} was submitted before; `vitreous slurm cancel {}` cancels it",
                submitted.iter().map(|job| format!("job {job}")).collect::<Vec<_>>().join(", "),
                shell_word(self.folder.owner()),
            );
            return error.with_hint(Suggestion::new().text(hint));
        }
        self.folder.remove_unused();
        // Partitions that a user does not see may be open to the account, so that only Slurm knows.
        let (Some(wanted), Some(known)) = (&self.spec.partition, partitions()) else { return error };
        match wanted.split(',').find(|wanted| !known.iter().any(|known| known == wanted)) {
            Some(unknown) => {
                let known = known.iter().map(String::as_str);
                error.with_hint(Suggestion::nearest(unknown, known, "the partitions are"))
            }
            None => error,
        }
    }

    /// Notes what a plugin of the cluster has changed of the job.
    fn tell_changes(&self, job: &Job, id: &str) {
        let Ok(listed) = call("squeue", &["--noheader", &format!("--jobs={id}"), "--format=%P|%l|%C"]) else { return };
        let limit = self.spec.limit().map(limit_text);
        let asked = (self.spec.partition.as_deref(), limit.as_deref(), job.cpus);
        for change in changed_by_cluster(asked, &listed.stdout) {
            say!("note: the cluster changed job {id}: {change}");
        }
    }
}

/// Prints scripts instead of submitting them.
fn show_scripts(jobs: &[&Job], spec: &SlurmSpec, folder: &JobFolder) -> Result<(), CliError> {
    let scripts = jobs.iter().map(|job| job.script(spec, folder.path())).collect::<Result<Vec<_>, _>>()?;
    let path = |job: &&Job| folder.path().join(&job.file).display().to_string();
    if asks_for_json(std::env::args_os()) {
        let script = |(job, text)| serde_json::json!({ "path": path(job), "text": text });
        return show(&json(
            &serde_json::json!({ "scripts": jobs.iter().zip(&scripts).map(script).collect::<Vec<_>>() }),
        ));
    }
    show(&scripts.join("\n"))?;
    let paths: Vec<String> = jobs.iter().map(path).collect();
    say!(
        "nothing was written; without --dry-run, {} written and submitted",
        match &paths[..] {
            [path] => format!("{path} is"),
            paths => format!("{} are", paths.join(", ")),
        }
    );
    Ok(())
}

/// Reports what was submitted.
fn finish(folder: &JobFolder, submitted: &[SubmittedJob]) -> Result<(), CliError> {
    if asks_for_json(std::env::args_os()) {
        return show(&json(&serde_json::json!({ "folder": folder.owner().to_string_lossy(), "jobs": submitted })));
    }
    let describe = |job: &SubmittedJob| match (job.tasks.len(), job.verb.as_str()) {
        (0, "table") => line!("job {}: the table, when all runs have ended", job.job),
        (0, verb) => line!("job {}: {verb}, {}", job.job, folder.owner().display()),
        (tasks, _) => line!("job {}: {} of {}", job.job, numbers::counted(tasks, "run"), folder.owner().display()),
    };
    let owner = shell_word(folder.owner());
    // The last job of a run is found by the run's name, any other by its number.
    let log = match submitted.first() {
        Some(job) if job.verb != "train" => {
            let task = job.tasks.first().map_or(String::new(), |(task, _)| format!("_{task}"));
            let out = folder.owner().parent().unwrap_or(Path::new("."));
            let out = if out == Path::new(RUNS) { String::new() } else { format!(" --out {}", shell_word(out)) };
            format!("{}{task}{out}", job.job)
        }
        _ => owner.clone(),
    };
    show(
        &(submitted.iter().map(describe).collect::<String>()
            + &beyond_results(
                line!("scripts and logs are in {}", folder.path().display())
                    + &line!("next: vitreous slurm status {owner}")
                    + &line!("      vitreous slurm logs -f {log}"),
            )),
    )
}
