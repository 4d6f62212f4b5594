//! Threads that wait for work between the phases of a step: a short spin first, then sleep.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, Thread};

/// A job as the threads see it; the lifetime is that of the call to [`Pool::run`], which waits for all of them.
type Job = &'static (dyn Fn(usize) + Sync);

struct State {
    /// Number of the latest job.
    epoch: AtomicUsize,
    /// Threads that have finished it.
    finished: AtomicUsize,
    job: Mutex<Option<Job>>,
    stop: AtomicBool,
    /// What a job panicked with.
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
    /// Turns of the waiting loop before a thread sleeps.
    spins: u32,
}

/// A fixed number of threads, the caller's included.
pub(super) struct Pool {
    state: Arc<State>,
    workers: Vec<(JoinHandle<()>, Thread)>,
}

impl Pool {
    /// Starts `threads - 1` threads, or as many of them as the system allows.
    pub fn new(threads: usize) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        // Where threads outnumber processors, a waiting thread holds up one that works.
        let spins = if threads <= processors { 20_000 } else { 0 };
        let state = Arc::new(State {
            epoch: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            job: Mutex::new(None),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
            spins,
        });
        let workers = (1..threads)
            .map_while(|index| {
                let state = Arc::clone(&state);
                let name = format!("engine-{index}");
                let worker = std::thread::Builder::new().name(name).spawn(move || work(&state, index)).ok()?;
                let thread = worker.thread().clone();
                Some((worker, thread))
            })
            .collect();
        Pool { state, workers }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job` once on each thread with the thread's number, and returns when all are done.
    pub fn run(&mut self, job: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() {
            return job(0);
        }
        let state = &*self.state;
        // SAFETY: the threads use the job only before they count themselves as finished, and this function does
        // not return, not even by a panic of its own part, before all of them have.
        let forever = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(job) };
        *lock(&state.job) = Some(forever);
        state.finished.store(0, Ordering::Relaxed);
        state.epoch.fetch_add(1, Ordering::SeqCst);
        for (_, thread) in &self.workers {
            thread.unpark();
        }
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        let mut turns = 0;
        while state.finished.load(Ordering::Acquire) < self.workers.len() {
            wait_a_little(&mut turns, state.spins);
        }
        *lock(&state.job) = None;
        // Taken in any case: the next job must not meet it.
        let others = lock(&state.panic).take();
        if let Some(panic) = own.err().or(others) {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        self.state.epoch.fetch_add(1, Ordering::SeqCst);
        for (worker, thread) in self.workers.drain(..) {
            thread.unpark();
            // A worker catches the panics of its jobs, so it has none of its own to hand on.
            let _ = worker.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn wait_a_little(turns: &mut u32, spins: u32) {
    if *turns < spins {
        *turns += 1;
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

fn work(state: &State, index: usize) {
    let mut done = 0;
    loop {
        let mut turns = 0;
        while state.epoch.load(Ordering::SeqCst) == done {
            if turns < state.spins {
                turns += 1;
                std::hint::spin_loop();
            } else {
                // An unpark that came before makes this return at once.
                std::thread::park();
            }
        }
        done += 1;
        if state.stop.load(Ordering::SeqCst) {
            return;
        }
        let job = *lock(&state.job);
        if let Some(job) = job
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(index)))
        {
            *lock(&state.panic) = Some(panic);
        }
        state.finished.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_works_once_on_every_job() {
        let mut pool = Pool::new(3);
        for _ in 0..1000 {
            let calls = [const { AtomicUsize::new(0) }; 3];
            pool.run(&|thread| {
                calls[thread].fetch_add(1, Ordering::Relaxed);
            });
            assert!(calls.iter().all(|calls| calls.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn a_panic_on_another_thread_reaches_the_caller_and_the_pool_goes_on() {
        let mut pool = Pool::new(2);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.run(&|thread| assert_eq!(thread, 0, "thread {thread} gives up"));
        }));
        assert!(caught.is_err());
        pool.run(&|_| {});
    }

    #[test]
    fn after_panics_on_all_threads_the_next_job_goes_well() {
        let mut pool = Pool::new(2);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.run(&|thread| panic!("thread {thread} gives up"));
        }));
        assert!(caught.is_err());
        pool.run(&|_| {});
    }
}
