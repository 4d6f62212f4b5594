//! The state of a search in one small file: what was timed, and which runs were chosen. What the runs reached is in their
//! folders.
//!
//! A choice is written before its runs start. So a search that was killed makes the same ones, whatever a second timing
//! would have said.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{AdviseError, Scope};
use crate::profile::Machine;
use crate::record::write_atomically;
use crate::regular;
use crate::system_errors::system_error;
use crate::timing::Paired;

/// The name of the file.
pub const FILE: &str = "advise.json";

/// Largest file that is read, in bytes.
const BYTES_MAX: u64 = 16 << 20;

/// What was timed and chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The base's config.
    pub base: String,
    /// What was asked for.
    pub scope: Scope,
    /// Where it was timed, and with how many threads; unknown in files of earlier versions.
    #[serde(default)]
    pub machine: Option<(Machine, usize)>,
    /// The base timed against itself.
    pub noise: Option<Paired>,
    /// Candidates timed against the base, the latest last.
    #[serde(default)]
    pub timings: Vec<Timing>,
    /// The kind of the next round and the candidates that are timed for it, while they are.
    #[serde(default, alias = "best")]
    pub next: Option<(RoundKind, Vec<String>)>,
    /// Time that is reserved for the last round, in seconds.
    pub final_s: f64,
    /// Rounds of runs, each with what was chosen for it.
    pub rounds: Vec<Round>,
    /// What was chosen, before the test split was looked at.
    pub winner: Option<String>,
    /// Wall-clock time spent so far, in seconds.
    pub spent_s: f64,
}

/// A candidate timed against the base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// The name of the candidate.
    pub name: String,
    /// The kind of round for which it was timed.
    pub round: RoundKind,
    /// Its times; none where it does not fit into memory.
    pub time: Option<Paired>,
}

/// The timings in files of earlier versions: the first of each candidate, and the latest of the best.
#[derive(Deserialize)]
struct EarlierTimings {
    #[serde(default)]
    times: BTreeMap<String, Option<Paired>>,
    #[serde(default)]
    final_times: BTreeMap<String, Paired>,
}

/// Runs of the base and some candidates, with the same images, seeds and recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// What it is for.
    pub kind: RoundKind,
    /// The candidates, without the base.
    pub candidates: Vec<String>,
    /// Training images of a run; all where absent.
    pub images: Option<usize>,
    /// Epochs of a run, to whose length the learning rate schedule is fitted.
    pub epochs: usize,
    /// Seeds of each.
    pub seeds: Vec<u64>,
    /// What it should take by the timings, in seconds.
    pub planned_s: f64,
    /// What it took so far, all starts together, in seconds.
    #[serde(default)]
    pub spent_s: f64,
    /// What it took, once it has ended.
    pub took_s: Option<f64>,
    /// Whether its time ended before its runs did.
    #[serde(default)]
    pub is_cut: bool,
}

/// What a round is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoundKind {
    /// All single edits, on few images.
    Singles,
    /// The best of them again, on more images.
    Again,
    /// So many edits together.
    Several(usize),
    /// The best of all, on more images.
    Narrow,
    /// The finalists, three seeds each.
    Final,
}

impl Record {
    /// Reads the state in a folder, or starts one.
    ///
    /// # Errors
    /// When it cannot be read, or is that of another base, another scope, or another machine.
    pub fn open(folder: &Path, base: &str, scope: &Scope, machine: (Machine, usize)) -> Result<Record, AdviseError> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(Record {
                base: base.to_string(),
                scope: scope.clone(),
                machine: Some(machine),
                noise: None,
                timings: Vec::new(),
                next: None,
                final_s: 0.0,
                rounds: Vec::new(),
                winner: None,
                spent_s: 0.0,
            });
        }
        let text = regular::read_text(&path, BYTES_MAX).map_err(|error| system_error(&error));
        let mut record = text
            .and_then(|text| Record::read(&text).map_err(|error| error.to_string()))
            .map_err(|reason| AdviseError::State { path: path.clone(), reason })?;
        // Times, and how much training fits into the budget, hold on one machine alone; without runs, it is timed anew.
        if record.machine.as_ref().is_some_and(|known| *known != machine) && record.rounds.is_empty() {
            (record.noise, record.timings, record.next, record.machine) =
                (None, Vec::new(), None, Some(machine.clone()));
        }
        let other = |what| Err(AdviseError::Other { path: folder.to_path_buf(), what });
        match (record.base == base, record.scope == *scope) {
            (false, _) => other("config"),
            (_, false) => other("scope: rules, parts to keep, limits or goals"),
            _ if record.machine.as_ref().is_some_and(|known| *known != machine) => {
                other("machine or number of threads, whose times do not hold here")
            }
            _ => Ok(record),
        }
    }

    fn read(text: &str) -> Result<Record, serde_json::Error> {
        let mut record: Record = serde_json::from_str(text)?;
        let EarlierTimings { times, final_times } = serde_json::from_str(text)?;
        let first = |name: &str| match name.split('+').count() {
            1 => RoundKind::Singles,
            edits => RoundKind::Several(edits),
        };
        let is_last = |kind: &RoundKind| matches!(kind, RoundKind::Narrow | RoundKind::Final);
        let kinds = record.rounds.iter().map(|round| round.kind).chain(record.next.iter().map(|(kind, _)| *kind));
        let last = kinds.rev().find(is_last).unwrap_or(RoundKind::Narrow);
        let times = times.into_iter().map(|(name, time)| Timing { round: first(&name), name, time });
        let final_times = final_times.into_iter().map(|(name, time)| Timing { name, round: last, time: Some(time) });
        record.timings.extend(times.chain(final_times));
        Ok(record)
    }

    /// The latest time of a candidate against the base.
    pub fn time(&self, name: &str) -> Option<Paired> {
        self.timings.iter().rev().filter(|one| one.name == name).find_map(|one| one.time)
    }

    /// Whether a candidate was timed, or was to be; with a kind, for a round of this kind.
    pub fn is_timed(&self, name: &str, round: Option<RoundKind>) -> bool {
        self.timings.iter().any(|one| one.name == name && round.is_none_or(|round| one.round == round))
    }

    /// Writes the state.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), AdviseError> {
        let text = serde_json::to_string_pretty(self).expect("the state is plain numbers and texts");
        Ok(write_atomically(&folder.join(FILE), text.as_bytes())?)
    }

    /// What rounds took, as a multiple of what was planned.
    pub fn pace(&self) -> f64 {
        let whole = self.rounds.iter().filter(|round| !round.is_cut);
        let ended = whole.filter_map(|round| Some((round.planned_s, round.took_s?)));
        let (planned, took) = ended.fold((0.0, 0.0), |(planned, took), (p, t)| (planned + p, took + t));
        if planned > 0.0 { (took / planned).clamp(0.5, 4.0) } else { 1.0 }
    }
}

impl Round {
    /// The name of its folder, of the round of this place.
    pub fn folder(&self, at: usize) -> String {
        if self.kind == RoundKind::Final { "final".to_string() } else { format!("round-{}", at + 1) }
    }

    /// The name of a run.
    pub fn run(name: &str, seed: u64) -> String {
        format!("{name}_seed={seed}")
    }
}
