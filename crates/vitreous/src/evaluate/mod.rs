//! What a trained model reaches on images it did not learn from.
//!
//! Images come without augmentation, in the order of the split, in batches of [`BATCH`]; the batch changes no result.

mod classes;
mod confusion;
mod csv;
mod scores;

use thiserror::Error;
use vitreous_engine::{Examples, Session};

pub use classes::ClassMap;
pub use confusion::{Confused, ConfusionMatrix, shortened};
pub use scores::{ClassScores, Scores, Tally, Verdict, top, wilson_interval};

use crate::data::Split;
use crate::data::augment::Augment;
use crate::models::Model;

/// Images that go through the model at a time.
pub const BATCH: usize = 512;

/// What a model says of one image of a split.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The image's name.
    pub image: String,
    /// The image's class, by the model's table.
    pub label: usize,
    /// The class the model gives it.
    pub prediction: usize,
    /// The probability the model gives that class.
    pub probability: f64,
}

/// Asks a model about every image of a split.
///
/// `augment` normalises; its random changes are not made. `progress` is called with the number of images done.
pub fn evaluate(
    session: &mut Session,
    model: &Model,
    split: &Split,
    augment: &Augment,
    classes: &ClassMap,
    names: &[String],
    progress: &mut dyn FnMut(usize),
) -> (Scores, Vec<Prediction>) {
    let mut tally = Tally::new(names.len());
    let mut predictions = Vec::with_capacity(split.len());
    for_each_logits(session, model, split, augment, &mut |i, logits| {
        let label = classes.of(split.label(i));
        let Verdict { class, probability } = tally.add(logits, label);
        predictions.push(Prediction { image: split.image_name(i), label, prediction: class, probability });
        if (i + 1) % BATCH == 0 || i + 1 == split.len() {
            progress(i + 1);
        }
    });
    (tally.finish(names), predictions)
}

/// Calls `each` with the place and the logits of every image of a split, in order.
pub fn for_each_logits(
    session: &mut Session,
    model: &Model,
    split: &Split,
    augment: &Augment,
    each: &mut dyn FnMut(usize, &[f32]),
) {
    let num_classes = session.graph().node(model.logits).shape.len();
    for first in (0..split.len()).step_by(BATCH) {
        let images = BATCH.min(split.len() - first);
        let outputs = session.infer(&[model.logits], images, &Plain { split, augment, first });
        for (i, logits) in outputs[0].chunks_exact(num_classes).enumerate() {
            each(first + i, logits);
        }
    }
}

/// Images of a split from the place `first` on, normalised and otherwise as they are.
struct Plain<'a> {
    split: &'a Split,
    augment: &'a Augment,
    first: usize,
}

impl Examples for Plain<'_> {
    fn fill(&self, input: usize, example: usize, values: &mut [f32]) {
        match input {
            0 => self.augment.plain(self.split.pixels(self.first + example), values),
            _ => values[0] = self.split.label(self.first + example) as f32,
        }
    }
}

/// Writes predictions as CSV: `image,label,prediction,probability`, classes by name.
pub fn predictions_csv(predictions: &[Prediction], names: &[String]) -> String {
    let mut text = csv::line(["image", "label", "prediction", "probability"]);
    for one in predictions {
        let probability = format!("{:.6}", one.probability);
        text.push_str(&csv::line([&one.image, &names[one.label], &names[one.prediction], &probability].map(|s| &**s)));
    }
    text
}

/// Says why a model cannot be evaluated on some images.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum EvaluateError {
    /// A class of the data is none of the model's.
    #[error("the model does not know the class `{class}` of the data")]
    UnknownClass { class: String, nearest: Option<String>, known: Vec<String> },
}

impl EvaluateError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        let EvaluateError::UnknownClass { nearest, known, .. } = self;
        Some(match nearest {
            Some(nearest) => format!("it knows `{nearest}`: give the folder that name"),
            None => format!("its classes are {}", known.join(", ")),
        })
    }
}
