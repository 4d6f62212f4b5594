//! Measures the memory and time of a call.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Time limit of a call. Most take less than a millisecond; an image of 134 megapixels takes seconds.
const LONGEST: Duration = Duration::from_secs(20);

/// Counts what is held of the system's memory, and the most that ever was.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn taken(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(held, Ordering::Relaxed);
}

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        unsafe { System.alloc(layout) }
    }

    // Untouched zeros cost nothing.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(start, layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        taken(size);
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.realloc(start, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls `body`, and panics where it does, takes too long, or holds more than `most` bytes at a time. What other threads
/// hold counts as well: there should be none.
pub fn check(name: &str, body: fn(&[u8]), bytes: &[u8], most: usize) {
    let (input, (done, waiting)) = (bytes.to_vec(), channel());
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let worker = thread::spawn(move || {
        body(&input);
        // The receiver is gone only after a timeout.
        let _ = done.send(());
    });
    match waiting.recv_timeout(LONGEST) {
        Err(RecvTimeoutError::Timeout) => panic!("{name}: it hangs on {} bytes", bytes.len()),
        // Sent, or panicked: that is seen next.
        _ => worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
    let held = MOST.load(Ordering::Relaxed).saturating_sub(before);
    assert!(held <= most, "{name}: it holds {held} bytes, where {most} are the most, on {} bytes", bytes.len());
}
