//! Rotates, scales and shifts an image in one step, bilinearly, with black outside, as torchvision and Pillow do.
//!
//! Source: torchvision's `_get_inverse_affine_matrix` (no shear) and Pillow's `Geometry.c`: the source of
//! each output pixel is computed; it is black outside the image, repeats the edge within half a pixel, and is truncated to a byte.

/// Rotation about the image's center, scaling and shift.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warp {
    /// Clockwise, in radians.
    pub angle: f64,
    /// Factor of the size.
    pub scale: f64,
    /// To the right and down, in pixels.
    pub shift: [f64; 2],
}

/// The source of one pixel of a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Source {
    /// Indices in the plane of the upper left, upper right, lower left and lower right pixels.
    corners: [u32; 4],
    /// Offset from the first of them to the right and down, in fractions of a pixel; `None` is outside the image.
    parts: Option<[f64; 2]>,
}

/// Warps all channels of an image.
///
/// # Shapes
/// - `image`, `out`: `[channels, height, width]`
/// - `sources`: `[width]`, written
pub fn warp(image: &[u8], height: usize, width: usize, warp: Warp, sources: &mut [Source], out: &mut [u8]) {
    let (sine, cosine) = warp.angle.sin_cos();
    let (sine, cosine) = (sine / warp.scale, cosine / warp.scale);
    let (centre_x, centre_y) = (width as f64 * 0.5, height as f64 * 0.5);
    let area = height * width;
    for row in 0..height {
        let y = row as f64 + 0.5 - centre_y - warp.shift[1];
        for (column, source) in sources.iter_mut().enumerate() {
            let x = column as f64 + 0.5 - centre_x - warp.shift[0];
            *source = look_up(cosine * x + sine * y + centre_x, cosine * y - sine * x + centre_y, height, width);
        }
        for (plane, out) in image.chunks_exact(area).zip(out.chunks_exact_mut(area)) {
            for (pixel, source) in out[row * width..(row + 1) * width].iter_mut().zip(sources.iter()) {
                *pixel = source.parts.map_or(0, |[right, down]| {
                    let [a, b, c, d] = source.corners.map(|place| f64::from(plane[place as usize]));
                    let (upper, lower) = (a + (b - a) * right, c + (d - c) * right);
                    // Truncating to a 32-bit integer first is faster; every value fits in a byte.
                    (upper + (lower - upper) * down) as i32 as u8
                });
            }
        }
    }
}

fn look_up(x: f64, y: f64, height: usize, width: usize) -> Source {
    let inside = x >= 0.0 && x < width as f64 && y >= 0.0 && y < height as f64;
    if !inside {
        return Source::default();
    }
    let (left, right, part_x) = neighbors(x, width as u32);
    let (upper, lower, part_y) = neighbors(y, height as u32);
    let (upper, lower) = (upper * width as u32, lower * width as u32);
    Source { corners: [upper + left, upper + right, lower + left, lower + right], parts: Some([part_x, part_y]) }
}

/// Returns the pixels before and after a position on an axis, and the weight of the second.
fn neighbors(place: f64, size: u32) -> (u32, u32, f64) {
    let centred = place - 0.5;
    if centred < 0.0 {
        return (0, 0, 0.0);
    }
    let before = centred as i32;
    (before as u32, (before as u32 + 1).min(size - 1), centred - f64::from(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEIGHT: usize = 11;
    const WIDTH: usize = 13;

    /// Two channels, of which the second is the inverse of the first.
    fn image() -> Vec<u8> {
        let plane = (0..HEIGHT * WIDTH).map(|i| (i / WIDTH, i % WIDTH));
        let plane: Vec<u8> = plane.map(|(y, x)| (x * 37 + y * 59 + x * y * 11) as u8).collect();
        plane.iter().copied().chain(plane.iter().map(|x| 255 - x)).collect()
    }

    fn warped(degrees: f64, shift: [f64; 2], scale: f64) -> Vec<u8> {
        let image = image();
        let mut out = vec![99; image.len()];
        warp(
            &image,
            HEIGHT,
            WIDTH,
            Warp { angle: degrees.to_radians(), scale, shift },
            &mut [Source::default(); WIDTH],
            &mut out,
        );
        out
    }

    /// Made by torchvision 0.29 and Pillow 13: `affine(image, degrees, shift, scale, [0, 0], BILINEAR, fill=0)`.
    #[test]
    fn warped_pixels_equal_those_of_pillow() {
        let out = warped(17.0, [2.0, -1.0], 0.9);
        assert_eq!(out[..13], [0, 0, 0, 0, 147, 186, 158, 221, 122, 156, 50, 35, 0]);
        assert_eq!(out[65..78], [0, 0, 213, 64, 160, 218, 152, 147, 151, 95, 63, 138, 90]);
        assert_eq!(out[130..143], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 144, 50]);
        let out = warped(-40.0, [0.0, 3.0], 1.2);
        assert_eq!(out[..13], [0, 0, 0, 0, 0, 0, 124, 115, 104, 90, 0, 0, 0]);
        assert_eq!(out[65..78], [139, 163, 53, 134, 150, 95, 187, 152, 172, 134, 154, 156, 152]);
        assert_eq!(out[130..143], [218, 116, 170, 113, 139, 201, 138, 139, 122, 96, 134, 102, 167]);
        assert_eq!(out[..143].iter().map(|&x| u64::from(x)).sum::<u64>(), 15136);
    }

    #[test]
    fn every_channel_is_warped_alike() {
        let out = warped(17.0, [2.0, -1.0], 0.9);
        let (first, second) = out.split_at(HEIGHT * WIDTH);
        for (&a, &b) in first.iter().zip(second) {
            // Truncation subtracts up to one from each; black stays black in both.
            let sum = u32::from(a) + u32::from(b);
            assert!((a, b) == (0, 0) || sum == 255 || sum == 254, "{a} {b}");
        }
    }

    #[test]
    fn a_quarter_turn_is_the_turned_image() {
        const SIDE: usize = 7;
        let image: Vec<u8> = (0..SIDE * SIDE).map(|i| (i * 5) as u8).collect();
        let mut out = vec![0; image.len()];
        let quarter = Warp { angle: std::f64::consts::FRAC_PI_2, scale: 1.0, shift: [0.0; 2] };
        warp(&image, SIDE, SIDE, quarter, &mut [Source::default(); SIDE], &mut out);
        for row in 0..SIDE {
            for column in 0..SIDE {
                // Clockwise: the left side moves to the top. The cosine is not exactly 0, and bytes are truncated.
                let expected = image[(SIDE - 1 - column) * SIDE + row];
                assert!(expected - out[row * SIDE + column] <= 1, "({row}, {column})");
            }
        }
    }

    #[test]
    fn no_warp_is_the_image_and_a_shift_moves_it() {
        assert_eq!(warped(0.0, [0.0, 0.0], 1.0), image());
        let out = warped(0.0, [3.0, 2.0], 1.0);
        assert_eq!(out[2 * WIDTH + 3..3 * WIDTH], image()[..WIDTH - 3]);
        assert!(out[..2 * WIDTH].iter().all(|&x| x == 0));
    }
}
