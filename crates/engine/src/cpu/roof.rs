//! What a machine can do at most: multiply-adds in registers, and the traffic of memory. The caller times them.

use super::Isa;
use super::memory::{Buffer, Shared};
use super::pool::Pool;
use super::simd::{LANES, Simd, isa_kernel};
use super::split::share;

/// Work that is limited by the processor or by memory alone.
pub struct Roof {
    isa: Isa,
    pool: Pool,
    /// Three arrays, one after the other.
    memory: Buffer,
}

impl Roof {
    /// Prepares both, with `bytes` of memory: more than all caches hold.
    pub fn new(threads: usize, bytes: usize) -> Self {
        let mut roof =
            Roof { isa: Isa::best(), pool: Pool::new(threads), memory: Buffer::new(bytes / size_of::<f32>()) };
        // The first pass brings the pages into being.
        roof.triad();
        roof
    }

    /// Multiplies and adds in registers, `rounds` times on each thread, and returns the floating-point operations.
    pub fn multiply_adds(&mut self, rounds: usize) -> u64 {
        let args = MultiplyAdds { rounds };
        // SAFETY: the kernel uses no memory.
        self.pool.run(&|_| unsafe { multiply_adds(self.isa, &args) });
        let wide = self.isa.panel() > LANES;
        let sums = if wide { WIDE } else { NARROW };
        (self.pool.threads() * rounds * sums * LANES * 2) as u64
    }

    /// Computes `a = b + 3 c` on long arrays, and returns the bytes read and written.
    pub fn triad(&mut self) -> u64 {
        let len = self.memory.as_slice().len() / 3 / LANES * LANES;
        let (start, threads, isa) = (Shared::new(self.memory.pointer()), self.pool.threads(), self.isa);
        self.pool.run(&|thread| {
            let own = share(len / LANES, threads, thread);
            let (first, count) = (own.start * LANES, own.len() * LANES);
            // SAFETY: threads have different ranges of the arrays.
            let args = unsafe {
                let at = |array: usize| start.get().add(array * len + first);
                Triad { len: count, to: at(0), a: at(1), b: at(2) }
            };
            // SAFETY: as above.
            unsafe { triad(isa, &args) };
        });
        (3 * len * size_of::<f32>()) as u64
    }
}

/// Independent sums of a kernel with as many registers as AVX-512 has, and with half of them.
const WIDE: usize = 16;
const NARROW: usize = 5;

pub(super) struct MultiplyAdds {
    rounds: usize,
}

isa_kernel!(
    /// Multiplies and adds.
    multiply_adds,
    multiply_adds_generic,
    MultiplyAdds
);

#[inline(always)]
unsafe fn multiply_adds_generic<S: Simd>(args: &MultiplyAdds) {
    unsafe {
        match S::TILE_VECTORS {
            1 => chains::<S, NARROW>(args.rounds),
            _ => chains::<S, WIDE>(args.rounds),
        }
    }
}

#[inline(always)]
unsafe fn chains<S: Simd, const N: usize>(rounds: usize) {
    unsafe {
        let factor = S::splat(std::hint::black_box(0.999));
        let mut sums = [S::splat(std::hint::black_box(1.0)); N];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = S::mul_add(*sum, factor, factor);
            }
        }
        let all = sums.iter().fold(S::splat(0.0), |all, sum| S::add(all, *sum));
        std::hint::black_box(S::sum(all));
    }
}

pub(super) struct Triad {
    len: usize,
    to: *mut f32,
    a: *const f32,
    b: *const f32,
}

isa_kernel!(
    /// Computes a sum of two arrays, one of them times a number.
    triad,
    triad_generic,
    Triad
);

#[inline(always)]
unsafe fn triad_generic<S: Simd>(args: &Triad) {
    unsafe {
        let factor = S::splat(3.0);
        for at in (0..args.len).step_by(LANES) {
            S::store(args.to.add(at), S::mul_add(S::load(args.b.add(at)), factor, S::load(args.a.add(at))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_and_bytes_are_counted() {
        let mut roof = Roof::new(2, 4 * 100);
        // 33 numbers in each array, of which whole vectors are used.
        assert_eq!(roof.triad(), 3 * 32 * 4);
        let sums = if Isa::best().panel() > LANES { WIDE } else { NARROW };
        assert_eq!(roof.multiply_adds(7), (2 * 7 * sums * 16 * 2) as u64);
        roof.memory.as_mut_slice().copy_from_slice(&[vec![0.0; 32], vec![1.0; 32], vec![2.0; 36]].concat());
        roof.triad();
        assert_eq!(roof.memory.as_slice()[..32], [7.0; 32]);
    }
}
