//! Which pixels of a map each result of a convolution reads, computed once for a program.
//!
//! Forward, the result at `y` reads the input at `y * stride - padding + tap`. Backward, the input's gradient at `y`
//! reads the result's gradient at `(y + padding - tap) / stride`, for the taps for which this is an integer. Both have
//! the same description: the taps are ordered so that those of one result are neighbors and read neighboring pixels.

use std::ops::Range;

use crate::cpu::Isa;
use crate::cpu::plan::all;
use crate::ops::Convolution;

/// The pixels that one product of a convolution reads: the forward product, or that of the input's gradient.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cpu) struct Geometry {
    pub convolution: Convolution,
    /// Whether it is the forward product; otherwise that of the input's gradient.
    pub forward: bool,
    /// Height, width and channels of the map that is read.
    pub input: [usize; 3],
    /// Height, width and channels of the map that is written.
    pub output: [usize; 3],
    /// For each tap along an axis, its position in the packed order.
    pub place: Vec<usize>,
    /// Kinds of pixels of the result.
    pub kinds: Vec<Kind>,
    /// The pixels of all kinds.
    pub pixels: Vec<Pixel>,
}

/// The pixels of the result for which the same taps lie inside the map.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cpu) struct Kind {
    /// First tap in packed order, along height and width.
    pub tap: [usize; 2],
    /// Number of taps along height and width.
    pub count: [usize; 2],
    /// Range in [`Geometry::pixels`].
    pub pixels: Range<usize>,
}

/// A pixel of the result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cpu) struct Pixel {
    /// The pixel of the input that its first tap reads.
    pub from: u32,
    /// Its position in the result.
    pub to: u32,
}

/// The taps and positions that a result reads along one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reach {
    /// First position that is read.
    from: usize,
    /// The tap there, in packed order.
    tap: usize,
    count: usize,
}

impl Geometry {
    /// Computes the geometry of a convolution of a map of `[height, width, channels]`.
    pub fn new(convolution: Convolution, map: [usize; 3], forward: bool) -> Self {
        let Convolution { out_channels, kernel, stride, padding, .. } = convolution;
        let places = |len: usize| (len + 2 * padding - kernel) / stride + 1;
        let result = [places(map[0]), places(map[1]), out_channels];
        let (input, output) = if forward { (map, result) } else { (result, map) };
        let order: Vec<usize> = if forward {
            (0..kernel).collect()
        } else {
            // Grouped by the pixels' gradients to which taps contribute together; the last first, since they then read
            // the result in ascending order.
            (0..stride).flat_map(|rest| (rest..kernel).step_by(stride).rev()).collect()
        };
        let mut place = vec![0; kernel];
        order.iter().enumerate().for_each(|(at, &tap)| place[tap] = at);
        let reach = |axis: usize| -> Vec<Reach> {
            (0..output[axis]).map(|at| reach(convolution, &order, at, input[axis], forward)).collect()
        };
        let (rows, columns) = (reach(0), reach(1));
        let mut found: Vec<([usize; 2], [usize; 2], Vec<Pixel>)> = Vec::new();
        for (y, row) in rows.iter().enumerate() {
            for (x, column) in columns.iter().enumerate() {
                let pixel = Pixel { from: (row.from * input[1] + column.from) as u32, to: (y * output[1] + x) as u32 };
                let (tap, count) = ([row.tap, column.tap], [row.count, column.count]);
                match found.iter_mut().find(|(t, n, _)| (*t, *n) == (tap, count)) {
                    Some((.., pixels)) => pixels.push(pixel),
                    None => found.push((tap, count, vec![pixel])),
                }
            }
        }
        let (mut kinds, mut pixels) = (Vec::new(), Vec::new());
        for (tap, count, own) in found {
            let start = pixels.len();
            pixels.extend(own);
            kinds.push(Kind { tap, count, pixels: start..pixels.len() });
        }
        Geometry { convolution, forward, input, output, place, kinds, pixels }
    }

    /// Pixels of the input that are read: a stride that is longer than the kernel leaves some out.
    pub fn pixels_read(&self) -> usize {
        let [height, width, _] = self.input;
        let mut is_read = vec![false; height * width];
        for kind in &self.kinds {
            for pixel in &self.pixels[kind.pixels.clone()] {
                for row in 0..kind.count[0] {
                    is_read[pixel.from as usize + row * width..][..kind.count[1]].fill(true);
                }
            }
        }
        is_read.iter().filter(|is_read| **is_read).count()
    }

    /// Whether each channel is convolved by itself.
    pub fn is_depthwise(&self) -> bool {
        let groups = self.convolution.groups;
        groups > 1 && groups == self.input[2] && groups == self.output[2]
    }

    /// Groups whose weights are packed apart. Those of a depthwise convolution are packed as one group that reads one
    /// channel.
    fn groups(&self) -> usize {
        if self.is_depthwise() { 1 } else { self.convolution.groups }
    }

    /// Input channels and output channels of each of these groups.
    pub fn group(&self) -> [usize; 2] {
        [self.input[2] / self.convolution.groups, self.output[2] / self.groups()]
    }

    /// Length of the inner axis where all taps lie inside the map.
    pub fn steps(&self) -> usize {
        self.convolution.kernel * self.convolution.kernel * self.group()[0]
    }

    /// Panels of the packed weight: each group has its own.
    pub fn panels(&self, isa: Isa) -> usize {
        self.groups() * self.group()[1].div_ceil(isa.panel())
    }

    /// Numbers in the packed weight.
    pub fn packed_len(&self, isa: Isa) -> usize {
        all(all(self.panels(isa), isa.panel()), self.steps())
    }
}

fn reach(convolution: Convolution, order: &[usize], at: usize, len: usize, forward: bool) -> Reach {
    let Convolution { stride, padding, .. } = convolution;
    let read = |tap: usize| -> Option<usize> {
        let from = if forward {
            (at * stride + tap).checked_sub(padding)?
        } else {
            let from = (at + padding).checked_sub(tap)?;
            if !from.is_multiple_of(stride) {
                return None;
            }
            from / stride
        };
        (from < len).then_some(from)
    };
    let inside = |&place: &usize| read(order[place]).is_some();
    let Some(tap) = (0..order.len()).find(inside) else { return Reach { from: 0, tap: 0, count: 0 } };
    let count = (tap..order.len()).take_while(inside).count();
    Reach { from: read(order[tap]).expect("it was found"), tap, count }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every multiplication of a product: pixel read, pixel written, tap.
    fn terms(geometry: &Geometry) -> Vec<[usize; 3]> {
        let kernel = geometry.convolution.kernel;
        let tap_at = |place: usize| geometry.place.iter().position(|&p| p == place).expect("every place has a tap");
        let mut terms = Vec::new();
        for kind in &geometry.kinds {
            for pixel in &geometry.pixels[kind.pixels.clone()] {
                for y in 0..kind.count[0] {
                    for x in 0..kind.count[1] {
                        let tap = tap_at(kind.tap[0] + y) * kernel + tap_at(kind.tap[1] + x);
                        terms.push([pixel.from as usize + y * geometry.input[1] + x, pixel.to as usize, tap]);
                    }
                }
            }
        }
        terms.sort_unstable();
        terms
    }

    #[test]
    fn both_ways_have_the_same_multiplications_and_none_with_padding() {
        for kernel in 1..6 {
            for stride in 1..5 {
                for padding in 0..4 {
                    let convolution = Convolution::new(1, kernel).stride(stride).padding(padding);
                    let map = [5, 7, 1];
                    let mut expected = Vec::new();
                    let places = [5, 7].map(|len| (len + 2 * padding - kernel) / stride + 1);
                    for to in 0..places[0] * places[1] {
                        for tap in 0..kernel * kernel {
                            let y = to / places[1] * stride + tap / kernel;
                            let x = to % places[1] * stride + tap % kernel;
                            if (padding..padding + 5).contains(&y) && (padding..padding + 7).contains(&x) {
                                expected.push([(y - padding) * 7 + x - padding, to, tap]);
                            }
                        }
                    }
                    expected.sort_unstable();
                    assert_eq!(terms(&Geometry::new(convolution, map, true)), expected, "{convolution:?}");
                    let mut backward = terms(&Geometry::new(convolution, map, false));
                    backward.iter_mut().for_each(|term| term.swap(0, 1));
                    backward.sort_unstable();
                    assert_eq!(backward, expected, "{convolution:?} backward");
                }
            }
        }
    }
}
