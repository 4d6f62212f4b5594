//! Dropout (Srivastava et al. 2014), inverted: while training, values are zeroed at random and the others scaled up.
//!
//! Which values is a function of (step's dropout key of the image, the node's stream, the value's place), so the
//! backward pass draws the same numbers again and nothing is stored. Source of the hash: Wellons' `lowbias32`
//! family, with a second key added half way.

use crate::autodiff::Backward;
use crate::graph::{Graph, GraphError, Node, NodeId, wrong_value};
use crate::ops::Op;
use crate::random::Key;

/// A dropout and its random stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability that a value is zeroed, in [0, 1), in steps of 2^-16.
    pub rate: f32,
    /// Unique among the dropouts of a graph.
    pub stream: u64,
}

impl Dropout {
    /// A value is dropped when its 16 random bits are below this.
    pub fn threshold(self) -> u32 {
        (f64::from(self.rate) * 65536.0).round() as u32
    }

    /// Kept values are multiplied by this.
    pub fn scale(self) -> f32 {
        (65536.0 / f64::from(65536 - self.threshold())) as f32
    }

    /// Returns the two numbers that key this dropout's draws for one image.
    pub fn keys(self, image: Key) -> [u32; 2] {
        let bits = image.with(self.stream).bits(0);
        [bits as u32, (bits >> 32) as u32]
    }

    /// Returns whether the value at `column` of `row`, in rows of `features` values, is kept.
    ///
    /// The first 16 columns of a block of 32 take the low halves of 16 numbers, the other 16 the high halves.
    pub fn keeps(self, keys: [u32; 2], row: usize, features: usize, column: usize) -> bool {
        let block = row * features.div_ceil(32) + column / 32;
        let bits = hash(keys, (block * 16 + column % 16) as u32);
        let half = if column % 32 < 16 { bits & 0xFFFF } else { bits >> 16 };
        half >= self.threshold()
    }

    pub(super) fn differentiate(self, backward: &mut Backward, id: NodeId, dy: NodeId) {
        let Node { inputs, name, shape, .. } = backward.node(id).clone();
        if backward.needs_gradient(inputs[0]) {
            let dx = backward.push(&format!("{name}.grad"), Op::DropoutGrad(self), &[dy], &[], shape);
            backward.add_gradient(inputs[0], dx);
        }
    }
}

/// The constants of the hash, for the kernels that draw many values at once.
pub(crate) mod dropout_hash {
    /// A counter is multiplied by this.
    pub(crate) const STEP: u32 = 0x9E37_79B9;
    /// The first multiplier after that.
    pub(crate) const FIRST: u32 = 0x21F0_AAAD;
    /// The second.
    pub(crate) const SECOND: u32 = 0xD35A_2D97;
}

fn hash(keys: [u32; 2], counter: u32) -> u32 {
    let mut x = counter.wrapping_mul(dropout_hash::STEP).wrapping_add(keys[0]);
    x = (x ^ (x >> 16)).wrapping_mul(dropout_hash::FIRST).wrapping_add(keys[1]);
    x = (x ^ (x >> 15)).wrapping_mul(dropout_hash::SECOND);
    x ^ (x >> 15)
}

impl Graph {
    /// Zeroes values at random while training and scales the others up; a rate of 0 adds nothing to the graph.
    ///
    /// # Errors
    /// When the rate is outside [0, 1), or so near to 1 that no value would be kept.
    pub fn dropout(&mut self, name: &str, x: NodeId, rate: f32) -> Result<NodeId, GraphError> {
        let dropout = self.new_dropout(name, rate)?;
        if rate == 0.0 {
            return Ok(x);
        }
        let shape = self.shape(x).clone();
        self.push(name, Op::Dropout(dropout), &[x], &[], shape)
    }

    /// Checks a rate and gives the dropout a stream of its own, made from the name of its node.
    pub(super) fn new_dropout(&self, name: &str, rate: f32) -> Result<Dropout, GraphError> {
        if !(0.0..1.0).contains(&rate) {
            return Err(wrong_value(name, "dropout rate", rate, "in [0, 1)"));
        }
        let dropout = Dropout { rate, stream: Key::new(0).with_name(name).bits(0) };
        if !dropout.scale().is_finite() {
            return Err(wrong_value(name, "dropout rate", rate, "at most 0.99999"));
        }
        Ok(dropout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_rounds_to_one_is_rejected() {
        let mut graph = Graph::new();
        let x = graph.input("x", [3]).unwrap();
        let error = graph.dropout("drop", x, 0.999_993).unwrap_err().to_string();
        assert_eq!(error, "dropout rate 0.999993 is not at most 0.99999 (drop)");
        let y = graph.dropout("drop", x, 0.999_99).unwrap();
        let Op::Dropout(dropout) = graph.node(y).op else { panic!("a dropout") };
        assert_eq!(dropout.scale(), 65536.0);
    }

    #[test]
    fn the_kept_part_is_one_minus_the_rate_in_every_column() {
        let dropout = Dropout { rate: 0.1, stream: 3 };
        let (images, rows, features) = (41, 53, 37);
        for column in 0..features {
            let kept = (0..images)
                .flat_map(|image| {
                    let keys = dropout.keys(Key::new(image));
                    (0..rows).map(move |row| dropout.keeps(keys, row, features, column))
                })
                .filter(|&keep| keep)
                .count();
            let part = kept as f64 / (images * rows as u64) as f64;
            // Four standard deviations of 2173 draws.
            assert!((part - 0.9).abs() < 0.026, "column {column} keeps {part}");
        }
    }

    #[test]
    fn neighbors_and_images_draw_independently() {
        let dropout = Dropout { rate: 0.5, stream: 3 };
        let [a, b] = [1, 2].map(|seed| dropout.keys(Key::new(seed)));
        let n = 20_000;
        let agree = |f: &dyn Fn(usize) -> bool| (0..n).filter(|&i| f(i)).count() as f64 / n as f64;
        let same_image = agree(&|i| dropout.keeps(a, i, 1, 0) == dropout.keeps(a, i + 1, 1, 0));
        let other_image = agree(&|i| dropout.keeps(a, i, 1, 0) == dropout.keeps(b, i, 1, 0));
        let other_half = agree(&|i| dropout.keeps(a, i, 32, 3) == dropout.keeps(a, i, 32, 19));
        for part in [same_image, other_image, other_half] {
            assert!((part - 0.5).abs() < 0.015, "{same_image} {other_image} {other_half}");
        }
    }
}
