//! What the kernels' tests share: memory between guards, numbers, and comparisons on every instruction set.

use std::fmt::Arguments;

use super::Isa;
use super::dropout::Mask;
use crate::ops::Dropout;
use crate::random::Key;

/// Values on either side that a kernel may read but must neither use nor change.
const GUARD: usize = 64;
/// What guards and unset values hold: whoever computes with it has a NaN to show for it.
const POISON: u32 = 0x7FC0_DEAD;

/// Values between two guards.
#[derive(Clone)]
pub(super) struct Guarded(Vec<f32>);

impl Guarded {
    /// Puts guards around values.
    pub fn new(values: &[f32]) -> Self {
        let mut guarded = Guarded::unset(values.len());
        guarded.0[GUARD..GUARD + values.len()].copy_from_slice(values);
        guarded
    }

    /// Makes room for values that the kernel has to write before it reads them.
    pub fn unset(len: usize) -> Self {
        Guarded(vec![f32::from_bits(POISON); len + 2 * GUARD])
    }

    /// The first value.
    pub fn pointer(&mut self) -> *mut f32 {
        self.0[GUARD..].as_mut_ptr()
    }

    /// The first value, to be read.
    pub fn read(&self) -> *const f32 {
        self.0[GUARD..].as_ptr()
    }

    /// Checks the guards and returns the values.
    pub fn values(&self) -> Vec<f32> {
        let (inner, end) = (&self.0[GUARD..self.0.len() - GUARD], self.0.len() - GUARD);
        for (i, x) in self.0.iter().enumerate().filter(|(i, _)| *i < GUARD || *i >= end) {
            assert_eq!(x.to_bits(), POISON, "a kernel wrote {x} at {} of {}", i as isize - GUARD as isize, inner.len());
        }
        inner.to_vec()
    }
}

/// Numbers in [-1, 1).
pub(super) fn numbers(seed: u64, len: usize) -> Vec<f32> {
    (0..len as u64).map(|i| Key::new(seed).range(i, -1.0, 1.0) as f32).collect()
}

/// The same numbers in f64.
pub(super) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// A dropout for some images, with the keys that its mask points to.
pub(super) struct Draws {
    pub dropout: Dropout,
    pub images: Vec<Key>,
    keys: Vec<[u32; 2]>,
}

impl Draws {
    pub fn new(rate: f32, images: usize) -> Self {
        let dropout = Dropout { rate, stream: 5 };
        let images: Vec<Key> = (0..images as u64).map(|image| Key::new(3).with(image)).collect();
        let keys = images.iter().map(|&image| dropout.keys(image)).collect();
        Draws { dropout, images, keys }
    }

    /// The mask for kernels, good as long as `self` lives.
    pub fn mask(&self, rows_per_image: usize, features: usize) -> Mask {
        let (threshold, scale) = (self.dropout.threshold(), self.dropout.scale());
        Mask { keys: self.keys.as_ptr(), threshold, scale, rows_per_image, features }
    }

    /// Applies the dropout to `[images, rows, features]` in f64.
    pub fn apply(&self, x: &[f64], features: usize) -> Vec<f64> {
        let images = self.images.iter().zip(x.chunks_exact(x.len() / self.images.len()));
        images
            .flat_map(|(&image, x)| crate::reference::dropout::apply(self.dropout, Some(image), x, features))
            .collect()
    }
}

/// Runs a kernel on every instruction set and compares its results, a vector each, with what they should be.
///
/// An error may be `tolerance` of the vector's largest value, or of 0.1 where all are smaller. AVX-512 and AVX2 must
/// agree in every bit.
pub(super) fn check(what: Arguments, expected: &[Vec<f64>], tolerance: f64, run: impl Fn(Isa) -> Vec<Vec<f32>>) {
    let mut best: Option<Vec<Vec<f32>>> = None;
    for isa in Isa::available() {
        let found = run(isa);
        assert_eq!(found.len(), expected.len(), "{what} {isa:?}");
        for (n, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert_eq!(found.len(), expected.len(), "{what} {isa:?}: length of result {n}");
            let allowed = tolerance * expected.iter().fold(0.1f64, |a, b| a.max(b.abs()));
            for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
                // Not `>`: a NaN is no agreement.
                let agrees = (f64::from(found) - expected).abs() <= allowed;
                assert!(agrees, "{what} {isa:?}: result {n} [{i}] is {found}, not {expected} within {allowed:e}");
            }
        }
        if isa == Isa::Portable {
            continue;
        }
        match &best {
            None => best = Some(found),
            Some(best) => assert!(same_bits(best, &found), "{what}: {isa:?} has other bits than {:?}", Isa::best()),
        }
    }
}

/// Whether all numbers are the same, zeros with their signs.
pub(super) fn same_bits(a: &[Vec<f32>], b: &[Vec<f32>]) -> bool {
    let bits = |x: &[Vec<f32>]| x.iter().map(|x| x.iter().map(|x| x.to_bits()).collect()).collect::<Vec<Vec<u32>>>();
    bits(a) == bits(b)
}
