//! The queries that are left when all whole vectors are done, such as a class token: a vector of their own for each
//! head would be nearly empty, so where they fit, those of all heads go into one vector, each lane with its own keys.

use crate::cpu::simd::{LANES, Simd};

/// The queries that go into one vector with those of all other heads.
#[derive(Clone, Copy)]
pub(super) struct Rest {
    /// Number of each head's, 0 where they do not fit.
    pub count: usize,
    heads: usize,
    /// Index of the first one.
    first: usize,
}

impl Rest {
    pub fn of(queries: usize, heads: usize) -> Rest {
        let count = queries % LANES;
        let fits = heads > 1 && heads * count <= LANES;
        Rest { count: if fits { count } else { 0 }, heads, first: queries - count }
    }

    /// Calls `each` with every lane that is used, its head, and the place of its query among its head's.
    #[inline(always)]
    fn lanes(self, mut each: impl FnMut(usize, usize, usize)) {
        for head in 0..self.heads {
            for i in 0..self.count {
                each(head * self.count + i, head, self.first + i);
            }
        }
    }

    /// Copies `of` rows of each head, `stride` apart, into as many vectors.
    #[inline(always)]
    pub unsafe fn gather(self, of: usize, from: *const f32, stride: usize, to: *mut f32) {
        self.lanes(|lane, head, query| {
            for c in 0..of {
                unsafe { *to.add(c * LANES + lane) = *from.add((head * of + c) * stride + query) };
            }
        });
    }

    /// Copies vectors back into rows.
    #[inline(always)]
    pub unsafe fn scatter(self, of: usize, from: *const f32, to: *mut f32, stride: usize) {
        self.lanes(|lane, head, query| {
            for c in 0..of {
                unsafe { *to.add((head * of + c) * stride + query) = *from.add(c * LANES + lane) };
            }
        });
    }

    /// Gives each lane the rows `[keys, heads * W]` of its head: W vectors for each key, `step` apart.
    #[inline(always)]
    pub unsafe fn spread<S: Simd, const W: usize>(
        self,
        keys: usize,
        from: *const f32,
        from_stride: usize,
        to: *mut f32,
        step: usize,
    ) {
        for key in 0..keys {
            unsafe {
                let (from, to) = (from.add(key * from_stride), to.add(key * step));
                if W == 1 && self.count == 1 {
                    S::store(to, S::load_first(from, self.heads));
                    continue;
                }
                self.lanes(|lane, head, _| {
                    for c in 0..W {
                        *to.add(c * LANES + lane) = *from.add(head * W + c);
                    }
                });
            }
        }
    }

    /// The sums of one head's lanes, of which the others are 0.
    #[inline(always)]
    pub unsafe fn lanes_of<S: Simd>(self, head: usize, from: *const f32) -> S::V {
        unsafe { S::load_first(from.add(head * self.count), self.count) }
    }
}
