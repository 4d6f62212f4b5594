//! Images of a data set for the eye: as they are, as training steps get them, or as the tokens that a model reads.

use vitreous_engine::Memory;

use super::evaluation::{load_split, wanted_for};
use super::{Event, ExperimentError, Listener, inspect, square_facts};
use crate::config::CheckedConfig;
use crate::data::{Answer, Facts, ImageSet, Normalization, Split, SplitName, image_set};
use crate::numbers;
use crate::plot::Figure;
use crate::plot::pictures::{Grid, Labelled, Picture, WIDE_COLUMNS, WIDE_SIDE, grid};
use crate::plot::style::Style;
use crate::plot::tokens::{self, Cut};
use crate::plots::images::{picture, tokens_of};
use crate::random::{Purpose, stream};
use crate::text::last_part;
use crate::train::{Augmented, Job, Work, available_memory, check_decoding, check_memory, threads};

/// Most classes that have a row.
pub const CLASSES_MAX: usize = 50;

/// Draws of an image's augmentation.
const DRAWS: u64 = 5;

/// What is shown of each image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// The image.
    #[default]
    Plain,
    /// The image and its augmentation in several epochs.
    Augmented,
    /// The image and the tokens of it.
    Tokens,
}

/// Which images are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplesOptions {
    /// Of this split.
    pub split: SplitName,
    /// How many, or how many of each class.
    pub count: usize,
    /// Whether each class has a row.
    pub by_class: bool,
    /// What of them.
    pub view: View,
}

/// Images to be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// What they are.
    pub title: String,
    /// More about them.
    pub below: String,
    /// Images of the split.
    pub total: usize,
    /// Each image; those of a class follow each other where classes have rows.
    pub images: Vec<Sample>,
    /// Names of the rows, and how many images each row has; empty where classes have no rows.
    pub rows: Vec<(String, usize)>,
    /// Classes that have no row, because there are too many.
    pub left_out: usize,
    /// Tokens in a row of the drawing.
    pub across: usize,
    /// What is shown of each image.
    pub view: View,
}

/// An image to be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its name in the data set: `train/17`, or its file.
    pub image: String,
    /// Its class, or the digits on it.
    pub label: String,
    /// Its pixels.
    pub picture: Picture,
    /// Its augmentation in the first epochs, or its tokens.
    pub others: Vec<Picture>,
}

/// Chooses images at random, by the seed of the training, and prepares what is shown of them.
///
/// # Errors
/// When the data cannot be read, has no such split, or does not match the model where that is needed.
pub fn samples(
    checked: &CheckedConfig,
    options: SamplesOptions,
    listener: Listener,
) -> Result<Option<Samples>, ExperimentError> {
    let SamplesOptions { split, view, .. } = options;
    let mut facts = inspect(checked, listener)?;
    let spec = &checked.config().data;
    let (wanted, threads) = (wanted_for(split), threads(0));
    let (bytes, available) = (facts.image_bytes(wanted), available_memory(threads));
    check_decoding(bytes, facts.decoding_bytes(wanted, threads), available)?;
    check_memory(Work::ReadingImages, (Memory::default(), bytes), facts.is_folder(), available)?;
    let progress = |done, total| listener(Event::Reading { done, total });
    let (images, _) = load_split(spec, &mut facts, split, threads, &progress)?;
    let normalization = (view == View::Augmented).then(|| Normalization::new(spec, &images));
    let (task, seed) = (checked.config().model.kind().task(), checked.config().train.seed);
    let set = image_set(images, split, task, spec, seed);
    let (chosen, rows, left_out) = choose(&*set, &facts, seed, options);
    let of = |i: usize| {
        let index = set.index(0, i);
        let image = set.split().map_or_else(|| format!("{split}/{i}"), |split| Split::image_name(split, i));
        let label = set.answer(index).name(&facts.class_names);
        Sample { image, label, picture: picture(&*set, index), others: Vec::new() }
    };
    let mut samples: Vec<Sample> = chosen.iter().map(|&i| of(i)).collect();
    let mut across = 1;
    let mut about = String::new();
    match (view, normalization) {
        (View::Augmented, Some(normalization)) => {
            let config = checked.resolve(square_facts(&facts)?)?;
            let images = Job::images_of_epoch(&config, set.len()).0;
            let augmented = Augmented::new(&config, &*set, &normalization);
            // Strips are composed for one epoch each.
            let epochs = if set.split().is_some() { DRAWS } else { 1 };
            for epoch in 0..epochs {
                for (sample, pixels) in samples.iter_mut().zip(augmented.of_epoch(epoch, images, &chosen)) {
                    let shape = sample.picture.shape;
                    sample.others.extend(pixels.map(|pixels| Picture { pixels, shape }));
                }
            }
            about = ", and as training gets them in each epoch".to_string();
        }
        (View::Tokens, _) => {
            let config = checked.resolve(square_facts(&facts)?)?;
            for sample in &mut samples {
                let Some((tokens, columns, sentence)) = tokens_of(&sample.picture, &config.model) else {
                    return Ok(None);
                };
                (sample.others, across, about) = (tokens, columns, sentence);
            }
        }
        _ => {}
    }
    let shape = set.shape();
    let kind = match split {
        SplitName::Train | SplitName::All => "Training",
        SplitName::Validation => "Validation",
        SplitName::Test => "Test",
    };
    let [some, all] = [samples.len(), set.len()].map(|count| numbers::count(count as u64));
    let below = match view {
        View::Tokens => about,
        _ => format!("{some} of {all}, {} x {} pixels{about}", shape.height, shape.width),
    };
    let title = format!("{kind} images of {}", last_part(&facts.name));
    Ok(Some(Samples { title, below, total: set.len(), images: samples, rows, left_out, across, view }))
}

/// Places of the images, the rows, and the number of classes without one.
fn choose(
    set: &dyn ImageSet,
    facts: &Facts,
    seed: u64,
    options: SamplesOptions,
) -> (Vec<usize>, Vec<(String, usize)>, usize) {
    let order = stream(seed, Purpose::Samples).permutation(set.len());
    let mut order: Vec<usize> = order.into_iter().map(|i| i as usize).collect();
    let is_strip = set.split().is_none();
    if !options.by_class || is_strip {
        if options.view != View::Plain {
            // Few images are shown: of different classes, as far as there are.
            let mut seen = vec![0; facts.class_names.len()];
            order.sort_by_cached_key(|&i| match set.answer(i) {
                Answer::Class(class) => {
                    seen[class] += 1;
                    seen[class]
                }
                Answer::Digits(_) => 0,
            });
        }
        order.truncate(options.count);
        return (order, Vec::new(), 0);
    }
    let shown = facts.class_names.len().min(CLASSES_MAX);
    let mut classes = vec![Vec::new(); shown];
    for i in order {
        if let Answer::Class(class) = set.answer(i)
            && class < shown
            && classes[class].len() < options.count
        {
            classes[class].push(i);
        }
    }
    let rows = facts.class_names.iter().zip(&classes).map(|(name, images)| (name.clone(), images.len()));
    let rows = rows.filter(|(_, images)| *images > 0).collect();
    (classes.concat(), rows, facts.class_names.len() - shown)
}

impl Samples {
    /// Images in a row of a grid without classes.
    pub fn columns(&self) -> usize {
        let is_wide = self.images.first().is_some_and(|sample| sample.picture.is_wide());
        let square = (self.images.len() as f64).sqrt().ceil() as usize;
        square.clamp(1, if is_wide { WIDE_COLUMNS } else { 20 })
    }

    /// Draws them; none where there is no image.
    pub fn figure(&self, style: &'static Style) -> Option<Figure> {
        let labelled = |picture: &Picture, line: &str| {
            let lines = Some(line.to_string()).filter(|line| !line.is_empty()).into_iter().collect();
            Labelled { picture: picture.clone(), lines }
        };
        if self.view == View::Tokens {
            let cut = |sample: &Sample| Cut {
                image: sample.picture.clone(),
                name: sample.label.clone(),
                tokens: sample.others.clone(),
            };
            return tokens::patches(&self.images.iter().map(cut).collect::<Vec<_>>(), self.across, &self.below, style);
        }
        let is_wide = self.images.first()?.picture.is_wide();
        let (title, below) = (self.title.clone(), self.below.clone());
        let side = |small: bool| match (is_wide, small) {
            (true, _) => WIDE_SIDE,
            (false, true) => 64.0,
            (false, false) => 112.0,
        };
        let empty = || {
            let shape = self.images[0].picture.shape;
            Labelled { picture: Picture { pixels: Vec::new(), shape }, lines: Vec::new() }
        };
        if self.view == View::Augmented {
            let draws = self.images.iter().map(|sample| sample.others.len()).max().unwrap_or(0);
            let mut pictures = Vec::new();
            for sample in &self.images {
                pictures.push(labelled(&sample.picture, "image"));
                pictures.extend((1..).zip(&sample.others).map(|(n, draw)| labelled(draw, &format!("epoch {n}"))));
                pictures.extend((sample.others.len()..draws).map(|_| empty()));
            }
            let row_names = self.images.iter().map(|sample| sample.label.clone()).collect();
            let columns = draws + 1;
            return grid(
                &Grid { title, below, columns, side: if is_wide { WIDE_SIDE } else { 84.0 }, row_names, pictures },
                style,
            );
        }
        if self.rows.is_empty() {
            let pictures = self.images.iter().map(|sample| labelled(&sample.picture, &sample.label)).collect();
            let side = side(self.images.len() > 25);
            return grid(&Grid { title, below, columns: self.columns(), side, row_names: Vec::new(), pictures }, style);
        }
        let columns = self.rows.iter().map(|(_, images)| *images).max().unwrap_or(1);
        let (mut images, mut pictures) = (self.images.iter(), Vec::new());
        for (_, count) in &self.rows {
            pictures.extend(images.by_ref().take(*count).map(|sample| labelled(&sample.picture, "")));
            pictures.extend((*count..columns).map(|_| empty()));
        }
        let row_names = self.rows.iter().map(|(name, _)| name.clone()).collect();
        grid(&Grid { title, below, columns, side: side(true), row_names, pictures }, style)
    }
}
