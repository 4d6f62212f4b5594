//! What the processor and the kernel count in a step, all threads together.
//!
//! Linux offers it by the system call `perf_event_open`, where it is permitted and the processor, or the virtual machine,
//! has counters. A counter reads those of all threads that start after it was made.

use std::fmt;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::regular;
use crate::timing::median;

/// What is counted, in the order of [`Counters::values`].
const NAMES: [&str; 5] = ["instructions", "cycles", "cache misses", "context switches", "page faults"];

/// What was counted in a step: the median over the steps. What could not be counted is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Instructions of this program.
    pub instructions: Option<f64>,
    /// Cycles of the processors.
    pub cycles: Option<f64>,
    /// Accesses that missed the last cache.
    pub cache_misses: Option<f64>,
    /// How often a thread had to wait or was interrupted for another one.
    pub context_switches: Option<f64>,
    /// How often a page of memory was accessed that the system had yet to provide.
    pub page_faults: Option<f64>,
    /// What could not be counted, and why.
    pub absent: Vec<String>,
}

/// Counters of this process and its later threads.
pub(super) struct Counters {
    counters: [io::Result<platform::Counter>; NAMES.len()],
    /// What each counted in the steps so far; NaN where it did not run.
    steps: Vec<[f64; NAMES.len()]>,
}

impl Counters {
    /// Begins to count.
    pub fn new() -> Counters {
        Counters { counters: platform::counters(), steps: Vec::new() }
    }

    /// The counts so far; of a counter that there is not, or that did not run, NaN.
    fn values(&mut self) -> [f64; NAMES.len()] {
        self.counters.each_mut().map(|counter| match counter {
            Ok(counter) => platform::read(counter).unwrap_or(f64::NAN),
            Err(_) => f64::NAN,
        })
    }

    /// Counts what a step does.
    pub fn count(&mut self, step: impl FnOnce()) {
        let before = self.values();
        step();
        let after = self.values();
        self.steps.push(std::array::from_fn(|at| after[at] - before[at]));
    }

    /// The medians over the steps.
    pub fn counts(&self) -> Counts {
        let found: [Option<f64>; NAMES.len()] = std::array::from_fn(|at| {
            let values: Vec<f64> = self.steps.iter().map(|step| step[at]).filter(|value| value.is_finite()).collect();
            (!values.is_empty()).then(|| median(&values))
        });
        let mut absent: Vec<(String, Vec<&str>)> = Vec::new();
        for (at, counter) in self.counters.iter().enumerate().filter(|(at, _)| found[*at].is_none()) {
            let why = counter.as_ref().err().map_or_else(|| "other programs use these counters".to_string(), why);
            match absent.iter_mut().find(|(known, _)| *known == why) {
                Some((_, names)) => names.push(NAMES[at]),
                None => absent.push((why, vec![NAMES[at]])),
            }
        }
        let absent = absent.iter().map(|(why, names)| format!("{} are not counted: {why}", listed(names))).collect();
        let [instructions, cycles, cache_misses, context_switches, page_faults] = found;
        Counts { instructions, cycles, cache_misses, context_switches, page_faults, absent }
    }
}

impl Counts {
    /// Instructions in a cycle.
    pub fn per_cycle(&self) -> Option<f64> {
        Some(self.instructions? / self.cycles.filter(|cycles| *cycles > 0.0)?)
    }
}

/// Names in a sentence.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [name] => (*name).to_string(),
        [names @ .., last] => format!("{} and {last}", names.join(", ")),
    }
}

/// Why the system does not count something.
fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let level = regular::read_text(Path::new("/proc/sys/kernel/perf_event_paranoid"), 64);
            let level =
                level.map_or(String::new(), |level| format!("kernel.perf_event_paranoid is {}; ", level.trim()));
            format!("the system does not permit it ({level}containers often forbid it too)")
        }
        io::ErrorKind::NotFound | io::ErrorKind::Unsupported => {
            "this processor, virtual machine or system has no such counters".to_string()
        }
        _ => crate::system_errors::system_error(error),
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let values = [self.instructions, self.cycles, self.cache_misses, self.context_switches, self.page_faults];
        let mut parts: Vec<String> =
            NAMES.iter().zip(values).filter_map(|(name, value)| Some(format!("{} {name}", short(value?)))).collect();
        if let Some(ratio) = self.per_cycle() {
            parts.insert(2, format!("{ratio:.2} instructions per cycle"));
        }
        if !parts.is_empty() {
            parts = vec![format!("{} in a step (medians, all threads together)", parts.join(", "))];
        }
        parts.extend(self.absent.iter().cloned());
        write!(f, "{}", parts.join("; "))
    }
}

/// A count in few digits.
fn short(value: f64) -> String {
    let units = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    match units.iter().find(|(unit, _)| value >= *unit) {
        Some((unit, name)) => format!("{:.2}{name}", value / unit),
        None => format!("{value:.0}"),
    }
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
mod platform {
    use std::io;

    use perf_event::Builder;
    use perf_event::events::{Event, Hardware, Software};

    pub use perf_event::Counter;

    /// The counters in the order of `NAMES`.
    pub fn counters() -> [io::Result<Counter>; super::NAMES.len()] {
        let events: [Event; super::NAMES.len()] = [
            Hardware::INSTRUCTIONS.into(),
            Hardware::CPU_CYCLES.into(),
            Hardware::CACHE_MISSES.into(),
            Software::CONTEXT_SWITCHES.into(),
            Software::PAGE_FAULTS.into(),
        ];
        events.map(|event| {
            let is_of_kernel = matches!(event, Event::Software(_));
            let mut builder = Builder::new().kind(event);
            builder.inherit(true);
            if is_of_kernel {
                // The kernel itself counts these, and may reserve them for administrators.
                builder.include_kernel();
            }
            let mut counter = builder.build()?;
            counter.enable()?;
            Ok(counter)
        })
    }

    /// What a counter has counted. More counters than the processor has take turns, so a count may be a part of the whole.
    pub fn read(counter: &mut Counter) -> Option<f64> {
        let found = counter.read_count_and_time().ok()?;
        let part = found.time_running as f64 / found.time_enabled as f64;
        (found.time_running > 0).then(|| found.count as f64 / part)
    }
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))))]
mod platform {
    use std::io;

    pub enum Counter {}

    pub fn counters() -> [io::Result<Counter>; super::NAMES.len()] {
        super::NAMES.map(|_| Err(io::Error::from(io::ErrorKind::Unsupported)))
    }

    pub fn read(counter: &mut Counter) -> Option<f64> {
        match *counter {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_medians_and_what_is_not_counted_says_why() {
        let refused = |code: i32| Err(io::Error::from_raw_os_error(code));
        // ENOENT, EACCES.
        let counters = [refused(2), refused(2), refused(13), refused(2), refused(2)];
        let nan = f64::NAN;
        let steps = vec![[5e9, nan, nan, 7.0, nan], [3e9, nan, nan, nan, nan], [4e9, nan, nan, 9.0, nan]];
        let counts = Counters { counters, steps }.counts();
        assert_eq!((counts.instructions, counts.context_switches, counts.cycles), (Some(4e9), Some(9.0), None));
        let [processor, kernel] = [&counts.absent[0], &counts.absent[1]];
        assert_eq!(
            processor,
            "cycles and page faults are not counted: this processor, virtual machine or system has no such counters"
        );
        assert!(kernel.starts_with("cache misses are not counted: the system does not permit it ("), "{kernel}");
        let text = Counts { absent: vec!["x are not counted: y".to_string()], cycles: Some(2e9), ..counts }.to_string();
        let start = "4.00G instructions, 2.00G cycles, 2.00 instructions per cycle, 9 context switches in a step (medians, all \
                     threads together); x are not counted: y";
        assert_eq!(text, start);
    }

    /// Whatever this machine offers, what it counts is of the step and of all its threads.
    #[test]
    fn threads_that_start_later_are_counted_too() {
        let mut counters = Counters::new();
        let (begin, begun) = std::sync::mpsc::channel::<()>();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            begun.recv().unwrap();
            // More pages than anything else touches in between.
            std::hint::black_box(vec![1u8; 64 << 20]);
            end.send(()).unwrap();
        });
        counters.count(|| {
            begin.send(()).unwrap();
            ended.recv().unwrap();
        });
        thread.join().unwrap();
        let counts = counters.counts();
        assert!(counts.page_faults.is_none_or(|faults| faults > 16.0), "{counts}");
        let known =
            [counts.instructions, counts.cycles, counts.cache_misses, counts.context_switches, counts.page_faults];
        assert_eq!(known.iter().all(Option::is_some), counts.absent.is_empty(), "{counts}");
    }
}
