//! Shared by the kernels' tests: guarded memory, numbers, and comparisons on every instruction set.

use std::fmt::Arguments;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Isa;
use super::dropout::Mask;
use crate::ops::Dropout;
use crate::random::Key;

/// Values before those of a kernel that it must neither use nor change.
const GUARD: usize = 64;
/// Number of the next buffer.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// Values that end at a protected page: a kernel that reads or writes beyond them, even without using the result, ends
/// the process with SIGSEGV. The guard before them holds a NaN, as unset values do, so any result computed from it is
/// NaN. Each buffer has a NaN of its own. Processors propagate the bits of a NaN, so a NaN from another buffer's guard
/// is recognized when it is written.
pub(super) struct Guarded {
    all: Fenced,
    poison: u32,
}

/// Numbers whose last is the last that may be touched.
#[cfg(all(target_os = "linux", not(miri)))]
struct Fenced {
    pages: *mut u8,
    /// Bytes up to the inaccessible page.
    bytes: usize,
    len: usize,
}

#[cfg(all(target_os = "linux", not(miri)))]
impl Fenced {
    fn new(len: usize) -> Self {
        use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};
        let bytes = (len * size_of::<f32>()).next_multiple_of(PAGE);
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new pages belong to this buffer only.
        unsafe {
            let pages = mmap_anonymous(std::ptr::null_mut(), bytes + PAGE, access, MapFlags::PRIVATE).expect("memory");
            mprotect(pages.byte_add(bytes), PAGE, MprotectFlags::empty()).expect("a page of its own");
            Fenced { pages: pages.cast(), bytes, len }
        }
    }

    fn start(&self) -> *mut f32 {
        // SAFETY: the numbers end where the pages that may be touched do.
        unsafe { self.pages.add(self.bytes).cast::<f32>().sub(self.len) }
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
impl Drop for Fenced {
    fn drop(&mut self) {
        // SAFETY: the pages were made in `new`.
        unsafe { rustix::mm::munmap(self.pages.cast(), self.bytes + PAGE).expect("pages of its own") }
    }
}

/// A page of the largest size that Linux has, in bytes.
#[cfg(all(target_os = "linux", not(miri)))]
const PAGE: usize = if cfg!(target_arch = "x86_64") { 4 << 10 } else { 64 << 10 };

/// An allocation that ends with the numbers: Miri and AddressSanitizer know its end.
#[cfg(not(all(target_os = "linux", not(miri))))]
struct Fenced {
    numbers: Box<[f32]>,
    len: usize,
}

#[cfg(not(all(target_os = "linux", not(miri))))]
impl Fenced {
    fn new(len: usize) -> Self {
        Fenced { numbers: vec![0.0; len].into(), len }
    }

    fn start(&self) -> *mut f32 {
        self.numbers.as_ptr().cast_mut()
    }
}

impl Fenced {
    fn as_slice(&self) -> &[f32] {
        // SAFETY: all numbers are there from the start; `&self` keeps the tests' own writers away.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }

    fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

impl Guarded {
    /// Puts guards around values.
    pub fn new(values: &[f32]) -> Self {
        let mut guarded = Guarded::unset(values.len());
        guarded.all.as_mut_slice()[GUARD..].copy_from_slice(values);
        guarded
    }

    /// Makes room for values that the kernel has to write before it reads them.
    pub fn unset(len: usize) -> Self {
        let poison = f32::NAN.to_bits() | NEXT.fetch_add(1, Ordering::Relaxed) & 0x3F_FFFF;
        let mut all = Fenced::new(GUARD + len);
        all.as_mut_slice().fill(f32::from_bits(poison));
        Guarded { all, poison }
    }

    /// The first value.
    pub fn pointer(&mut self) -> *mut f32 {
        self.all.as_mut_slice()[GUARD..].as_mut_ptr()
    }

    /// The first value, to be read.
    pub fn read(&self) -> *const f32 {
        self.all.as_slice()[GUARD..].as_ptr()
    }

    /// Checks the guard and returns the values.
    pub fn values(&self) -> Vec<f32> {
        let (guard, values) = self.all.as_slice().split_at(GUARD);
        for (i, x) in guard.iter().enumerate() {
            assert_eq!(x.to_bits(), self.poison, "a kernel wrote {x}, {} numbers before its values", GUARD - i);
        }
        values.to_vec()
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

/// The columns of a golden file.
pub(super) fn columns<const N: usize>(golden: &str) -> [Vec<f64>; N] {
    let rows: Vec<Vec<f64>> =
        golden.lines().map(|line| line.split(' ').map(|word| word.parse().expect("a number")).collect()).collect();
    assert!(rows.iter().all(|row| row.len() == N), "{N} columns");
    std::array::from_fn(|column| rows.iter().map(|row| row[column]).collect())
}

/// The same numbers in f32.
pub(super) fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&x| x as f32).collect()
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
                // Not `>`: a NaN must count as a difference.
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
