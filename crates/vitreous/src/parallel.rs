//! Work that several threads share.

use std::thread;

/// Does the same work on so many threads, the caller's among them, and returns when all have ended. Where the system
/// starts fewer threads, those do all of it: `work` takes what is to be done next from a list that they share.
pub fn on_threads(threads: usize, work: impl Fn() + Sync) {
    thread::scope(|scope| {
        for _ in 1..threads {
            if thread::Builder::new().spawn_scoped(scope, &work).is_err() {
                break;
            }
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn each_thread_does_the_work_once() {
        let seen = Mutex::new(Vec::new());
        on_threads(3, || seen.lock().unwrap().push(thread::current().id()));
        let seen = seen.into_inner().unwrap();
        assert_eq!(seen.len(), 3);
        assert!(seen.contains(&thread::current().id()) && seen[0] != seen[1] && seen[1] != seen[2]);
    }
}
