//! All integration tests that can share a process: one test program links much faster than one per subject.
//!
//! A module per subject; `common` and `mirror` are helpers. Most tests run the real program (`vitreous`) in a temporary
//! folder. Tests run in parallel on threads of this process, so a test must not change the process: no current directory,
//! environment variable, umask or limit. Set those on the child process instead. A test that needs its own process is a
//! test program of its own, as `fuzzing` is (its global allocator counts memory); `tidy` lists them.

mod advise;
mod common;
mod compare;
mod data_show;
mod decoding;
mod evaluate;
mod examples;
mod fetch;
mod fetch_archives;
mod fetch_network;
#[cfg(unix)]
mod folders;
mod golden;
mod importing;
mod inspect;
#[cfg(unix)]
mod limits;
mod mirror;
// The filter of system calls that takes the locks away holds for one thread and its children only.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod no_locks;
mod nonfinite;
mod old_runs;
mod photos;
mod plots;
mod preflight;
mod profile;
mod reading;
mod recipes;
mod report;
mod restart;
mod resume;
#[cfg(unix)]
mod run_folders;
mod runs;
#[cfg(unix)]
mod slurm;
mod splits;
mod sweep;
mod sweep_ranking;
mod tensorboard;
#[cfg(unix)]
mod terminal;
mod tidy;
mod train;
mod verify;
mod words;
