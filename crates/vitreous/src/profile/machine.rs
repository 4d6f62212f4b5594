//! The machine, and what it can do at most: measured once in less than two seconds, and kept in a file.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use vitreous_engine::Isa;

use crate::record::write_atomically;
use crate::regular;
use crate::timing::median;

/// Time to measure each of the two.
const TIME: Duration = Duration::from_millis(500);

/// Rounds of multiply-adds that are timed together: some milliseconds.
const ROUNDS: usize = 500_000;

/// Bytes of the arrays that are read and written, at least and at most; more than all caches hold.
const ARRAYS: [usize; 2] = [96 << 20, 384 << 20];

/// Part of the best repetition that the median one has on a quiet machine.
const NEAR: f64 = 0.85;

/// Rates that a machine can have, in 10^9 per second.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = 1e-3..=1e6;

/// Largest file of roofs that is read.
const BYTES_MAX: u64 = 1 << 20;

/// A machine, as far as times on it depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor.
    pub cpu: String,
    /// Processors that there are.
    pub processors: usize,
    /// Instruction set of the kernels.
    pub instruction_set: String,
    /// Operating system.
    pub os: String,
}

impl Machine {
    /// This machine.
    pub fn this() -> Machine {
        Machine {
            cpu: cpu().unwrap_or_else(|| format!("unknown {} processor", std::env::consts::ARCH)),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            instruction_set: Isa::best().name().to_string(),
            os: std::env::consts::OS.to_string(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Machine { cpu, processors, instruction_set, os } = self;
        write!(f, "{cpu}, {}, {instruction_set}, {os}", crate::numbers::counted(*processors, "processor"))
    }
}

/// The processor's name as Linux has it.
fn cpu() -> Option<String> {
    let text = String::from_utf8(regular::read(Path::new("/proc/cpuinfo"), 64 << 20).ok()?).ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

/// Bytes of the largest cache, where the system says it.
fn cache_bytes() -> Option<usize> {
    let path = Path::new("/sys/devices/system/cpu/cpu0/cache/index3/size");
    let text = String::from_utf8(regular::read(path, 4096).ok()?).ok()?;
    text.trim().strip_suffix('K')?.parse::<usize>().ok()?.checked_mul(1024)
}

/// What a machine can do at most with some threads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Roof {
    /// Floating-point operations per second, in 10^9.
    pub gflops: f64,
    /// Bytes per second that memory reads and writes, in 10^9.
    pub gbytes_per_s: f64,
}

/// A roof in the file.
#[derive(Serialize, Deserialize)]
struct Known {
    machine: Machine,
    threads: usize,
    roof: Roof,
    /// Whether it was measured without other programs, as far as its repetitions say. If not, it is measured again.
    #[serde(default)]
    is_steady: bool,
}

impl Roof {
    /// The roof of this machine: from the file, unless there is none or `again` is true; then it is measured, and kept in the
    /// file. One that was measured while other programs ran is measured again, and the higher one counts. A file that cannot
    /// be read or written only costs the time to measure.
    pub fn find(threads: usize, file: Option<&Path>, again: bool) -> Roof {
        let machine = Machine::this();
        let bytes = file.and_then(|file| regular::read(file, BYTES_MAX).ok());
        let mut known: Vec<Known> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        // More threads than processors have the roof of all processors.
        let threads = threads.min(machine.processors);
        known.retain(|known| known.roof.is_plausible());
        let is_this = |known: &Known| known.machine == machine && known.threads == threads;
        let before = known.iter().find(|known| is_this(known) && !again);
        if let Some(before) = before.filter(|known| known.is_steady) {
            return before.roof;
        }
        let (measured, is_steady) = Roof::measure(threads);
        let roof = before.map_or(measured, |before| measured.or_higher(before.roof));
        known.retain(|known| !is_this(known));
        known.push(Known { machine, threads, roof, is_steady });
        if let (Some(file), Ok(text)) = (file, serde_json::to_vec(&known)) {
            // Without the file, it is measured each time.
            let _ = file.parent().map(std::fs::create_dir_all);
            let _ = write_atomically(file, &text);
        }
        roof
    }

    /// Measures it: the best of some repetitions, because other programs can only make them slower. Also returns whether most
    /// repetitions are near the best.
    fn measure(threads: usize) -> (Roof, bool) {
        let bytes = cache_bytes().map_or(ARRAYS[0], |bytes| (4 * bytes).clamp(ARRAYS[0], ARRAYS[1]));
        let mut work = vitreous_engine::Roof::new(threads, bytes);
        let (gflops, is_first_steady) = best(|| work.multiply_adds(ROUNDS));
        let (gbytes_per_s, is_second_steady) = best(|| work.triad());
        (Roof { gflops, gbytes_per_s }, is_first_steady && is_second_steady)
    }

    /// Operations per byte above which operations limit, not memory.
    pub fn ridge(&self) -> f64 {
        self.gflops / self.gbytes_per_s
    }

    /// The higher of two roofs.
    pub fn or_higher(self, other: Roof) -> Roof {
        Roof { gflops: self.gflops.max(other.gflops), gbytes_per_s: self.gbytes_per_s.max(other.gbytes_per_s) }
    }

    fn is_plausible(&self) -> bool {
        [self.gflops, self.gbytes_per_s].iter().all(|value| PLAUSIBLE.contains(value))
    }
}

/// The most per nanosecond that some repetitions reach, and whether they are steady.
fn best(mut work: impl FnMut() -> u64) -> (f64, bool) {
    let begin = Instant::now();
    let mut rates = Vec::new();
    while begin.elapsed() < TIME {
        let start = Instant::now();
        let amount = work() as f64;
        rates.push(amount / start.elapsed().as_nanos().max(1) as f64);
    }
    let most = rates.iter().copied().fold(0.0, f64::max);
    (most, is_steady(&rates))
}

/// Whether most repetitions are near the best one.
fn is_steady(rates: &[f64]) -> bool {
    median(rates) > NEAR * rates.iter().copied().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_roof_is_read_and_a_damaged_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sub/roof.json");
        let known = |threads: usize, gflops: f64| Known {
            machine: Machine::this(),
            threads,
            roof: Roof { gflops, gbytes_per_s: 3.0 },
            is_steady: true,
        };
        let write = |known: &[Known]| {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, serde_json::to_vec(known).unwrap()).unwrap();
        };
        // More threads than processors are as many.
        let most = Machine::this().processors;
        write(&[known(most, 7.0)]);
        assert_eq!(Roof::find(most + 5, Some(&file), false).gflops, 7.0);
        let other = Known { machine: Machine { cpu: "another".to_string(), ..Machine::this() }, ..known(1, 1.0) };
        write(&[other, known(2, 7.0), known(1, 5.0)]);
        assert_eq!(Roof::find(1, Some(&file), false).gflops, 5.0);
        assert_eq!(Roof::find(2, Some(&file), false).ridge(), 7.0 / 3.0);
        // Measured anew; what is known of other machines and threads stays.
        let begin = Instant::now();
        let read = || serde_json::from_slice::<Vec<Known>>(&std::fs::read(&file).unwrap()).unwrap();
        let measured = Roof::find(1, Some(&file), true);
        // As if on a quiet machine.
        let kept: Vec<Known> = read().into_iter().map(|known| Known { is_steady: true, ..known }).collect();
        write(&kept);
        assert!(measured.is_plausible() && measured.gflops != 5.0);
        assert!(begin.elapsed() < Duration::from_secs(20));
        assert_eq!(Roof::find(1, Some(&file), false), measured);
        assert_eq!(Roof::find(2, Some(&file), false).gflops, 7.0);
        // One of a busy machine is measured again, and only replaced by a higher one.
        write(&[Known { is_steady: false, ..known(1, 1e6) }]);
        let again = Roof::find(1, Some(&file), false);
        assert!(again.gflops == 1e6 && read().len() == 1, "{again:?}");
        write(&[Known { is_steady: false, ..known(1, 1e-3) }]);
        assert!(Roof::find(1, Some(&file), false).gflops > 1e-3);
        assert!(is_steady(&[9.0, 10.0, 9.5]) && !is_steady(&[4.0, 10.0, 5.0]));
        for broken in [Roof { gflops: 1e308, gbytes_per_s: 1e-308 }, Roof { gflops: f64::NAN, gbytes_per_s: 3.0 }] {
            assert!(!broken.is_plausible(), "{broken:?}");
        }
        std::fs::write(&file, b"[{").unwrap();
        assert!(Roof::find(1, Some(&file), false).is_plausible());
        assert!(std::fs::read(&file).unwrap().len() > 10);
    }
}
