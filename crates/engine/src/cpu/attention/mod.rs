//! Multi-head attention, one head of one image at a time, so that its scores stay in the first-level caches.
//! Which kernel does it is a function of the sizes and options alone.

mod dense;
mod narrow;
#[cfg(test)]
mod tests;
mod turn;

use super::Isa;
use super::dropout::Mask;
use super::program::AttendSizes;
use crate::ops::{Attention, Over};

/// Numbers that an attention needs besides its operands.
pub(super) struct Memory {
    /// Kept for the backward pass, for each image.
    pub kept: usize,
    /// Scratch of either pass, whatever the number of images.
    pub scratch: usize,
}

impl Memory {
    /// Returns what an attention of these sizes needs.
    pub fn of(sizes: &AttendSizes) -> Memory {
        let AttendSizes { queries, keys, head_dim, attention, masked, .. } = *sizes;
        if is_narrow(head_dim, attention, masked) {
            narrow::memory(queries, keys, attention.heads, head_dim)
        } else {
            dense::memory(queries, keys, head_dim, attention)
        }
    }
}

/// Whether heads are so narrow that the products are better done number by number, and nothing but them is asked for.
fn is_narrow(head_dim: usize, attention: Attention, masked: bool) -> bool {
    let plain = attention.softmax == Over::Keys && !attention.causal && attention.dropout.is_none() && !masked;
    plain && head_dim <= narrow::WIDEST
}

/// Sizes and options of an attention over the images of a chunk, and what both passes share.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub images: usize,
    pub queries: usize,
    pub keys: usize,
    pub head_dim: usize,
    pub attention: Attention,
    /// Whether some keys may be hidden.
    pub masked: bool,
    /// Rows are numbered head by head.
    pub dropout: Option<Mask>,
}

/// Rows of one operand, image after image; a head's columns lie side by side.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub at: *const f32,
    /// Distance between rows.
    pub stride: usize,
}

/// Rows that are written.
#[derive(Clone, Copy)]
pub(super) struct RowsMut {
    /// Null where they are not needed.
    pub at: *mut f32,
    /// Distance between rows.
    pub stride: usize,
}

/// The forward pass.
pub(super) struct Forward {
    pub sizes: Sizes,
    /// `[images, queries, embed_dim]`
    pub q: Rows,
    /// `[images, keys, embed_dim]`
    pub k: Rows,
    /// `[images, keys, embed_dim]`
    pub v: Rows,
    /// `[images, keys]`, positive where a key may be seen; null where all may.
    pub mask: *const f32,
    /// `[images, queries, embed_dim]`
    pub context: *mut f32,
    /// `[images, kept]`, see [`Memory`]; null where it is not needed.
    pub kept: *mut f32,
    pub scratch: *mut f32,
}

/// The backward pass.
pub(super) struct Backward {
    pub sizes: Sizes,
    pub q: Rows,
    pub k: Rows,
    pub v: Rows,
    pub mask: *const f32,
    /// `[images, queries, embed_dim]`
    pub context: *const f32,
    /// As the forward pass left it.
    pub kept: *const f32,
    /// `[images, queries, embed_dim]`
    pub dcontext: *const f32,
    pub dq: RowsMut,
    pub dk: RowsMut,
    pub dv: RowsMut,
    pub scratch: *mut f32,
}

/// Lets every query gather from the keys of its image.
///
/// # Safety
/// All pointers are good for the sizes.
pub(super) unsafe fn forward(isa: Isa, args: &Forward) {
    // SAFETY: as the caller says.
    unsafe { if args.sizes.is_narrow() { narrow::forward(isa, args) } else { dense::forward(isa, args) } }
}

/// Takes a gradient through an attention.
///
/// # Safety
/// All pointers are good for the sizes.
pub(super) unsafe fn backward(isa: Isa, args: &Backward) {
    // SAFETY: as the caller says.
    unsafe { if args.sizes.is_narrow() { narrow::backward(isa, args) } else { dense::backward(isa, args) } }
}

impl Sizes {
    fn is_narrow(&self) -> bool {
        is_narrow(self.head_dim, self.attention, self.masked)
    }

    fn embed_dim(&self) -> usize {
        self.attention.heads * self.head_dim
    }
}

impl Rows {
    /// The first row of a head of an image of `rows` rows.
    unsafe fn of(self, image: usize, rows: usize, column: usize) -> *const f32 {
        unsafe { self.at.add(image * rows * self.stride + column) }
    }
}

impl RowsMut {
    /// The first row of a head of an image of `rows` rows.
    unsafe fn of(self, image: usize, rows: usize, column: usize) -> *mut f32 {
        unsafe { self.at.add(image * rows * self.stride + column) }
    }
}
