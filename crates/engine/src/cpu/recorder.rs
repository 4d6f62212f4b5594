//! Records what threads work on and when, for a session that was given a clock.
//!
//! Without a clock there are no recorders, and each mark is one branch. The memory of all slices is there before the step.

use std::sync::Arc;

use super::memory::Shared;
use super::pool::Pool;
use crate::profile::{Clock, Slice, Work};

/// What one thread has recorded.
pub(super) struct Recorder {
    clock: Arc<dyn Clock>,
    slices: Vec<Slice>,
    /// Slices for which there was no room.
    dropped: usize,
    /// When the current slice began.
    start: u64,
    part: u32,
    chunk: u32,
    images: u32,
}

impl Recorder {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Recorder { clock, slices: Vec::new(), dropped: 0, start: 0, part: 0, chunk: 0, images: 0 }
    }

    pub fn set_clock(&mut self, clock: &Arc<dyn Clock>) {
        self.clock = Arc::clone(clock);
    }

    pub fn slices(&self) -> &[Slice] {
        &self.slices
    }

    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Forgets all slices, and makes room for so many.
    pub fn clear(&mut self, room: usize) {
        self.slices.clear();
        self.dropped = 0;
        self.slices.reserve_exact(room);
    }
}

/// A thread's recorder, if there is one.
pub(super) struct Track<'a>(Option<&'a mut Recorder>);

impl Track<'_> {
    /// The same for a shorter time.
    pub fn reborrow(&mut self) -> Track<'_> {
        Track(self.0.as_deref_mut())
    }

    /// Says which images the next slices are for.
    pub fn place(&mut self, part: usize, chunk: usize, images: usize) {
        if let Some(recorder) = &mut self.0 {
            (recorder.part, recorder.chunk, recorder.images) = (part as u32, chunk as u32, images as u32);
        }
    }

    /// Begins a slice.
    fn start(&mut self) {
        self.place(0, 0, 0);
        if let Some(recorder) = &mut self.0 {
            recorder.start = recorder.clock.now();
        }
    }

    /// Ends a slice; the next begins.
    #[inline]
    pub fn end(&mut self, work: Work) {
        if let Some(recorder) = &mut self.0 {
            recorder.end(work);
        }
    }
}

impl Recorder {
    #[inline(never)]
    fn end(&mut self, work: Work) {
        let end = self.clock.now();
        let Recorder { part, chunk, images, start, .. } = *self;
        // A step allocates nothing, whatever happens.
        if self.slices.len() < self.slices.capacity() {
            self.slices.push(Slice { work, part, chunk, images, start, end });
        } else {
            self.dropped += 1;
        }
        self.start = end;
    }
}

/// The recorders of all threads; none without a clock.
#[derive(Clone, Copy)]
pub(super) struct Recorders(Shared<Recorder>);

impl Recorders {
    /// Those of a session, one for each thread; none where nothing is recorded.
    pub fn new(recorders: &mut [Recorder], is_recording: bool) -> Self {
        Recorders(Shared::new(if is_recording { recorders.as_mut_ptr() } else { std::ptr::null_mut() }))
    }

    /// Runs a phase: `job` on each thread, with the thread's recorder.
    pub fn run(self, pool: &mut Pool, job: &(dyn Fn(usize, Track) + Sync)) {
        pool.run(&|thread| {
            // SAFETY: each thread takes the recorder of its own number.
            let mut track = Track(unsafe { self.0.at(thread).as_mut() });
            track.start();
            job(thread, track);
        });
        // SAFETY: all threads are done.
        Track(unsafe { self.0.get().as_mut() }).end(Work::Wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> u64 {
            7
        }
    }

    #[test]
    fn slices_without_room_are_counted() {
        let mut recorder = Recorder::new(Arc::new(Still));
        recorder.clear(4);
        let room = recorder.slices.capacity();
        (0..room + 3).for_each(|_| recorder.end(Work::Tree));
        assert_eq!((recorder.slices().len(), recorder.dropped()), (room, 3));
        recorder.clear(4);
        assert_eq!((recorder.slices().len(), recorder.dropped()), (0, 0));
    }
}
