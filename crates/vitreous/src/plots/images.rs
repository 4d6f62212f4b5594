//! Images of a data set as pictures of a plot, and what a model reads of them.

use crate::config::data::DataSpec;
use crate::config::model::{ModelConfig, Patching};
use crate::data::{ImageSet, first_of_each_class};
use crate::numbers;
use crate::plot::pictures::{Grid, Labelled, Picture, WIDE_COLUMNS, WIDE_SIDE};
use crate::plot::tokens::Cut;
use crate::text::short_name;

/// Pictures of a grid of samples.
const SAMPLES: usize = 24;

/// Images whose patches are shown.
const CUTS: usize = 4;

/// The picture of an image.
pub fn picture(set: &dyn ImageSet, index: usize) -> Picture {
    let shape = set.shape();
    let pixels = set.pixels(index, &mut Vec::new()).to_vec();
    Picture { pixels, shape: [shape.channels, shape.height, shape.width] }
}

/// A grid of training images with their classes.
pub fn samples(set: &dyn ImageSet, data: &DataSpec, class_names: &[String]) -> Grid {
    let chosen = first_of_each_class(set, class_names.len(), SAMPLES);
    let shape = set.shape();
    let labelled =
        |index: usize| Labelled { picture: picture(set, index), lines: vec![set.answer(index).name(class_names)] };
    let pictures: Vec<Labelled> = chosen.into_iter().map(labelled).collect();
    // Full rows, if possible.
    let full = [6, 5, 8, 7, 4].into_iter().find(|columns| pictures.len().is_multiple_of(*columns));
    let (columns, side) = match pictures.first() {
        Some(first) if first.picture.is_wide() => (WIDE_COLUMNS, WIDE_SIDE),
        _ => (full.unwrap_or(6), 84.0),
    };
    Grid {
        title: format!("Training images of {}", short_name(&data.name)),
        below: format!(
            "{} of {}, {} x {} pixels, without augmentation",
            pictures.len(),
            numbers::count(set.len() as u64),
            shape.height,
            shape.width
        ),
        columns,
        side,
        row_names: Vec::new(),
        pictures,
    }
}

/// Some images with their tokens, how many tokens are in a row, and a sentence about them.
pub type Patches = (Vec<Cut>, usize, String);

/// Some images, and the tokens that a model with patches makes of them.
pub fn patches(set: &dyn ImageSet, model: &ModelConfig, class_names: &[String]) -> Option<Patches> {
    let (mut cuts, mut how) = (Vec::new(), None);
    for index in first_of_each_class(set, class_names.len(), CUTS) {
        let image = picture(set, index);
        // Strips are below each other.
        if image.is_wide() && cuts.len() == WIDE_COLUMNS {
            break;
        }
        let (tokens, across, below) = tokens_of(&image, model)?;
        cuts.push(Cut { name: set.answer(index).name(class_names), tokens, image });
        how = Some((across, below));
    }
    how.map(|(across, below)| (cuts, across, below))
}

/// The tokens that a model with patches makes of an image, how many are in a row, and a sentence about them.
pub fn tokens_of(image: &Picture, model: &ModelConfig) -> Option<(Vec<Picture>, usize, String)> {
    let (patch, is_flat) = match model {
        ModelConfig::Vit(vit) => (vit.spec().patch_size, vit.spec().patching == Patching::Flat),
        ModelConfig::SequenceVit(vit) => (vit.spec().patch_size, false),
        ModelConfig::Reader(reader) => (reader.spec().patch_size, false),
        ModelConfig::Stack(_) | ModelConfig::Convnet(_) => return None,
    };
    let [channels, height, width] = image.shape;
    let (rows, columns) = (height / patch, width / patch);
    let tokens = (0..rows * columns).map(|token| match is_flat {
        true => flat_token(image, token, patch),
        false => square_token(image, [token / columns, token % columns], patch),
    });
    let (below, across) = match is_flat {
        true => (flat_sentence(channels * patch * patch), (width / patch / 4).max(1)),
        false => (format!("patches of {patch} x {patch} pixels, {rows} rows of {columns}"), columns),
    };
    Some((tokens.collect(), across, below))
}

fn flat_sentence(bytes: usize) -> String {
    format!(
        "each token holds {bytes} values in the order of the file: pieces of rows of one color channel, not squares"
    )
}

/// The pixels of a square patch.
fn square_token(image: &Picture, [row, column]: [usize; 2], patch: usize) -> Picture {
    let [channels, height, width] = image.shape;
    let pixels = (0..channels * patch * patch).map(|i| {
        let (channel, y, x) = (i / (patch * patch), i / patch % patch, i % patch);
        image.pixels[(channel * height + row * patch + y) * width + column * patch + x]
    });
    Picture { pixels: pixels.collect(), shape: [channels, patch, patch] }
}

/// The values of a token of patching "flat": so many that follow each other in the image, red ones in red, and so on.
fn flat_token(image: &Picture, token: usize, patch: usize) -> Picture {
    let [channels, height, width] = image.shape;
    let values = channels * patch * patch;
    let first = token * values;
    let held = &image.pixels[first..first + values];
    if channels != 3 {
        return Picture { pixels: held.to_vec(), shape: [1, 1, values] };
    }
    let of_channel = |channel: usize| {
        let is_own = move |i: usize| (first + i) / (height * width) == channel;
        held.iter().enumerate().map(move |(i, &value)| if is_own(i) { value } else { 0 })
    };
    Picture { pixels: (0..3).flat_map(of_channel).collect(), shape: [3, 1, values] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_hold_what_the_model_reads() {
        // Two channels of four rows of four.
        let image = Picture { pixels: (0..32).collect(), shape: [2, 4, 4] };
        assert_eq!(square_token(&image, [1, 0], 2).pixels, [8, 9, 12, 13, 24, 25, 28, 29]);
        assert_eq!(flat_token(&image, 1, 2).pixels, [8, 9, 10, 11, 12, 13, 14, 15]);
        // Three channels of two rows of two: the first token has the red values, the second green ones.
        let colored = Picture { pixels: (1..=12).collect(), shape: [3, 2, 2] };
        assert_eq!(flat_token(&colored, 1, 1).pixels, [4, 0, 0, 0, 5, 6, 0, 0, 0]);
    }
}
