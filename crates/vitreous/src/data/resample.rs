//! Scales images in integer arithmetic, so that a file gives the same bytes on every machine.
//! Source: Pillow's `Resample.c` with the bilinear (triangle) filter, which is wider when shrinking; the bytes
//! are equal.

use std::collections::VecDeque;

/// Fraction bits of a filter weight, as in Pillow.
const WEIGHT_BITS: u32 = 22;

/// The source pixels of one output pixel along one axis, with their weights.
struct Tap {
    /// First source pixel.
    start: usize,
    /// Weights of the source pixels, in units of 2^-22.
    weights: Vec<i32>,
}

impl Tap {
    /// Pixel `place` of `from` pixels scaled to `to`.
    fn new(place: usize, from: usize, to: usize) -> Tap {
        // Otherwise the neighboring pixel would be included, with weight 0.
        if from == to {
            return Tap { start: place, weights: vec![1 << WEIGHT_BITS] };
        }
        let scale = from as f64 / to as f64;
        let support = scale.max(1.0);
        let center = (place as f64 + 0.5) * scale;
        let start = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let share = |source: usize| (1.0 - ((source as f64 - center + 0.5) / support).abs()).max(0.0);
        let total: f64 = (start..end).map(share).sum();
        let weight = |source| (0.5 + share(source) / total * f64::from(1 << WEIGHT_BITS)) as i32;
        Tap { start, weights: (start..end).map(weight).collect() }
    }
}

/// Scales an image to `scaled` and crops `wanted` pixels at `offset`; all sizes are (width, height).
///
/// # Shapes
/// - `pixels`: `[height, width, channels]`, as in image files; the same order is returned.
///
/// # Panics
/// When a size is 0, the crop reaches outside, or `pixels` is not `size` pixels.
pub fn scale_and_cut(
    pixels: &[u8],
    channels: usize,
    size: (usize, usize),
    scaled: (usize, usize),
    offset: (usize, usize),
    wanted: (usize, usize),
) -> Vec<u8> {
    assert_eq!(pixels.len(), channels * size.0 * size.1);
    assert!(offset.0 + wanted.0 <= scaled.0 && offset.1 + wanted.1 <= scaled.1, "{offset:?} {wanted:?} {scaled:?}");
    let columns: Vec<Tap> = (offset.0..offset.0 + wanted.0).map(|x| Tap::new(x, size.0, scaled.0)).collect();
    let row_len = wanted.0 * channels;
    let mut out = Vec::with_capacity(row_len * wanted.1);
    // The first pass scales rows, and only those that the second pass reads; few are kept at a time.
    let mut narrow = vec![0; row_len];
    let mut pending: VecDeque<(Tap, Vec<i32>)> = VecDeque::new();
    let mut taps = (offset.1..offset.1 + wanted.1).map(|y| Tap::new(y, size.1, scaled.1)).peekable();
    let first = taps.peek().expect("at least one row is wanted").start;
    for (y, row) in pixels.chunks_exact(size.0 * channels).enumerate().skip(first) {
        while let Some(tap) = taps.next_if(|tap| tap.start <= y) {
            pending.push_back((tap, vec![1 << (WEIGHT_BITS - 1); row_len]));
        }
        if size.0 == scaled.0 {
            narrow.copy_from_slice(&row[offset.0 * channels..][..row_len]);
        } else {
            scale_row(row, channels, &columns, &mut narrow);
        }
        for (tap, sums) in &mut pending {
            let weight = tap.weights[y - tap.start];
            for (sum, &pixel) in sums.iter_mut().zip(&narrow) {
                *sum += i32::from(pixel) * weight;
            }
        }
        // Rows are completed in order.
        let ended = pending.iter().take_while(|(tap, _)| tap.start + tap.weights.len() == y + 1).count();
        out.extend(pending.drain(..ended).flat_map(|(_, sums)| sums).map(rounded));
        if out.len() == row_len * wanted.1 {
            break;
        }
    }
    out
}

/// Scales one row.
fn scale_row(row: &[u8], channels: usize, columns: &[Tap], out: &mut [u8]) {
    for (out, tap) in out.chunks_exact_mut(channels).zip(columns) {
        let sources = row[tap.start * channels..].chunks_exact(channels);
        for (channel, out) in out.iter_mut().enumerate() {
            *out = weighted(sources.clone().map(|source| source[channel]), &tap.weights);
        }
    }
}

fn weighted(sources: impl Iterator<Item = u8>, weights: &[i32]) -> u8 {
    rounded(sources.zip(weights).fold(1 << (WEIGHT_BITS - 1), |sum, (pixel, weight)| sum + i32::from(pixel) * weight))
}

fn rounded(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| ((i * i * 7 + i * 13 + (i >> 3) * 29) % 256) as u8).collect()
    }

    fn scaled(size: (usize, usize), to: (usize, usize)) -> Vec<u8> {
        scale_and_cut(&picture(3 * size.0 * size.1), 3, size, to, (0, 0), to)
    }

    #[test]
    fn scaling_gives_the_bytes_of_pillow() {
        // Pillow 13.0: Image.frombytes("RGB", size, image).resize(to, Image.BILINEAR); the sum weighs by place.
        let place_sum = |bytes: &[u8]| bytes.iter().enumerate().map(|(i, &b)| (i + 1) * usize::from(b)).sum::<usize>();
        let smaller = scaled((23, 17), (7, 5));
        assert_eq!(smaller[..12], [131, 117, 131, 124, 85, 152, 99, 110, 125, 108, 136, 137]);
        assert_eq!(place_sum(&smaller), 723_302);
        let larger = scaled((5, 3), (11, 13));
        assert_eq!(larger[..12], [0, 20, 54, 19, 46, 88, 65, 112, 172, 99, 165, 224]);
        assert_eq!(place_sum(&larger), 11_794_671);
        assert_eq!(place_sum(&scaled((13, 11), (13, 7))), 4_933_738);
    }

    #[test]
    fn a_cut_out_is_that_part_of_the_whole_scaled_picture() {
        let (size, to, offset, wanted) = ((31, 29), (13, 11), (3, 2), (7, 5));
        let whole = scaled(size, to);
        let cut = scale_and_cut(&picture(3 * size.0 * size.1), 3, size, to, offset, wanted);
        for y in 0..wanted.1 {
            let row = &whole[3 * ((y + offset.1) * to.0 + offset.0)..][..3 * wanted.0];
            assert_eq!(&cut[3 * y * wanted.0..][..3 * wanted.0], row);
        }
    }

    #[test]
    fn every_pair_of_sizes_gives_as_many_pixels_as_wanted() {
        for size in [(1, 31), (31, 1), (7, 8), (8, 7), (7, 7), (13, 7), (7, 13), (29, 31)] {
            for to in [(7, 7), (7, 9), (9, 7), (13, 11)] {
                let offset = (to.0 - 7, to.1 - 7);
                let cut = scale_and_cut(&vec![99; 3 * size.0 * size.1], 3, size, to, offset, (7, 7));
                assert_eq!(cut, [99; 3 * 7 * 7], "{size:?} to {to:?}");
            }
        }
    }

    #[test]
    fn a_cut_out_of_an_unscaled_picture_is_that_part_of_it() {
        let (size, offset, wanted) = ((7, 13), (0, 3), (7, 5));
        let cut = scale_and_cut(&picture(3 * 7 * 13), 3, size, size, offset, wanted);
        assert_eq!(cut, picture(3 * 7 * 13)[3 * 7 * 3..][..3 * 7 * 5]);
    }

    #[test]
    fn the_same_size_changes_nothing() {
        assert_eq!(scaled((7, 5), (7, 5)), picture(3 * 7 * 5));
    }
}
