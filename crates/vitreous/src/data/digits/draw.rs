//! Draws one digit: a style's pen path, bent, scaled, slanted, rotated, shifted, inked, blurred, with clutter and noise.

use super::canvas::{Canvas, SIDE};
use super::glyphs::{STYLES, Style};
use crate::random::Key;

/// Minimum distance of the pen's center line from the image's edge, in pixels.
const MARGIN: f32 = 2.5;
/// Minimum and maximum height of a digit, in pixels.
const HEIGHT: [f32; 2] = [14.0, 20.0];
/// Minimum and maximum width of a digit, as a fraction of its height.
const ASPECT: [f32; 2] = [0.5, 0.8];
/// Maximum slant: the shift of the top, as a fraction of the height.
const SLANT: f32 = 0.35;
/// Maximum rotation, in radians.
const TURN: f32 = 0.2;
/// Fraction of the free space around the digit in which its position is drawn.
const ROOM: f32 = 0.5;
/// Maximum random displacement of a knot, in percent of the box.
const WOBBLE: f32 = 5.0;
/// Maximum displacement of a point by one wave of the elastic distortion, in pixels.
const BEND: f32 = 0.9;
/// Minimum and maximum radius of the pen, in pixels.
const PEN: [f32; 2] = [0.7, 1.7];
/// Segments of a smooth curve between two knots.
const PIECES: usize = 5;

/// Draws a digit as [`SIDE`] x [`SIDE`] gray pixels, light ink on a dark background, as a function of `key`.
pub fn draw(key: Key, digit: usize) -> Box<[u8]> {
    let mut draws = Draws { key, next: 0 };
    let styles = STYLES[digit];
    let style = styles[(draws.unit() * styles.len() as f32) as usize];
    let segments = place(write(style, &mut draws), &mut draws);

    let mut canvas = Canvas::new();
    let radius = draws.between(PEN);
    // The pen pressure changes across the image.
    let pressure = [draws.around(0.012), draws.around(0.012)];
    for &[from, to] in &segments {
        let pressed = 1.0 + pressure[0] * (from[0] - 14.0) + pressure[1] * (from[1] - 14.0);
        canvas.segment(from, to, radius * pressed, 1.0);
    }
    clutter(&mut canvas, &segments, radius, &mut draws);
    let blur = draws.unit();
    canvas.blur(0.22 * blur * blur);
    expose(&canvas, &mut draws)
}

/// A segment of the pen's path: start and end.
type Segment = [[f32; 2]; 2];

/// Random numbers of one image, in sequence.
struct Draws {
    key: Key,
    next: u64,
}

impl Draws {
    fn unit(&mut self) -> f32 {
        self.next += 1;
        // 24 bits fit in an f32 exactly: the result is never rounded to 1.
        (self.key.bits(self.next) >> 40) as f32 * (1.0 / (1u32 << 24) as f32)
    }

    fn between(&mut self, [low, high]: [f32; 2]) -> f32 {
        low + (high - low) * self.unit()
    }

    fn around(&mut self, max: f32) -> f32 {
        max * (2.0 * self.unit() - 1.0)
    }
}

/// Returns the pen's path in a unit box around the origin, with each knot displaced slightly.
fn write(style: Style, draws: &mut Draws) -> Vec<Segment> {
    let mut segments = Vec::with_capacity(64);
    let mut knots: Vec<[f32; 2]> = Vec::with_capacity(16);
    for stroke in style {
        knots.clear();
        knots.extend(
            stroke.iter().map(|knot| knot.at.map(|percent| (f32::from(percent) + draws.around(WOBBLE)) / 100.0 - 0.5)),
        );
        let last = knots.len() - 1;
        for i in 0..last {
            // At a corner or an end, the end point is repeated.
            let before = if i == 0 || stroke[i].corner { knots[i] } else { knots[i - 1] };
            let after = if i + 1 == last || stroke[i + 1].corner { knots[i + 1] } else { knots[i + 2] };
            let mut from = knots[i];
            for piece in 1..=PIECES {
                let to = catmull_rom([before, knots[i], knots[i + 1], after], piece as f32 / PIECES as f32);
                segments.push([from, to]);
                from = to;
            }
        }
    }
    segments
}

/// Returns the point at `t` in 0..=1 on the curve from `p[1]` to `p[2]` (Catmull and Rom 1974).
fn catmull_rom(p: [[f32; 2]; 4], t: f32) -> [f32; 2] {
    std::array::from_fn(|axis| {
        let [a, b, c, d] = p.map(|point| point[axis]);
        let slope = 0.5 * (c - a);
        let bend = a - 2.5 * b + 2.0 * c - 0.5 * d;
        let rest = 0.5 * (d - a) + 1.5 * (b - c);
        b + t * (slope + t * (bend + t * rest))
    })
}

/// Scales, slants, rotates, bends and shifts the pen's path to pixels of the image.
fn place(mut segments: Vec<Segment>, draws: &mut Draws) -> Vec<Segment> {
    let height = draws.between(HEIGHT);
    let width = height * draws.between(ASPECT);
    let slant = draws.around(SLANT) * height;
    let (sine, cosine) = draws.around(TURN).sin_cos();
    // Two waves per axis, with a wavelength from a third of the image to the whole.
    let waves: [[f32; 4]; 4] = std::array::from_fn(|_| {
        [draws.around(0.3), draws.around(0.3), draws.between([0.0, std::f32::consts::TAU]), draws.between([0.0, BEND])]
    });
    let wave = |[fx, fy, phase, size]: [f32; 4], x: f32, y: f32| size * (fx * x + fy * y + phase).sin();
    let mut low = [f32::INFINITY; 2];
    let mut high = [f32::NEG_INFINITY; 2];
    for point in segments.iter_mut().flatten() {
        let [x, y] = [point[0] * width - slant * point[1], point[1] * height];
        let [x, y] = [cosine * x - sine * y, sine * x + cosine * y];
        *point = [x + wave(waves[0], x, y) + wave(waves[1], x, y), y + wave(waves[2], x, y) + wave(waves[3], x, y)];
        for axis in 0..2 {
            low[axis] = low[axis].min(point[axis]);
            high[axis] = high[axis].max(point[axis]);
        }
    }
    let room = SIDE as f32 - 2.0 * MARGIN;
    for axis in 0..2 {
        let extent = high[axis] - low[axis];
        // A digit that is too large is shrunk to fit.
        let scale = (room / extent).min(1.0);
        let free = room - extent * scale;
        let start = MARGIN + free * (0.5 + draws.around(0.5 * ROOM));
        for point in segments.iter_mut().flatten() {
            point[axis] = start + (point[axis] - low[axis]) * scale;
        }
    }
    segments
}

/// Draws up to three bits of strokes near the image's edge, clear of the digit.
fn clutter(canvas: &mut Canvas, digit: &[Segment], digit_radius: f32, draws: &mut Draws) {
    let bits = (draws.unit() * 4.0) as usize;
    for _ in 0..bits {
        let radius = draws.between([0.5, 1.3]);
        let ink = draws.between([0.4, 1.0]);
        // A point on one of the four edges, and a line from there.
        let (along, depth) = (draws.between([0.0, SIDE as f32]), draws.between([-1.0, 3.0]));
        let (end, end_depth) = (along + draws.around(9.0), depth + draws.around(4.0));
        let far = SIDE as f32;
        let [from, to] = match (draws.unit() * 4.0) as usize {
            0 => [[along, depth], [end, end_depth]],
            1 => [[along, far - depth], [end, far - end_depth]],
            2 => [[depth, along], [end_depth, end]],
            _ => [[far - depth, along], [far - end_depth, end]],
        };
        let middle = [0.5 * (from[0] + to[0]) + draws.around(1.5), 0.5 * (from[1] + to[1]) + draws.around(1.5)];
        let clear = digit_radius + radius + 1.5;
        let touches = digit.iter().any(|&[point, _]| {
            [[from, middle], [middle, to]].iter().any(|&line| distance2(point, line) < clear * clear)
        });
        if !touches {
            canvas.segment(from, middle, radius, ink);
            canvas.segment(middle, to, radius, ink);
        }
    }
}

/// Returns the squared distance between a point and a segment.
fn distance2(point: [f32; 2], [from, to]: Segment) -> f32 {
    let along = [to[0] - from[0], to[1] - from[1]];
    let d = [point[0] - from[0], point[1] - from[1]];
    let length2 = (along[0] * along[0] + along[1] * along[1]).max(1e-6);
    let part = ((d[0] * along[0] + d[1] * along[1]) / length2).clamp(0.0, 1.0);
    (d[0] - part * along[0]).powi(2) + (d[1] - part * along[1]).powi(2)
}

/// Converts coverage to gray values: a background gradient, ink of random brightness, noise.
fn expose(canvas: &Canvas, draws: &mut Draws) -> Box<[u8]> {
    let ground = draws.between([0.0, 60.0]);
    let slope = [draws.around(1.2), draws.around(1.2)];
    let ink = draws.between([140.0, 255.0]);
    let noise = draws.between([0.0, 20.0]);
    let mut pixels = vec![0u8; SIDE * SIDE].into_boxed_slice();
    for (row, line) in pixels.chunks_exact_mut(SIDE).enumerate() {
        let coverage = &canvas.coverage()[row * SIDE..(row + 1) * SIDE];
        for (column, four) in line.chunks_exact_mut(4).enumerate() {
            // Four pixels share one draw of 64 bits: the sum of two bytes each approximates a normal distribution.
            draws.next += 1;
            let bits = draws.key.bits(draws.next).to_le_bytes();
            for (i, pixel) in four.iter_mut().enumerate() {
                let x = column * 4 + i;
                let bell = (f32::from(bits[2 * i]) + f32::from(bits[2 * i + 1]) - 255.0) * (1.0 / 104.5);
                let under = ground + slope[0] * (x as f32 - 13.5) + slope[1] * (row as f32 - 13.5);
                let value = under + (ink - under) * coverage[x] + noise * bell;
                *pixel = value.clamp(0.0, 255.0) as u8;
            }
        }
    }
    pixels
}
