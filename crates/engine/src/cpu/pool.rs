//! Threads that wait for work between the phases of a step: a short spin first, then sleep.
//!
//! A spinning thread occupies a processor. So threads spin only while the awake threads of all pools of the process
//! have a processor each: two pools that work at the same time, each as large as the machine, sleep at once,
//! and a pool that works alone spins, even if many others sleep.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::{JoinHandle, Thread};

/// A job; its lifetime is that of the call to [`Pool::run`], which waits for all threads.
type Job = &'static (dyn Fn(usize) + Sync);

/// The awake threads of some pools: those that work or spin.
struct Crowd {
    awake: AtomicUsize,
    processors: usize,
    /// Spins before a thread sleeps, while there is a processor for it.
    spins: u32,
}

/// The threads of all pools of the process.
static PROCESS: LazyLock<Crowd> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Crowd { awake: AtomicUsize::new(0), processors, spins: 20_000 }
});

impl Crowd {
    /// Whether a waiting thread may continue to spin after this many spins.
    fn may_spin(&self, turns: u32) -> bool {
        turns < self.spins && self.awake.load(Ordering::Acquire) <= self.processors
    }

    /// Counts a thread for as long as the result lives.
    fn enter(&self) -> Awake<'_> {
        self.awake.fetch_add(1, Ordering::AcqRel);
        Awake(self)
    }
}

/// A thread that is awake.
struct Awake<'a>(&'a Crowd);

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        self.0.awake.fetch_sub(1, Ordering::AcqRel);
    }
}

struct State {
    crowd: &'static Crowd,
    /// Number of the latest job.
    epoch: AtomicUsize,
    /// Threads that have finished it.
    finished: AtomicUsize,
    job: Mutex<Option<Job>>,
    stop: AtomicBool,
    /// The panic of a job.
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
}

/// A fixed number of threads, the caller's included.
pub(super) struct Pool {
    state: Arc<State>,
    workers: Vec<(JoinHandle<()>, Thread)>,
}

impl Pool {
    /// Starts `threads - 1` threads, or as many of them as the system allows.
    pub fn new(threads: usize) -> Self {
        Pool::among(&PROCESS, threads)
    }

    /// Starts a pool among the threads of others.
    fn among(crowd: &'static Crowd, threads: usize) -> Self {
        let state = Arc::new(State {
            crowd,
            epoch: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            job: Mutex::new(None),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
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
        let state = &*self.state;
        if self.workers.is_empty() {
            let _awake = state.crowd.enter();
            return job(0);
        }
        // SAFETY: the threads use the job only before they count themselves as finished, and this function does
        // not return, not even by a panic of its own part, before all of them have.
        let forever = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(job) };
        *lock(&state.job) = Some(forever);
        state.finished.store(0, Ordering::Relaxed);
        state.epoch.fetch_add(1, Ordering::SeqCst);
        // After the job can be seen: a worker that spins must not take its own caller for another pool's thread.
        let _awake = state.crowd.enter();
        for (_, thread) in &self.workers {
            thread.unpark();
        }
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        let mut turns = 0;
        while state.finished.load(Ordering::Acquire) < self.workers.len() {
            wait_a_little(&mut turns, state.crowd);
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

fn wait_a_little(turns: &mut u32, crowd: &Crowd) {
    if crowd.may_spin(*turns) {
        *turns += 1;
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

fn work(state: &State, index: usize) {
    let mut done = 0;
    let mut awake = state.crowd.enter();
    loop {
        let mut turns = 0;
        while state.epoch.load(Ordering::SeqCst) == done {
            if state.crowd.may_spin(turns) {
                turns += 1;
                std::hint::spin_loop();
            } else if state.epoch.load(Ordering::SeqCst) == done {
                drop(awake);
                // An unpark that came before makes this return at once.
                std::thread::park();
                awake = state.crowd.enter();
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
    use std::sync::Barrier;

    use super::*;

    /// Waits until this many threads are awake; returns false after a timeout.
    fn settles(crowd: &Crowd, awake: usize) -> bool {
        let settled = || crowd.awake.load(Ordering::SeqCst) == awake;
        (0..20_000_000).any(|_| {
            settled() || {
                std::thread::yield_now();
                false
            }
        })
    }

    #[test]
    fn waiting_threads_leave_the_processors_to_a_busy_pool() {
        // Alone they would spin forever.
        static CROWD: Crowd = Crowd { awake: AtomicUsize::new(0), processors: 2, spins: u32::MAX };
        let crowd = &CROWD;
        let mut one = Pool::among(crowd, 2);
        one.run(&|_| {});
        assert!(settles(crowd, 1), "its worker spins");
        let mut other = Pool::among(crowd, 2);
        assert!(settles(crowd, 2), "there is a processor for another");
        let (start, end) = (Barrier::new(3), Barrier::new(3));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                other.run(&|_| {
                    start.wait();
                    end.wait();
                });
            });
            start.wait();
            let leaves = settles(crowd, 2);
            end.wait();
            assert!(leaves, "the waiting worker sleeps, and the two that work are awake");
        });
        // It wakes up for its own job.
        one.run(&|_| {});
    }

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
    fn a_panic_on_another_thread_reaches_the_caller_and_the_pool_still_works() {
        let mut pool = Pool::new(2);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.run(&|thread| assert_eq!(thread, 0, "thread {thread} gives up"));
        }));
        assert!(caught.is_err());
        pool.run(&|_| {});
    }

    #[test]
    fn after_panics_on_all_threads_the_next_job_succeeds() {
        let mut pool = Pool::new(2);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.run(&|thread| panic!("thread {thread} gives up"));
        }));
        assert!(caught.is_err());
        pool.run(&|_| {});
    }
}
