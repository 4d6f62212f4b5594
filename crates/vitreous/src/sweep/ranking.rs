//! Which accuracy settings are compared by, and which setting the validation split chooses.

use crate::compare::{Measure, RunFacts, Spread, TrainAccuracy};

/// The runs of one setting.
#[derive(Clone, Debug)]
pub struct Setting {
    /// What it is called.
    pub name: String,
    /// Why it was tried.
    pub why: Option<String>,
    /// Its runs that came to their end, one for each seed.
    pub runs: Vec<RunFacts>,
}

/// The accuracy that settings are compared by.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Figure {
    Ranked(Measure),
    Train,
}

impl Figure {
    /// The first that every setting has. Settings are ranked by the validation split; what a published table reports of the
    /// test split is only shown.
    pub fn of(settings: &[Setting], reproduces: bool) -> Option<Figure> {
        let all = |figure: &Figure| settings.iter().all(|setting| figure.spread(setting).is_some());
        let test = reproduces.then_some(Figure::Ranked(Measure::Test));
        [Some(Figure::Ranked(Measure::Validation)), test, Some(Figure::Train)].into_iter().flatten().find(all)
    }

    pub fn name(self) -> String {
        match self {
            Figure::Ranked(measure) => measure.to_string(),
            Figure::Train => "train accuracy".to_string(),
        }
    }

    pub fn spread(self, setting: &Setting) -> Option<Spread> {
        let value = |run: &RunFacts| match self {
            Figure::Ranked(Measure::Validation) => run.validation.map(|validation| validation.value),
            Figure::Ranked(Measure::Test) => run.test.map(|test| test.value),
            Figure::Train => run.train.map(TrainAccuracy::value),
        };
        Spread::of(&setting.runs.iter().filter_map(value).collect::<Vec<_>>())
    }

    /// Whether accuracies of two settings can be held against each other.
    pub fn is_on_the_same_images(self, base: &Setting, setting: &Setting) -> bool {
        let measure = match self {
            Figure::Ranked(measure) => measure,
            Figure::Train => Measure::Test,
        };
        let (one, other) = (&base.runs[0], &setting.runs[0]);
        let of_data = |run: &RunFacts| -> Vec<(String, toml::Value)> {
            let own = run.settings.iter().filter(|(key, _)| key.starts_with("data.") && *key != "data.dir");
            own.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        // The same settings of the data, and yet other images: a folder has changed between the runs.
        let has_changed = of_data(one) == of_data(other) && one.fingerprint != other.fingerprint;
        measure.images(&one.settings) == measure.images(&other.settings) && !has_changed
    }
}

/// Settings with their accuracies, those on the same validation images as the first, the best in front.
pub(super) fn ranked(done: &[&Setting]) -> Vec<(usize, Spread)> {
    let figure = Figure::Ranked(Measure::Validation);
    let is_ranked = |setting: &Setting| figure.is_on_the_same_images(done[0], setting);
    let all = done.iter().enumerate().filter(|(_, setting)| is_ranked(setting));
    let mut ranked: Vec<(usize, Spread)> = all.filter_map(|(at, one)| Some((at, figure.spread(one)?))).collect();
    ranked.sort_by(|(_, a), (_, b)| b.mean.total_cmp(&a.mean));
    ranked
}

/// The place of the setting that the validation split chooses, of those on the same images as the first; of equal ones the
/// first.
pub fn winner(settings: &[Setting]) -> Option<usize> {
    let (places, done): (Vec<usize>, Vec<&Setting>) =
        settings.iter().enumerate().filter(|(_, setting)| !setting.runs.is_empty()).unzip();
    ranked(&done).first().map(|(at, _)| places[*at])
}
