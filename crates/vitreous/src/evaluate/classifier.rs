//! A trained model, loaded from one weights file with all that is needed to use it.

use std::path::Path;

use vitreous_engine::{Examples, Graph, Inference, Memory, Parameters, Session, inference_memory};

use super::reading::{Reader, Reading, ReadingTally};
use super::{Answers, ClassMap, EvaluateError, Prediction, Reached, Tally, Verdict};
use crate::checkpoint::{Metadata, SavedWeights};
use crate::config::ResolvedConfig;
use crate::config::layers::Layers;
use crate::config::model::{ImageFacts, ModelConfig, Task};
use crate::data::augment::Augment;
use crate::data::{Answer, ImageSet, ImageShape, PixelRanges, Split, is_of_images};
use crate::models::{self, Model};

/// Images that go through the model at a time; the number changes no result.
pub const BATCH: usize = 512;

/// A trained model, ready for inference.
pub struct Classifier {
    config: ResolvedConfig,
    metadata: Metadata,
    model: Model,
    session: Session,
    /// Normalizes; makes no random changes.
    augment: Augment,
    training_pixels: Option<PixelRanges>,
}

impl Classifier {
    /// Reads a weights file and makes the model that it describes, to run on so many threads.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged or has an inconsistent header.
    pub fn from_file(path: &Path, threads: usize) -> Result<Self, EvaluateError> {
        let saved = SavedWeights::read(path)?;
        Classifier::new(path, saved.metadata().clone(), threads, |graph| Ok(saved.parameters(graph)?))
    }

    /// Makes the model that the metadata of a weights file describes, with parameters from elsewhere; `path` is what errors
    /// call the file.
    ///
    /// # Errors
    /// When the metadata is inconsistent, or there are no parameters.
    pub fn new(
        path: &Path,
        metadata: Metadata,
        threads: usize,
        parameters: impl FnOnce(&Graph) -> Result<Parameters, EvaluateError>,
    ) -> Result<Self, EvaluateError> {
        let config = resolve(path, &metadata)?;
        let contradiction = |reason: String| EvaluateError::Contradiction { path: path.to_path_buf(), reason };
        let model = models::build(&config.model, 0.0).map_err(|error| contradiction(error.to_string()))?;
        let (classes, named) = (config.model.num_classes(), metadata.class_names.len());
        if classes != named {
            return Err(contradiction(format!("{named} class names for {classes} classes")));
        }
        let shape = shape_of(&model);
        let (mean, std) = (&metadata.normalization.mean, &metadata.normalization.std);
        if [mean.len(), std.len()] != [shape.channels; 2] {
            let (means, stds, channels) = (mean.len(), std.len(), shape.channels);
            return Err(contradiction(format!("{means} means and {stds} deviations for {channels} channels")));
        }
        if !is_of_images(shape.channels) {
            return Err(contradiction(format!("images have 1 or 3 channels, not {}", shape.channels)));
        }
        if let Some(value) = metadata.normalization.invalid() {
            return Err(contradiction(format!("images cannot be normalized by {value}")));
        }
        let parameters = parameters(&model.graph)?;
        let augment = Augment::new(Default::default(), shape.channels, shape.height, shape.width, mean, std);
        let session = Session::new(model.graph.clone(), parameters, threads).expect("a model with its own parameters");
        Ok(Classifier { config, metadata, model, session, augment, training_pixels: None })
    }

    /// The config the model was trained with.
    pub fn config(&self) -> &ResolvedConfig {
        &self.config
    }

    /// The model's graph.
    pub fn graph(&self) -> &Graph {
        self.session.graph()
    }

    /// The model's parameters.
    pub fn parameters(&self) -> &Parameters {
        self.session.parameters()
    }

    /// The header of the weights file.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Names of the classes, by number.
    pub fn class_names(&self) -> &[String] {
        &self.metadata.class_names
    }

    /// Shape of the model's input images.
    pub fn shape(&self) -> ImageShape {
        shape_of(&self.model)
    }

    /// Threads that compute.
    pub fn threads(&self) -> usize {
        self.session.threads()
    }

    /// The pixels of the training images, where they are known: a weights file does not record them.
    pub fn training_pixels(&self) -> Option<&PixelRanges> {
        self.training_pixels.as_ref()
    }

    /// Sets the pixels of the training images, so that predictions of unusual images have warnings.
    pub fn set_training_pixels(&mut self, pixels: Option<PixelRanges>) {
        self.training_pixels = pixels;
    }

    /// The memory needed for inference on this many images at a time.
    pub fn memory(&self, images: usize) -> Memory {
        inference_memory(&self.model.graph, &[self.model.logits], images, self.session.threads())
    }

    /// Checks that the model can be used with a split's images.
    ///
    /// # Errors
    /// When they have another shape than those the model was made for.
    pub fn check(&self, split: &Split) -> Result<(), EvaluateError> {
        let ImageFacts { image_size, channels, .. } = self.config.model.facts();
        let expected = ImageShape { channels, height: image_size, width: image_size };
        let found = split.shape();
        if found == expected { Ok(()) } else { Err(EvaluateError::ImageShape { found, expected }) }
    }

    /// What the model was trained to do.
    pub fn task(&self) -> Task {
        self.config.model.task()
    }

    /// Evaluates the model on every image of a set. `beam` is a reader's beam width; 1 is greedy decoding. `progress` is
    /// called with the number of images done.
    ///
    /// # Errors
    /// When the images do not have the shape that the model was trained for.
    ///
    /// # Panics
    /// When the set is for another task.
    pub fn evaluate(
        &mut self,
        set: &dyn ImageSet,
        classes: &ClassMap,
        beam: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(Reached, Answers), EvaluateError> {
        set.split().map_or(Ok(()), |split| self.check(split))?;
        Ok(match self.task() {
            Task::Classify => self.classify(set, classes, progress),
            Task::ReadStrips => self.read(set, beam, progress),
        })
    }

    fn classify(
        &mut self,
        set: &dyn ImageSet,
        classes: &ClassMap,
        progress: &mut dyn FnMut(usize),
    ) -> (Reached, Answers) {
        let split = set.split().expect("a classifier's images are those of the split");
        let mut tally = Tally::new(&self.metadata.class_names);
        let mut predictions = Vec::with_capacity(set.len());
        for_each_logits(&mut self.session.inference(), &self.model, set, &self.augment, &mut |i, logits| {
            let label = classes.of(split.label(i));
            let Verdict { class, probability } = tally.add(logits, label);
            predictions.push(Prediction { image: split.image_name(i), label, prediction: class, probability });
            if (i + 1) % BATCH == 0 || i + 1 == split.len() {
                progress(i + 1);
            }
        });
        (Reached::Classes(tally.finish()), Answers::Classes(predictions))
    }

    fn read(&mut self, set: &dyn ImageSet, beam: usize, progress: &mut dyn FnMut(usize)) -> (Reached, Answers) {
        let mut reader = self.reader();
        let mut tally = ReadingTally::default();
        let (mut truths, mut readings) = (Vec::with_capacity(set.len()), Vec::with_capacity(set.len()));
        // As many partial readings per batch as a classifier has images.
        let batch = (BATCH / beam).max(1);
        for first in (0..set.len()).step_by(batch) {
            let images = batch.min(set.len() - first);
            let examples = Plain { set, augment: &self.augment, first };
            let (read, logits) = reader.read(&mut self.session, images, &examples, beam);
            let each = logits.chunks_exact(logits.len() / images);
            for (i, (reading, logits)) in (first..).zip(read.into_iter().zip(each)) {
                let Answer::Digits(truth) = set.answer(i) else { unreachable!("strips have digits") };
                tally.add(&truth, &reading, logits);
                truths.push(truth);
                readings.push(reading);
            }
            progress(first + images);
        }
        (Reached::Reading(tally.finish(beam)), Answers::Readings { truths, readings })
    }

    /// Reads images of strips, at least one, with this beam width.
    ///
    /// # Shapes
    /// - `images`, each: `[1, height, width]`
    ///
    /// # Panics
    /// When the model is not a reader.
    pub fn read_images(&mut self, images: &[&[u8]], beam: usize) -> Vec<Reading> {
        self.check_images(images);
        let alone = Alone { images, augment: &self.augment };
        let mut reader = self.reader();
        reader.read(&mut self.session, images.len(), &alone, beam).0
    }

    fn reader(&self) -> Reader {
        let ModelConfig::Reader(config) = &self.config.model else { panic!("the model is not a reader") };
        Reader::new(config, &self.model, &self.session)
    }

    fn check_images(&self, images: &[&[u8]]) {
        let len = self.shape().len();
        assert!(images.iter().all(|pixels| pixels.len() == len), "images of the model's shape");
    }

    /// Computes the logits of at least one image.
    ///
    /// # Shapes
    /// - `images`, each: `[channels, height, width]`
    /// - returned, for each: `[num_classes]`
    pub fn logits(&mut self, images: &[&[u8]]) -> Vec<Vec<f32>> {
        self.check_images(images);
        let alone = Alone { images, augment: &self.augment };
        let outputs = self.session.infer(&[self.model.logits], images.len(), &alone);
        outputs[0].chunks_exact(self.metadata.class_names.len()).map(<[f32]>::to_vec).collect()
    }
}

/// Calls `each` with the place and the logits of every image of a set, in order; of a strip, those after the right words.
///
/// `augment` normalizes; its random changes are not made.
pub fn for_each_logits(
    session: &mut Inference<'_>,
    model: &Model,
    set: &dyn ImageSet,
    augment: &Augment,
    each: &mut dyn FnMut(usize, &[f32]),
) {
    let len = session.graph().node(model.logits).shape.len();
    for first in (0..set.len()).step_by(BATCH) {
        let images = BATCH.min(set.len() - first);
        let outputs = session.infer(&[model.logits], images, &Plain { set, augment, first });
        for (i, logits) in (first..).zip(outputs[0].chunks_exact(len)) {
            each(i, logits);
        }
    }
}

/// Images of a set from the place `first` on.
struct Plain<'a> {
    set: &'a dyn ImageSet,
    augment: &'a Augment,
    first: usize,
}

impl Examples for Plain<'_> {
    fn fill(&self, input: usize, example: usize, values: &mut [f32]) {
        match input {
            0 => self.augment.plain(self.set.pixels(self.first + example, &mut Vec::new()), values),
            _ => self.set.label(input, self.first + example, values),
        }
    }
}

/// Images of which no class is known.
struct Alone<'a> {
    images: &'a [&'a [u8]],
    augment: &'a Augment,
}

impl Examples for Alone<'_> {
    fn fill(&self, input: usize, example: usize, values: &mut [f32]) {
        match input {
            0 => self.augment.plain(self.images[example], values),
            // Neither predicted classes nor readings depend on the labels.
            _ => values.fill(0.0),
        }
    }
}

/// Makes the config that a weights file holds, and with it all sizes of its model.
fn resolve(path: &Path, metadata: &Metadata) -> Result<ResolvedConfig, EvaluateError> {
    let mut layers = Layers::new();
    layers.add_toml(&metadata.config, &path.display().to_string())?;
    let checked = layers.finish()?;
    let model = &checked.config().model;
    let missing = || EvaluateError::Contradiction {
        path: path.to_path_buf(),
        reason: "the config has no image size".to_string(),
    };
    let facts = ImageFacts {
        image_size: model.image_size().ok_or_else(missing)?,
        channels: model.channels().ok_or_else(missing)?,
        num_classes: model.num_classes().ok_or_else(missing)?,
    };
    Ok(checked.resolve(facts)?)
}

fn shape_of(model: &Model) -> ImageShape {
    match model.graph.node(model.image).shape.0[..] {
        [channels, height, width] => ImageShape { channels, height, width },
        _ => unreachable!("an image has channels, height and width"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::TensorFile;
    use crate::config::Config;
    use crate::config::model::{ModelSpec, VitSpec};
    use crate::data::Normalization;
    use crate::random::{Purpose, stream};
    use std::sync::Arc;

    fn spec() -> VitSpec {
        let sizes = VitSpec { patch_size: 5, embed_dim: 14, depth: 1, num_heads: 2, ..VitSpec::default() };
        VitSpec { image_size: Some(15), channels: Some(1), num_classes: Some(3), ..sizes }
    }

    fn metadata() -> Metadata {
        Metadata {
            class_names: ["cat", "dog", "emu"].map(str::to_string).to_vec(),
            normalization: Normalization { mean: vec![0.3], std: vec![0.7] },
            config: Config { model: ModelSpec::Vit(spec()), ..Config::default() }.to_toml(),
            epoch: 2,
            step: 7,
        }
    }

    /// Saves weights with a header and loads them again.
    fn loaded(metadata: &Metadata) -> Result<Classifier, EvaluateError> {
        let facts = ImageFacts { image_size: 15, channels: 1, num_classes: 3 };
        let model = models::build(&ModelSpec::Vit(spec()).with_facts(facts).unwrap(), 0.0).unwrap();
        let parameters = Parameters::initialize(&model.graph, stream(5, Purpose::Initialize));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        TensorFile::weights(&model.graph, &Arc::new(parameters), metadata).save(&path).unwrap();
        Classifier::from_file(&path, 2)
    }

    /// The error's text without the place.
    fn refused(metadata: &Metadata) -> String {
        let text = loaded(metadata).err().expect("the header lies").to_string();
        text.rsplit_once(" (").expect("a place").0.to_string()
    }

    #[test]
    fn a_file_of_weights_is_enough() {
        let mut classifier = loaded(&metadata()).unwrap();
        assert_eq!(classifier.shape(), ImageShape { channels: 1, height: 15, width: 15 });
        assert_eq!(classifier.class_names(), ["cat", "dog", "emu"]);
        let (dark, bright) = ([3; 225], [251; 225]);
        let logits = classifier.logits(&[&dark, &bright, &dark]);
        assert!(logits.len() == 3 && logits[0].len() == 3 && logits[0] != logits[1], "{logits:?}");
        assert_eq!(logits[2], logits[0]);
        assert_eq!(classifier.logits(&[&bright]), logits[1..2]);
    }

    #[test]
    fn a_header_that_contradicts_itself_is_refused() {
        let lie = "the header of the weights contradicts itself: ";
        let names = Metadata { class_names: vec!["cat".to_string()], ..metadata() };
        assert_eq!(refused(&names), format!("{lie}1 class names for 3 classes"));
        let normalized = |mean: &[f32], std: &[f32]| Metadata {
            normalization: Normalization { mean: mean.to_vec(), std: std.to_vec() },
            ..metadata()
        };
        let gray = refused(&normalized(&[0.1; 3], &[0.7]));
        assert_eq!(gray, format!("{lie}3 means and 1 deviations for 1 channels"));
        assert_eq!(refused(&normalized(&[0.1], &[0.0])), format!("{lie}images cannot be normalized by 0"));
        let model = ModelSpec::Vit(VitSpec { image_size: None, ..spec() });
        let config = Config { model, ..Config::default() }.to_toml();
        let unsaid = format!("{lie}the config has no image size");
        assert_eq!(refused(&Metadata { config, ..metadata() }), unsaid);
        let model = ModelSpec::Vit(VitSpec { channels: Some(4), ..spec() });
        let config = Config { model, ..Config::default() }.to_toml();
        let normalization = Normalization { mean: vec![0.1; 4], std: vec![0.7; 4] };
        let found = refused(&Metadata { config, normalization, ..metadata() });
        assert_eq!(found, format!("{lie}images have 1 or 3 channels, not 4"));
    }

    #[test]
    fn a_config_of_a_later_version_names_the_file() {
        let config = "[model]\nembed_dims = 3\n".to_string();
        let text = loaded(&Metadata { config, ..metadata() }).err().unwrap().to_string();
        assert!(text.starts_with("unknown key `embed_dims` (") && text.contains("a.safetensors, [model]"), "{text}");
    }
}
