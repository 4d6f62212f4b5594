//! Memory for kernels: zeroed, and aligned to cache lines.
//!
//! Buffers use the allocator's own alignment: it then returns pages as the system provides them, zeroed
//! and not yet present. So memory that is never written to takes none, and each page is near the thread that writes to
//! it first. (For a larger alignment, it would fill all pages on the calling thread.)

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Where buffers start: at a cache line.
const ALIGN: usize = 64;

/// A fixed number of values.
pub(super) struct Buffer {
    /// The allocation.
    allocation: NonNull<u8>,
    /// The first cache line in it.
    start: NonNull<f32>,
    len: usize,
}

// SAFETY: the buffer owns its memory, as a `Box<[f32]>` would.
unsafe impl Send for Buffer {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Allocates `len` zeros.
    pub fn new(len: usize) -> Self {
        let layout = Buffer::layout(len);
        // SAFETY: the layout is not empty, because of the room for alignment.
        let allocation = unsafe { alloc_zeroed(layout) };
        let allocation = NonNull::new(allocation).unwrap_or_else(|| handle_alloc_error(layout));
        // SAFETY: the layout has room for the values at any offset of the first cache line.
        let start = unsafe { allocation.add(allocation.align_offset(ALIGN)) }.cast();
        Buffer { allocation, start, len }
    }

    fn layout(len: usize) -> Layout {
        let bytes = len.checked_mul(size_of::<f32>()).and_then(|bytes| bytes.checked_add(ALIGN - align_of::<f32>()));
        let layout = bytes.and_then(|bytes| Layout::from_size_align(bytes, align_of::<f32>()).ok());
        layout.expect("a plan's size was checked against the memory there is")
    }

    /// Pointer for kernels.
    pub fn pointer(&mut self) -> *mut f32 {
        self.start.as_ptr()
    }

    /// Pointer for kernels that only read.
    pub fn read(&self) -> *const f32 {
        self.start.as_ptr()
    }

    pub fn as_slice(&self) -> &[f32] {
        // SAFETY: `len` initialized values live as long as the buffer; `&self` keeps writers away.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as above, and `&mut self` keeps everybody else away.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.allocation.as_ptr(), Buffer::layout(self.len)) }
    }
}

/// A pointer that threads share; each thread uses only its own part of the memory.
pub(super) struct Shared<T>(*mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: it is only a number; the code that dereferences it is responsible.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub fn new(pointer: *mut T) -> Self {
        Shared(pointer)
    }

    pub fn get(self) -> *mut T {
        self.0
    }

    /// The pointer `count` values further on; null stays null.
    pub fn at(self, count: usize) -> *mut T {
        if self.0.is_null() { self.0 } else { self.0.wrapping_add(count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_zeros_that_start_at_a_cache_line() {
        for len in [0, 1, 15, 16, 17, 1000, 100_003] {
            let mut buffer = Buffer::new(len);
            assert_eq!(buffer.read() as usize % ALIGN, 0, "{len}");
            assert!(buffer.as_slice().len() == len && buffer.as_slice().iter().all(|&x| x == 0.0), "{len}");
            buffer.as_mut_slice().fill(1.0);
        }
    }
}
