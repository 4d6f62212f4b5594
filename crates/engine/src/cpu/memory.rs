//! Memory for kernels: aligned to cache lines, zeroed, and with slack at the end.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Values that a kernel may read beyond the end of a buffer.
const SLACK: usize = 64;

/// A fixed number of values.
pub(super) struct Buffer {
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
        // SAFETY: the layout is not empty, because of the slack.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start.cast::<f32>()).unwrap_or_else(|| handle_alloc_error(layout));
        Buffer { start, len }
    }

    fn layout(len: usize) -> Layout {
        let bytes = (len + SLACK) * size_of::<f32>();
        Layout::from_size_align(bytes, 64).expect("a plan's size was checked against the memory there is")
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
        // SAFETY: `len` initialised values live as long as the buffer; `&self` keeps writers away.
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
        unsafe { dealloc(self.start.as_ptr().cast(), Buffer::layout(self.len)) }
    }
}

/// A pointer that threads share; whoever uses it keeps to the part of the memory that is its own.
pub(super) struct Shared<T>(*mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: it is only a number; the code that follows the pointer answers for it.
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
}
