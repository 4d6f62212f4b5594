//! Ends a sweep: chooses the winner by the validation split, evaluates it on the test split if requested, and writes
//! the comparison and the analysis.

use std::path::PathBuf;

use super::{AnalysisContext, ClaimedSweep, PlannedRun, Setting, SweepEvent, Variation, analysis, winner};
use crate::advice::Note;
use crate::compare::{Against, Comparison, LeftOut, Measure, RunFacts, Sheet, read};
use crate::data::SplitName;
use crate::experiment::ExperimentError;
use crate::record::Run;
use crate::regular;

/// The file with the analysis, in the sweep's folder.
const ANALYSIS: &str = "analysis.md";

/// An earlier analysis, of other runs or another command.
const EARLIER_ANALYSIS: &str = "analysis-earlier.md";

/// Largest analysis that is read, in bytes.
const ANALYSIS_MAX: u64 = 64 << 20;

/// What a sweep came to.
pub struct Conclusion {
    /// Its runs side by side.
    pub comparison: Comparison,
    /// The file with the analysis.
    pub analysis: PathBuf,
    /// Where an earlier analysis, which differs, was moved.
    pub earlier: Option<PathBuf>,
}

/// How the end of a sweep came.
pub enum Ended {
    /// It was to stop before the winner was evaluated.
    Stopped,
    /// No run is finished: there is nothing to compare.
    Nothing,
    /// The runs were compared.
    Compared(Box<Conclusion>),
}

impl ClaimedSweep<'_> {
    /// Chooses the winner, tests it if requested, and writes the analysis.
    ///
    /// # Errors
    /// When the winner cannot be evaluated, or the analysis cannot be written.
    pub fn conclude(&self) -> Result<Ended, ExperimentError> {
        let by = self.ranked_by();
        let (mut runs, mut left_out) = self.read(by);
        let chosen = winner(&self.settings(&runs));
        let tested = chosen.map_or_else(Vec::new, |chosen| self.tested_before(chosen));
        if let (true, Some(chosen)) = (self.sweep.options.test_winner, chosen.or(self.only_setting())) {
            if !self.test(chosen, &tested)? {
                return Ok(Ended::Stopped);
            }
            (runs, left_out) = self.read(by);
        }
        if runs.is_empty() {
            return Ok(Ended::Nothing);
        }
        let settings = self.settings(&runs);
        let mut comparison = Comparison::new(runs, left_out, true, by);
        // What is chosen is held against the others it was chosen from; where nothing is, the first is the base.
        let chosen = chosen.filter(|_| by == Measure::Validation);
        let reference = chosen.map_or_else(|| settings.iter().find(|one| !one.runs.is_empty()), |at| settings.get(at));
        let row = reference.and_then(|setting| row_of(&comparison, setting));
        if let Some(row) = row.as_deref() {
            let against = if chosen.is_some() { Against::Chosen(row) } else { Against::Named(row) };
            // A failed run may have left it without an accuracy: then there is nothing to compare with.
            comparison.hold_against(against).ok();
        }
        let arguments: Vec<&str> = self.sweep.options.command.iter().skip(1).map(String::as_str).collect();
        let context = AnalysisContext {
            sweep: &self.sweep.options.name,
            command: &format!("vitreous {}", arguments.join(" ")),
            table: &Sheet::new(&comparison).markdown(Note::to_string),
            jobs: self.sweep.options.jobs,
            reproduces: self.sweep.file.reproduces.as_deref(),
            tested: &tested,
        };
        let (text, folder) = (analysis(&settings, &context), self.folder()?);
        let path = folder.path().join(ANALYSIS);
        let before = regular::read_text(&path, ANALYSIS_MAX).ok().filter(|before| *before != text);
        if let Some(before) = &before {
            folder.write(EARLIER_ANALYSIS, before.as_bytes())?;
        }
        folder.write(ANALYSIS, text.as_bytes())?;
        let earlier = before.map(|_| folder.path().join(EARLIER_ANALYSIS));
        Ok(Ended::Compared(Box::new(Conclusion { comparison, analysis: path, earlier })))
    }

    /// The test split ranks nothing; where a table is reproduced without a validation split, it is what is shown.
    fn ranked_by(&self) -> Measure {
        let has_validation = self.sweep.runs.iter().all(|run| run.splits.contains(&SplitName::Validation));
        if self.sweep.file.reproduces.is_some() && !has_validation { Measure::Test } else { Measure::Validation }
    }

    fn read(&self, by: Measure) -> (Vec<RunFacts>, Vec<LeftOut>) {
        let folders: Vec<PathBuf> = self.sweep.runs.iter().map(|run| run.folder.clone()).collect();
        read(&folders, by)
    }

    fn settings(&self, runs: &[RunFacts]) -> Vec<Setting> {
        let of = |setting: usize| -> Vec<RunFacts> {
            let own = |run: &&RunFacts| self.runs_of(setting).any(|planned| planned.folder == run.folder);
            runs.iter().filter(own).cloned().collect()
        };
        let setting = |(at, variation): (usize, &Variation)| Setting {
            name: variation.name.clone(),
            why: variation.why.clone(),
            runs: of(at),
        };
        self.sweep.variations.iter().enumerate().map(setting).collect()
    }

    fn runs_of(&self, setting: usize) -> impl Iterator<Item = &PlannedRun> {
        self.sweep.runs.iter().filter(move |run| run.setting == setting)
    }

    /// Of a single setting nothing has to be chosen.
    fn only_setting(&self) -> Option<usize> {
        (self.sweep.variations.len() == 1).then_some(0)
    }

    /// The other settings that were evaluated on the test split, by an earlier choice or by hand. Where a table is
    /// reproduced, the sweep itself measures them all.
    fn tested_before(&self, chosen: usize) -> Vec<String> {
        let is_tested = |item: &PlannedRun| {
            let is_known = |run: Run| run.manifest().evaluation(SplitName::Test).is_some();
            Run::open(&item.folder).is_ok_and(is_known)
        };
        let others = self.sweep.variations.iter().enumerate().filter(|(at, _)| *at != chosen);
        let tested = others.filter(|(at, _)| self.sweep.file.reproduces.is_none() && self.runs_of(*at).any(is_tested));
        tested.map(|(_, variation)| variation.name.clone()).collect()
    }

    /// Evaluates the finished runs of a setting on the test split. Returns whether it came to its end.
    fn test(&self, setting: usize, tested: &[String]) -> Result<bool, ExperimentError> {
        (self.listener)(SweepEvent::TestsWinner {
            setting: &self.sweep.variations[setting].name,
            reproduces: self.sweep.file.reproduces.is_some(),
            tested,
        });
        for run in self.runs_of(setting).filter(|run| run.is_done()) {
            if self.is_stopped() {
                return Ok(false);
            }
            if let Some(accuracy) = self.evaluate(run, SplitName::Test)? {
                let accuracies = &[(SplitName::Test, accuracy)];
                (self.listener)(SweepEvent::Evaluated { run: &run.name, accuracies, seconds: None });
            }
        }
        Ok(true)
    }
}

/// The name of the row that has the runs of a setting; no other row has it.
fn row_of(comparison: &Comparison, setting: &Setting) -> Option<String> {
    let folder = &setting.runs.first()?.folder;
    comparison.rows.iter().find(|row| row.folders.contains(folder)).map(|row| row.name.clone())
}
