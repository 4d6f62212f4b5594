//! A small gray image, on which line segments with round ends and soft edges are drawn.
//!
//! A pixel's coverage follows from the distance of its center to the segment and falls to 0 over one pixel around the pen's
//! radius: accurate enough for a classifier. Only pixels in the segment's bounding box are computed.

/// Height and width of the image, in pixels.
pub const SIDE: usize = 28;

/// Coverage of each pixel by ink, 0 to 1, row by row.
pub struct Canvas([f32; SIDE * SIDE]);

impl Canvas {
    /// Makes an empty image.
    pub fn new() -> Self {
        Canvas([0.0; SIDE * SIDE])
    }

    /// Returns the coverage of each pixel, row by row.
    pub fn coverage(&self) -> &[f32; SIDE * SIDE] {
        &self.0
    }

    /// Draws a segment with a pen of a radius in pixels; `ink` is the coverage that it gives, 0 to 1.
    pub fn segment(&mut self, from: [f32; 2], to: [f32; 2], radius: f32, ink: f32) {
        let reach = radius + 0.5;
        let columns = pixels_between(from[0].min(to[0]) - reach, from[0].max(to[0]) + reach);
        let rows = pixels_between(from[1].min(to[1]) - reach, from[1].max(to[1]) + reach);
        let along = [to[0] - from[0], to[1] - from[1]];
        let inverse_length2 = (along[0] * along[0] + along[1] * along[1]).max(1e-6).recip();
        for row in rows {
            let dy = row as f32 + 0.5 - from[1];
            let line = &mut self.0[row * SIDE..(row + 1) * SIDE];
            for column in columns.clone() {
                let dx = column as f32 + 0.5 - from[0];
                // The nearest point of the segment, as a fraction of its length.
                let part = ((dx * along[0] + dy * along[1]) * inverse_length2).clamp(0.0, 1.0);
                let (ex, ey) = (dx - part * along[0], dy - part * along[1]);
                let covered = (reach - (ex * ex + ey * ey).sqrt()).clamp(0.0, 1.0) * ink;
                line[column] = line[column].max(covered);
            }
        }
    }

    /// Blurs by a center tap `1 - 2 * side` between two taps `side`, along rows and then along columns.
    pub fn blur(&mut self, side: f32) {
        let center = 1.0 - 2.0 * side;
        for line in self.0.chunks_exact_mut(SIDE) {
            let mut before = line[0];
            for column in 0..SIDE {
                let here = line[column];
                let after = line[(column + 1).min(SIDE - 1)];
                line[column] = center * here + side * (before + after);
                before = here;
            }
        }
        let mut above: [f32; SIDE] = self.0[..SIDE].try_into().expect("a row has SIDE pixels");
        for row in 0..SIDE {
            let below = (row + 1).min(SIDE - 1) * SIDE;
            for (column, before) in above.iter_mut().enumerate() {
                let here = self.0[row * SIDE + column];
                self.0[row * SIDE + column] = center * here + side * (*before + self.0[below + column]);
                *before = here;
            }
        }
    }
}

/// Returns the pixels of one axis whose centers are between two positions, inside the image.
fn pixels_between(low: f32, high: f32) -> std::ops::Range<usize> {
    let first = (low - 0.5).ceil().clamp(0.0, SIDE as f32) as usize;
    let end = (high + 0.5).floor().clamp(0.0, SIDE as f32) as usize;
    first..end.max(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_covers_the_pixels_within_its_radius_and_no_others() {
        let mut canvas = Canvas::new();
        canvas.segment([5.5, 7.5], [12.5, 7.5], 1.0, 1.0);
        let at = |row: usize, column: usize| canvas.coverage()[row * SIDE + column];
        assert_eq!([at(7, 5), at(7, 12), at(7, 8)], [1.0; 3]);
        assert_eq!([at(6, 8), at(8, 8), at(7, 4)], [0.5; 3], "half covered one pixel away");
        assert_eq!([at(5, 8), at(9, 8), at(7, 3), at(7, 14)], [0.0; 4]);
        let sum: f32 = canvas.coverage().iter().sum();
        // A rectangle of 7 x 2 and two half discs of radius 1.
        assert!((sum - (14.0 + std::f32::consts::PI)).abs() < 0.5, "{sum}");
    }

    #[test]
    fn a_segment_outside_the_image_is_cut_off() {
        let mut canvas = Canvas::new();
        canvas.segment([-9.0, 40.0], [60.0, 41.0], 2.0, 1.0);
        assert!(canvas.coverage().iter().all(|&x| x == 0.0));
        canvas.segment([-9.0, 2.5], [60.0, 2.5], 1.0, 0.7);
        assert!(canvas.coverage()[2 * SIDE..3 * SIDE].iter().all(|&x| x == 0.7));
    }

    #[test]
    fn a_blur_spreads_a_dot_over_nine_pixels() {
        let mut canvas = Canvas::new();
        canvas.0[11 * SIDE + 13] = 1.0;
        canvas.blur(0.25);
        let at = |row: usize, column: usize| canvas.coverage()[row * SIDE + column];
        assert_eq!([at(10, 12), at(10, 13), at(10, 14)], [0.0625, 0.125, 0.0625]);
        assert_eq!([at(11, 12), at(11, 13), at(11, 14)], [0.125, 0.25, 0.125]);
        assert_eq!([at(12, 12), at(12, 13), at(12, 14)], [0.0625, 0.125, 0.0625]);
        assert_eq!(canvas.coverage().iter().sum::<f32>(), 1.0);
    }
}
