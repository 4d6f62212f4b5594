//! Random changes to training images, and normalization: from the bytes in memory to a network's input.
//!
//! Each change is a function of a key (seed, epoch, place in the epoch) and works on bytes as torchvision's transforms
//! of Pillow images do; padding is black before normalization.

mod resize;
mod warp;

use crate::config::augment::{AugmentSpec, ResizedCrop};
use crate::random::Key;
use resize::{Rectangle, Tap, enlarge};
use warp::{Source, Warp, warp};

/// Attempts to find a rectangle that fits, as in torchvision.
const TRIES: u64 = 10;

/// Numbers of the draws of one key: they are fixed, so that enabling one change does not affect another.
#[derive(Clone, Copy)]
#[repr(u64)]
enum Change {
    Flip = 1,
    PaddedCrop = 2,
    ResizedCrop = 3,
    Affine = 4,
}

/// Random changes and normalization of images of one shape.
pub struct Augment {
    spec: AugmentSpec,
    height: usize,
    width: usize,
    /// For each channel, factor and summand for a byte.
    normalize: Vec<[f32; 2]>,
}

/// Buffers of one thread, made by [`Augment::scratch`].
pub struct Scratch {
    cropped: Vec<u8>,
    resized: Vec<u8>,
    warped: Vec<u8>,
    rows: Vec<u8>,
    taps: Vec<Tap>,
    sources: Vec<Source>,
}

impl Augment {
    /// Makes the changes for images of `channels`, `height` and `width`, with the mean and the standard deviation of
    /// each channel of pixels in 0..1.
    ///
    /// # Panics
    /// When the spec was not checked, or there is not one mean and one deviation for each channel.
    pub fn new(spec: AugmentSpec, channels: usize, height: usize, width: usize, mean: &[f32], std: &[f32]) -> Self {
        assert_eq!((mean.len(), std.len()), (channels, channels), "a mean and a deviation for each channel");
        let wrong = spec.check_ranges().and(spec.check_size(height, width)).err();
        assert!(wrong.is_none(), "unchecked augmentation: {wrong:?}");
        let normalize = mean.iter().zip(std).map(|(&mean, &std)| [1.0 / (255.0 * std), -mean / std]).collect();
        Augment { spec, height, width, normalize }
    }

    /// Makes the buffers of one thread.
    pub fn scratch(&self) -> Scratch {
        let area = self.height * self.width;
        let image = vec![0; area * self.normalize.len()];
        Scratch {
            cropped: image.clone(),
            resized: image.clone(),
            warped: image,
            rows: vec![0; area],
            taps: vec![Tap::default(); self.width],
            sources: vec![Source::default(); self.width],
        }
    }

    /// Writes an image changed at random by `key` and normalized.
    ///
    /// # Shapes
    /// - `pixels`, `out`: `[channels, height, width]`
    pub fn apply(&self, pixels: &[u8], key: Key, scratch: &mut Scratch, out: &mut [f32]) {
        let (height, width) = (self.height, self.width);
        let area = height * width;
        let Scratch { cropped, resized, warped, rows, taps, sources } = scratch;
        let mut image = pixels;
        let flip = self.draw_flip(key);
        let offset = self.draw_padded_crop(key);
        if flip || offset != [0, 0] {
            for (plane, cropped) in image.chunks_exact(area).zip(cropped.chunks_exact_mut(area)) {
                shift(plane, width, flip, offset, cropped);
            }
            image = cropped;
        }
        if let Some(crop) = self.spec.random_resized_crop {
            let rectangle = draw_resized_crop(crop, height, width, key);
            if (rectangle.height, rectangle.width) != (height, width) {
                for (plane, resized) in image.chunks_exact(area).zip(resized.chunks_exact_mut(area)) {
                    enlarge(plane, width, rectangle, rows, taps, resized);
                }
                image = resized;
            }
        }
        if let Some(affine) = self.draw_warp(key) {
            warp(image, height, width, affine, sources, warped);
            image = warped;
        }
        self.plain(image, out);
    }

    /// Writes an image normalized and otherwise unchanged: `(x / 255 - mean) / std`.
    ///
    /// # Shapes
    /// - `pixels`, `out`: `[channels, height, width]`
    pub fn plain(&self, pixels: &[u8], out: &mut [f32]) {
        let area = self.height * self.width;
        let count = area * self.normalize.len();
        assert_eq!((pixels.len(), out.len()), (count, count), "an image has {count} values");
        let planes = pixels.chunks_exact(area).zip(out.chunks_exact_mut(area));
        for ((plane, out), &[factor, summand]) in planes.zip(&self.normalize) {
            for (value, &pixel) in out.iter_mut().zip(plane) {
                *value = f32::from(pixel) * factor + summand;
            }
        }
    }

    fn draw_flip(&self, key: Key) -> bool {
        key.with(Change::Flip as u64).unit(0) < self.spec.horizontal_flip
    }

    /// Draws the offset of the crop from the image, in columns to the right and rows down.
    fn draw_padded_crop(&self, key: Key) -> [isize; 2] {
        let padding = self.spec.crop_padding;
        if padding == 0 {
            return [0, 0];
        }
        let key = key.with(Change::PaddedCrop as u64);
        [0, 1].map(|axis| key.below(axis, 2 * padding as u64 + 1) as isize - padding as isize)
    }

    fn draw_warp(&self, key: Key) -> Option<Warp> {
        let AugmentSpec { rotation_degrees, shift, scale, .. } = self.spec;
        if rotation_degrees == 0.0 && shift == 0.0 && scale == 0.0 {
            return None;
        }
        let key = key.with(Change::Affine as u64);
        let around = |counter: u64, max: f64| key.range(counter, -max, max);
        let drawn = Warp {
            angle: around(0, rotation_degrees).to_radians(),
            scale: 1.0 + around(1, scale),
            // Whole pixels, as in torchvision: a shift alone does not blur.
            shift: [
                around(2, shift * self.width as f64).round_ties_even(),
                around(3, shift * self.height as f64).round_ties_even(),
            ],
        };
        Some(drawn)
    }
}

/// Draws a rectangle as torchvision's `RandomResizedCrop.get_params` does.
fn draw_resized_crop(crop: ResizedCrop, height: usize, width: usize, key: Key) -> Rectangle {
    let key = key.with(Change::ResizedCrop as u64);
    let whole = (height * width) as f64;
    let ratios = crop.ratio.map(f64::ln);
    for attempt in 0..TRIES {
        let counter = 4 * attempt;
        let area = whole * key.range(counter, crop.scale[0], crop.scale[1]);
        let ratio = key.range(counter + 1, ratios[0], ratios[1]).exp();
        // Float casts saturate: an oversized rectangle stays oversized.
        let w = (area * ratio).sqrt().round_ties_even() as usize;
        let h = (area / ratio).sqrt().round_ties_even() as usize;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let top = key.below(counter + 2, (height - h + 1) as u64) as usize;
            let left = key.below(counter + 3, (width - w + 1) as u64) as usize;
            return Rectangle { top, left, height: h, width: w };
        }
    }
    // None fits: the largest centered rectangle with a valid ratio.
    let ratio = width as f64 / height as f64;
    let [min, max] = crop.ratio;
    let (h, w) = if ratio < min {
        ((width as f64 / min).round_ties_even().max(1.0) as usize, width)
    } else if ratio > max {
        (height, (height as f64 * max).round_ties_even().max(1.0) as usize)
    } else {
        (height, width)
    };
    Rectangle { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
}

/// Optionally mirrors a plane, then writes it shifted by `offset` columns and rows, black outside.
fn shift(plane: &[u8], width: usize, flip: bool, offset: [isize; 2], out: &mut [u8]) {
    let height = plane.len() / width;
    let lost = offset[0].unsigned_abs().min(width);
    let seen = width - lost;
    // First visible source column, and its position in the output.
    let (start, place) = if offset[0] >= 0 { (lost, 0) } else { (0, lost) };
    for (row, line) in out.chunks_exact_mut(width).enumerate() {
        line.fill(0);
        let Some(from) = row.checked_add_signed(offset[1]).filter(|&from| from < height) else {
            continue;
        };
        let source = &plane[from * width..(from + 1) * width];
        let line = &mut line[place..place + seen];
        if flip {
            let source = &source[width - start - seen..width - start];
            line.iter_mut().zip(source.iter().rev()).for_each(|(pixel, &from)| *pixel = from);
        } else {
            line.copy_from_slice(&source[start..start + seen]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNELS: usize = 3;
    const HEIGHT: usize = 11;
    const WIDTH: usize = 13;
    const AREA: usize = HEIGHT * WIDTH;

    /// No pixel is 0, so that black is recognizable.
    fn image() -> Vec<u8> {
        (0..CHANNELS * AREA).map(|i| (1 + i * 7 % 251) as u8).collect()
    }

    fn augment(spec: AugmentSpec) -> Augment {
        Augment::new(spec, CHANNELS, HEIGHT, WIDTH, &[0.0; CHANNELS], &[1.0; CHANNELS])
    }

    /// The bytes after the change that a number draws.
    fn changed(spec: &AugmentSpec, pixels: &[u8], number: u64) -> Vec<u8> {
        let augment = augment(spec.clone());
        let mut out = vec![f32::NAN; pixels.len()];
        augment.apply(pixels, Key::new(number), &mut augment.scratch(), &mut out);
        out.iter().map(|x| (x * 255.0).round() as u8).collect()
    }

    fn resized_crop(scale: [f64; 2], ratio: [f64; 2]) -> AugmentSpec {
        AugmentSpec { random_resized_crop: Some(ResizedCrop { scale, ratio }), ..AugmentSpec::default() }
    }

    fn everything() -> AugmentSpec {
        AugmentSpec {
            horizontal_flip: 0.5,
            crop_padding: 2,
            rotation_degrees: 15.0,
            shift: 0.1,
            scale: 0.1,
            ..resized_crop([0.5, 1.0], [0.75, 4.0 / 3.0])
        }
    }

    #[test]
    fn plain_equals_the_formula() {
        let (mean, std) = ([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]);
        let augment = Augment::new(everything(), CHANNELS, HEIGHT, WIDTH, &mean, &std);
        let mut out = vec![f32::NAN; CHANNELS * AREA];
        augment.plain(&image(), &mut out);
        for (i, (&value, &pixel)) in out.iter().zip(&image()).enumerate() {
            let channel = i / AREA;
            let expected = (f64::from(pixel) / 255.0 - f64::from(mean[channel])) / f64::from(std[channel]);
            // A few roundings of numbers up to 4.
            assert!((f64::from(value) - expected).abs() < 1e-6, "{i}: {value}, expected {expected}");
        }
    }

    #[test]
    fn no_augmentation_changes_nothing() {
        assert_eq!(changed(&AugmentSpec::default(), &image(), 1), image());
    }

    #[test]
    fn a_certain_flip_gives_the_mirror_and_a_second_one_the_image() {
        let spec = AugmentSpec { horizontal_flip: 1.0, ..AugmentSpec::default() };
        let mirror = changed(&spec, &image(), 1);
        for (line, mirrored) in image().chunks(WIDTH).zip(mirror.chunks(WIDTH)) {
            assert!(line.iter().eq(mirrored.iter().rev()));
        }
        assert_eq!(changed(&spec, &mirror, 2), image());
    }

    #[test]
    fn a_flip_of_probability_a_third_mirrors_a_third() {
        let spec = AugmentSpec { horizontal_flip: 1.0 / 3.0, ..AugmentSpec::default() };
        let mirrored = (0..3000).filter(|&number| changed(&spec, &image(), number) != image()).count();
        assert!((900..1100).contains(&mirrored), "{mirrored} of 3000");
    }

    #[test]
    fn a_padded_crop_shifts_by_every_offset_up_to_the_padding_and_keeps_values() {
        for flip in [0.0, 1.0] {
            let source = changed(&AugmentSpec { horizontal_flip: flip, ..AugmentSpec::default() }, &image(), 0);
            let shifted_by = |dx: isize, dy: isize| -> Vec<u8> {
                let place = |i: usize| (i / AREA, i / WIDTH % HEIGHT, i % WIDTH);
                let at = |(channel, row, column): (usize, usize, usize)| {
                    let row = row.checked_add_signed(dy).filter(|&row| row < HEIGHT)?;
                    let column = column.checked_add_signed(dx).filter(|&column| column < WIDTH)?;
                    Some(source[channel * AREA + row * WIDTH + column])
                };
                (0..CHANNELS * AREA).map(|i| at(place(i)).unwrap_or(0)).collect()
            };
            let spec = AugmentSpec { horizontal_flip: flip, crop_padding: 2, ..AugmentSpec::default() };
            let mut seen = std::collections::BTreeSet::new();
            for number in 0..300 {
                let out = changed(&spec, &image(), number);
                let offsets = (-2..=2).flat_map(|dx| (-2..=2).map(move |dy| (dx, dy)));
                let found = offsets.into_iter().find(|&(dx, dy)| shifted_by(dx, dy) == out);
                seen.insert(found.expect("the image shifted by at most the padding"));
            }
            assert_eq!(seen.len(), 25);
        }
    }

    #[test]
    fn a_resized_crop_of_everything_is_the_image() {
        const SIDE: usize = 17;
        let image: Vec<u8> = (0..SIDE * SIDE).map(|i| (i * 7 % 251) as u8).collect();
        let augment = Augment::new(resized_crop([1.0, 1.0], [1.0, 1.0]), 1, SIDE, SIDE, &[0.3], &[0.7]);
        let (mut out, mut plain) = (vec![0.0; SIDE * SIDE], vec![0.0; SIDE * SIDE]);
        augment.apply(&image, Key::new(5), &mut augment.scratch(), &mut out);
        augment.plain(&image, &mut plain);
        assert_eq!(out, plain);
    }

    #[test]
    fn rectangles_stay_within_the_ranges_and_cover_the_image() {
        let crop = ResizedCrop { scale: [0.25, 0.81], ratio: [0.8, 1.25] };
        let (mut areas, mut edges) = (Vec::new(), [false; 4]);
        for number in 0..2000 {
            let Rectangle { top, left, height, width } = draw_resized_crop(crop, 59, 61, Key::new(number));
            let (area, ratio) = ((height * width) as f64 / (59.0 * 61.0), width as f64 / height as f64);
            // Sides are rounded to whole pixels: half a pixel of about 30.
            assert!((0.24..0.83).contains(&area), "area {area}");
            assert!((0.77..1.30).contains(&ratio), "ratio {ratio}");
            areas.push(area);
            for (seen, now) in edges.iter_mut().zip([top == 0, left == 0, top + height == 59, left + width == 61]) {
                *seen |= now;
            }
        }
        let mean = areas.iter().sum::<f64>() / areas.len() as f64;
        assert!((mean - 0.53).abs() < 0.01, "uniform areas have mean 0.53, not {mean}");
        assert_eq!(edges, [true; 4]);
    }

    #[test]
    fn a_ratio_that_never_fits_falls_back_to_the_center() {
        let crop = |ratio| ResizedCrop { scale: [1.0, 1.0], ratio };
        // As in torchvision: whole width or height, the other side by the nearest ratio.
        let wide = draw_resized_crop(crop([2.0, 3.0]), 60, 60, Key::new(1));
        assert_eq!(wide, Rectangle { top: 15, left: 0, height: 30, width: 60 });
        let high = draw_resized_crop(crop([0.25, 0.5]), 60, 60, Key::new(1));
        assert_eq!(high, Rectangle { top: 0, left: 15, height: 60, width: 30 });
    }

    #[test]
    fn equal_keys_agree_and_different_keys_differ() {
        let spec = everything();
        assert_eq!(changed(&spec, &image(), 3), changed(&spec, &image(), 3));
        let mut all: Vec<Vec<u8>> = (0..50).map(|number| changed(&spec, &image(), number)).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 50);
    }

    #[test]
    fn used_scratch_changes_nothing() {
        let augment = augment(everything());
        let mut used = augment.scratch();
        let (mut first, mut second) = (vec![0.0; CHANNELS * AREA], vec![0.0; CHANNELS * AREA]);
        for number in 0..40 {
            augment.apply(&image(), Key::new(number), &mut used, &mut first);
            augment.apply(&image(), Key::new(number), &mut augment.scratch(), &mut second);
            assert_eq!(first, second, "{number}");
        }
    }

    #[test]
    fn a_constant_image_stays_constant_in_a_resized_crop_and_is_black_or_itself_in_a_warp() {
        let constant = vec![173; CHANNELS * AREA];
        let warp = AugmentSpec { random_resized_crop: None, crop_padding: 0, ..everything() };
        let mut black = 0;
        for number in 0..100 {
            assert_eq!(changed(&resized_crop([0.1, 1.0], [0.5, 2.0]), &constant, number), constant);
            for pixel in changed(&warp, &constant, number) {
                assert!(pixel == 173 || pixel == 0, "{pixel}");
                black += usize::from(pixel == 0);
            }
        }
        assert!(black > 0);
    }
}
