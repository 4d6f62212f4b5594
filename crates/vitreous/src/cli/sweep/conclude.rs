//! What comes when the runs of a sweep are done: the winner is chosen by the validation split, then tested if that was
//! asked for; the comparison is printed and the analysis written.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::super::CliError;
use super::super::compare::{Format, print};
use super::super::train::command;
use super::{Args, Item, Work};
use crate::compare::{Against, Comparison, LeftOut, Measure, RunFacts, Sheet, read};
use crate::config::difference::flat_config;
use crate::data::SplitName;
use crate::numbers;
use crate::record::{Claim, Run};
use crate::sweep::{Setting, SweepError, SweepFile, Telling, Variation, analysis, winner};

/// What a sweep writes beside its runs.
const ANALYSIS: &str = "analysis.md";

/// A sweep whose runs are done.
pub struct End<'a> {
    pub args: &'a Args,
    pub file: &'a SweepFile,
    pub name: &'a str,
    pub variations: &'a [Variation],
    pub work: &'a Work<'a>,
    pub claim: &'a Claim,
}

impl End<'_> {
    /// Chooses, tests, prints and writes. Returns whether it came to its end, or was to stop.
    pub fn conclude(&self) -> Result<bool, CliError> {
        let by = self.ranked_by();
        let (mut runs, mut left_out) = self.read(by);
        let chosen = winner(&self.settings(&runs));
        let tested = chosen.map_or_else(Vec::new, |chosen| self.tested_before(chosen));
        if let (true, Some(chosen)) = (self.args.test_winner, chosen.or(self.only_setting())) {
            if !self.test(chosen, &tested)? {
                return Ok(false);
            }
            (runs, left_out) = self.read(by);
        }
        if runs.is_empty() {
            return Ok(true);
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
        let arguments: Vec<String> = command().into_iter().skip(1).collect();
        let telling = Telling {
            sweep: self.name,
            command: &format!("vitreous {}", arguments.join(" ")),
            table: &Sheet::new(&comparison).markdown(),
            jobs: self.work.jobs,
            reproduces: self.file.reproduces.as_deref(),
            tested: &tested,
        };
        let folder = self.claim.folder();
        folder.write(ANALYSIS, analysis(&settings, &telling).as_bytes())?;
        let path = folder.path().join(ANALYSIS);
        print(&comparison, if self.args.json { Format::Json } else { Format::Terminal })?;
        say!("{} says what each change did, and which accuracy ranks the settings", path.display());
        Ok(true)
    }

    /// The test split ranks nothing; where a table is reproduced without a validation split, it is what is shown.
    fn ranked_by(&self) -> Measure {
        let has_validation = self.work.items.iter().all(|item| item.splits.contains(&SplitName::Validation));
        if self.file.reproduces.is_some() && !has_validation { Measure::Test } else { Measure::Validation }
    }

    fn read(&self, by: Measure) -> (Vec<RunFacts>, Vec<LeftOut>) {
        let folders: Vec<PathBuf> = self.work.items.iter().map(|item| item.folder.clone()).collect();
        read(&folders, by)
    }

    fn settings(&self, runs: &[RunFacts]) -> Vec<Setting> {
        let of = |setting: usize| -> Vec<RunFacts> {
            let own = |run: &&RunFacts| self.items_of(setting).any(|item| item.folder == run.folder);
            runs.iter().filter(own).cloned().collect()
        };
        let setting = |(at, variation): (usize, &Variation)| Setting {
            name: variation.name.clone(),
            why: variation.why.clone(),
            runs: of(at),
        };
        self.variations.iter().enumerate().map(setting).collect()
    }

    fn items_of(&self, setting: usize) -> impl Iterator<Item = &Item> {
        self.work.items.iter().filter(move |item| item.setting == setting)
    }

    /// Of a single setting nothing has to be chosen.
    fn only_setting(&self) -> Option<usize> {
        (self.variations.len() == 1).then_some(0)
    }

    /// The other settings that were measured on the test split, by an earlier choice or by hand. Where a table is
    /// reproduced, the sweep itself measures them all.
    fn tested_before(&self, chosen: usize) -> Vec<String> {
        let is_tested = |item: &Item| {
            let is_known = |run: Run| run.manifest().evaluation(SplitName::Test).is_some();
            Run::open(&item.folder).is_ok_and(is_known)
        };
        let others = self.variations.iter().enumerate().filter(|(at, _)| *at != chosen);
        let tested = others.filter(|(at, _)| self.file.reproduces.is_none() && self.items_of(*at).any(is_tested));
        tested.map(|(_, variation)| variation.name.clone()).collect()
    }

    /// Measures the finished runs of a setting on the test split. Returns whether it came to its end.
    fn test(&self, setting: usize, tested: &[String]) -> Result<bool, CliError> {
        let name = &self.variations[setting].name;
        match (self.file.reproduces.is_some(), tested) {
            (true, _) => say!("the test split is measured for {name}"),
            (false, []) => say!("the test split is measured for {name}, and for no other setting"),
            (false, tested) => {
                let tested = tested.join(", ");
                say!("the test split is measured for {name}; before, it was measured for {tested}");
            }
        }
        for item in self.items_of(setting).filter(|item| super::is_done(&item.folder)) {
            if self.work.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            if let Some(accuracy) = self.work.measure(item, SplitName::Test)? {
                say!("{}: test {}", item.name, numbers::percent(accuracy));
            }
        }
        Ok(true)
    }
}

/// Refuses runs that are validated on different images, between which nothing can be chosen.
pub fn check_same_images(items: &[Item]) -> Result<(), CliError> {
    let settings = |item: &Item| flat_config(&item.config.to_toml(), "config.toml");
    let first = settings(&items[0])?;
    for item in &items[1..] {
        let keys = Measure::Validation.apart(&first, &settings(item)?);
        if !keys.is_empty() {
            return Err(SweepError::OtherImages { runs: [items[0].name.clone(), item.name.clone()], keys }.into());
        }
    }
    Ok(())
}

/// The name of the row that has the runs of a setting; no other row has it.
fn row_of(comparison: &Comparison, setting: &Setting) -> Option<String> {
    let folder = &setting.runs.first()?.folder;
    comparison.rows.iter().find(|row| row.folders.contains(folder)).map(|row| row.name.clone())
}
