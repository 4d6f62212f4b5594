//! The saved results of an evaluation: `evaluation/<split>/` in the run's folder, with `report.json`, `confusion.csv`,
//! `confusion.txt` and `predictions.csv`, or of a reader `report.json` and `readings.csv`; for other images than
//! the run's `evaluation/<split>-of-<data>-<eight digits of their fingerprint>/`, and `-last` behind either for the last
//! weights of a run that has kept best ones. A later evaluation of the same images by the same weights takes its place.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::confusion::DENSE_CLASSES_MAX;
use super::reading::{Reading, ReadingScores, readings_csv};
use super::{ClassScores, Prediction, Scores, predictions_csv};
use crate::data::SplitName;
use crate::record::{EvaluationRecord, RecordError, Run, Weights, base_name};
use crate::{numbers, regular};

/// Digits of a fingerprint that distinguish data sets with the same name.
const FINGERPRINT_DIGITS: usize = 8;

/// Largest report that is read, in bytes: it has a few lines for each of thousands of classes.
const REPORT_MAX: u64 = 256 << 20;

/// An evaluation and what it was made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The run.
    pub run: String,
    /// Which of its weights.
    pub weights: Weights,
    /// Epochs after which they were saved.
    pub epoch: u64,
    /// Optimizer steps after which they were saved.
    pub step: u64,
    /// The data set's name or folder.
    pub data: String,
    /// SHA-256 of the split's images.
    pub fingerprint: String,
    /// Which of its images.
    pub split: SplitName,
    /// How many different results of the run's test split were seen, this one included.
    pub test_evaluations: u64,
    /// Which of the images may have been used for training, or that the test split has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What was reached.
    #[serde(flatten)]
    pub reached: Reached,
}

/// What a model reaches on some images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reached {
    /// A classifier.
    Classes(Scores),
    /// A reader.
    Reading(ReadingScores),
}

/// A model's predictions for all images, in order.
pub enum Answers {
    /// Its class.
    Classes(Vec<Prediction>),
    /// The digits read, and the true digits.
    Readings {
        /// The digits of each strip.
        truths: Vec<Vec<u8>>,
        /// What was read of each strip.
        readings: Vec<Reading>,
    },
}

impl Answers {
    /// Maximum bytes of the predictions for this many images, including the scores of all classes and the files of
    /// both.
    pub fn bytes(images: u64, class_names: &[String]) -> u64 {
        let longest = class_names.iter().map(String::len).max().unwrap_or(0) as u64;
        // An image's name, answer and line are short, but for the names of two classes, in two files.
        let each = 512 + 8 * longest;
        let dense = DENSE_CLASSES_MAX.min(class_names.len()).pow(2) as u64;
        images.saturating_mul(each) + class_names.len() as u64 * each + 64 * dense
    }
}

impl Reached {
    /// Mean cross-entropy, of images or of words.
    pub fn loss(&self) -> f64 {
        match self {
            Reached::Classes(scores) => scores.loss,
            Reached::Reading(scores) => scores.loss,
        }
    }

    /// Fraction of images classified correctly, or of strips read correctly.
    pub fn accuracy(&self) -> f64 {
        match self {
            Reached::Classes(scores) => scores.top1,
            Reached::Reading(scores) => scores.exact_match,
        }
    }
}

impl Report {
    /// The line that states the split, the number of images or strips, and the weights.
    pub fn title(&self, what: &str, count: u64) -> String {
        let Report { split, data, weights, run, .. } = self;
        let [count, step] = [count, self.step].map(numbers::count);
        format!("{split} of {data}, {count} {what}; weights {weights} of {run} (step {step})")
    }

    /// Where a split's files are in the folder of a run; `other` is the data's name and fingerprint where they are not the
    /// run's (folders may share a name), `has_best` is said of the last weights where the run has kept best ones too.
    pub fn folder(run: &Path, split: SplitName, other: Option<(&str, &str)>, has_best: bool) -> PathBuf {
        let split = if split == SplitName::Validation { "val".to_string() } else { split.to_string() };
        let of = other.map_or(String::new(), |(data, fingerprint)| {
            format!("-of-{}-{}", base_name(data), &fingerprint[..FINGERPRINT_DIGITS])
        });
        run.join("evaluation").join(format!("{split}{of}{}", if has_best { "-last" } else { "" }))
    }

    /// Returns the saved report on a split of the run's own images, for either weights, with its folder.
    pub fn kept(run: &Path, split: SplitName) -> impl Iterator<Item = (PathBuf, Report)> {
        let folders = [false, true].map(|has_best| Report::folder(run, split, None, has_best));
        folders.into_iter().filter_map(|folder| Some((folder.clone(), Report::earlier(&folder)?)))
    }

    /// As [`Report::kept`], of all splits, with the names of the folders; a report that is damaged is an error.
    pub fn all_kept(run: &Path) -> impl Iterator<Item = Result<(String, Report), RecordError>> {
        let folders = [SplitName::Test, SplitName::Validation, SplitName::Train]
            .into_iter()
            .flat_map(|split| [false, true].map(|has_best| Report::folder(run, split, None, has_best)));
        folders.filter_map(|folder| {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Report::read(&folder).map(|read| read.map(|report| (name, report)))
        })
    }

    /// Reads the report of an earlier evaluation, if it is readable.
    pub fn earlier(folder: &Path) -> Option<Report> {
        Report::read(folder)?.ok()
    }

    /// Reads the report of an earlier evaluation, if there is one.
    fn read(folder: &Path) -> Option<Result<Report, RecordError>> {
        let path = folder.join("report.json");
        let damaged = |reason: String| RecordError::Evaluation { path: path.clone(), reason };
        Some(match regular::read_text(&path, REPORT_MAX) {
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => Err(RecordError::read(&path, &error)),
            Ok(text) => serde_json::from_str(&text)
                .map_err(|error| match error.is_data() {
                    true => damaged("these are not the values of an evaluation".to_string()),
                    false => damaged(error.to_string()),
                })
                .and_then(|report: Report| report.check().map_or(Ok(report), |reason| Err(damaged(reason)))),
        })
    }

    /// Says what cannot be in a report that this program wrote.
    fn check(&self) -> Option<String> {
        let accuracy = self.reached.accuracy();
        if !(0.0..=1.0).contains(&accuracy) {
            return Some(format!("an accuracy of {accuracy}"));
        }
        let Reached::Classes(scores) = &self.reached else { return None };
        let Scores { classes, confusion, .. } = scores;
        if classes.len() != confusion.names().len() {
            return Some(format!("{} classes in a matrix of {}", classes.len(), confusion.names().len()));
        }
        let differs = |(class, one): &(usize, &ClassScores)| one.support != confusion.support(*class);
        let (class, one) = classes.iter().enumerate().find(differs)?;
        let (said, counted) = (one.support, confusion.support(class));
        Some(format!("{said} images of class `{}`, {counted} in the confusion matrix", one.name))
    }

    /// Returns the record of it for the run's manifest; the hash is that of the weights file.
    pub fn record(&self, weights_sha256: String) -> EvaluationRecord {
        let (images, top5, beam) = match &self.reached {
            Reached::Classes(scores) => (scores.images, Some(scores.top5), None),
            Reached::Reading(scores) => (scores.strips, None, Some(scores.beam)),
        };
        let top1 = self.reached.accuracy();
        let loss = Some(self.reached.loss()).filter(|loss| loss.is_finite());
        let data = self.data.clone();
        let (step, fingerprint) = (Some(self.step), Some(self.fingerprint.clone()));
        let Report { split, weights, .. } = *self;
        let weights_sha256 = Some(weights_sha256);
        EvaluationRecord { split, weights, weights_sha256, step, data, fingerprint, images, loss, top1, top5, beam }
    }

    /// Writes all files into a folder inside that of the run, which is made.
    ///
    /// # Errors
    /// When they cannot be written, or the run's folder was moved or deleted.
    pub fn save(&self, run: &Run, folder: &Path, answers: &Answers) -> Result<(), RecordError> {
        run.check()?;
        let inside = folder.strip_prefix(run.folder()).unwrap_or(folder).to_string_lossy().into_owned();
        for (end, _) in inside.match_indices('/').chain([(inside.len(), "")]) {
            let made = run.files().make_folder(&inside[..end]);
            made.map_err(|error| RecordError::write(folder, &error))?;
        }
        run.files().clean(&inside);
        let mut files = Vec::new();
        if let (Reached::Classes(Scores { confusion, .. }), Answers::Classes(predictions)) = (&self.reached, answers) {
            files.push(("predictions.csv", predictions_csv(predictions, confusion.names())));
            files.push(("confusion.csv", confusion.csv()));
            files.push(("confusion.txt", confusion.text()));
        }
        if let Answers::Readings { truths, readings } = answers {
            files.push(("readings.csv", readings_csv(truths, readings)));
        }
        let mut json = serde_json::to_string(self).expect("a report is plain numbers and texts");
        json.push('\n');
        files.push(("report.json", json));
        files.iter().try_for_each(|(name, text)| run.files().write(&format!("{inside}/{name}"), text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::ConfusionMatrix;
    use super::*;

    #[test]
    fn the_answers_take_no_more_than_is_counted_before() {
        for (classes, name_len) in [(3, 7), (211, 5), (2_003, 97)] {
            let names: Vec<String> = (0..classes).map(|class| format!("{class:0name_len$}")).collect();
            let images = 1_009;
            let mut confusion = ConfusionMatrix::new(&names);
            let answer = |i: usize| {
                let image = format!("test/{}/{i:032}.png", names[i % classes]);
                Prediction { image, label: i % classes, prediction: i * 7 % classes, probability: 0.123_456 }
            };
            let predictions: Vec<Prediction> = (0..images).map(answer).collect();
            predictions.iter().for_each(|one| confusion.add(one.label, one.prediction, 1));
            let kept: usize = predictions.iter().map(|one| size_of_val(one) + one.image.len()).sum();
            let json = serde_json::to_string(&confusion).unwrap().len();
            let written = predictions_csv(&predictions, &names).len() + confusion.csv().len() + confusion.text().len();
            let counted = Answers::bytes(images as u64, &names);
            let taken = (kept + json + written) as u64;
            assert!(taken <= counted && counted < 10 * taken, "{classes} classes: {taken} of {counted}");
        }
        // A whole matrix of counts would be 800 MB.
        let many: Vec<String> = (0..10_000).map(|class| class.to_string()).collect();
        assert!(Answers::bytes(10_000, &many) < 30_000_000);
    }
}
