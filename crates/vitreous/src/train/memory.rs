//! Checks that there is enough memory, before any of it is allocated.

use std::fs;
use std::path::{Path, PathBuf};

use vitreous_engine::{Memory, inference_memory, training_memory};

use super::error::Work;
use super::{TrainError, optimizer, threads};
use crate::config::ResolvedConfig;
use crate::config::train::{Keep, OnNonfinite};
use crate::data::{Facts, Wanted};
use crate::evaluate::BATCH;
use crate::models::Model;

/// Memory in addition to images and training: the program's code, images being decoded, outputs.
const MARGIN_BYTES: u64 = 32 << 20;

/// Returns the memory that the engine needs for a training on so many threads, and the bytes of the images.
pub fn memory_needed(config: &ResolvedConfig, model: &Model, facts: &Facts, threads: usize) -> (Memory, u64) {
    let (optimizer, images) = (optimizer(&config.train), config.train.step_images());
    let mut memory = training_memory(&model.graph, model.loss, &[model.correct], &optimizer, images, threads);
    // A checkpoint is copied before it is written, while training continues.
    let mut weights = 2;
    let mut moments = 2;
    if config.train.model_ema_decay.is_some() {
        // The weights files are made of a copy of the average, states of one of the parameters.
        weights += 1;
    }
    if config.train.keep == Keep::LowestTrainLoss {
        // The weights to keep stay in memory until the end of the epoch.
        weights += 1;
    }
    if config.train.on_nonfinite == OnNonfinite::Rollback {
        // The start of the epoch, and a copy of its moments in a state.
        weights += 1;
        moments += 2;
    }
    if config.train.init_from.is_some() {
        // The weights to start with stay in memory.
        weights += 1;
    }
    memory.parameters *= weights;
    memory.optimizer *= moments;
    if facts.validation > 0 {
        // Training leaves wide weights as they are, validation packs all.
        let validation = inference_memory(&model.graph, &[model.logits], BATCH, threads);
        memory.packed = memory.packed.max(validation.packed);
    }
    (memory, facts.image_bytes(Wanted::TrainAndValidation))
}

/// Returns the peak memory of the program, in bytes.
pub fn peak_bytes((memory, images): (Memory, u64)) -> u64 {
    memory.total().saturating_add(images).saturating_add(MARGIN_BYTES)
}

/// Checks that some work fits into the available memory; passes where that is unknown. `fewer_images`: whether fewer
/// images would need less.
///
/// # Errors
/// When it does not fit.
pub fn check_memory(
    work: Work,
    (memory, images): (Memory, u64),
    fewer_images: bool,
    available: Option<u64>,
) -> Result<(), TrainError> {
    let needed = peak_bytes((memory, images));
    match available {
        Some(available) if needed > available => {
            Err(TrainError::Memory { work, needed, available, activations: memory.activations, fewer_images })
        }
        _ => Ok(()),
    }
}

/// Checks that there is memory to decode images in addition to what is held, before the engine allocates its own.
///
/// # Errors
/// When there is too little memory.
pub fn check_decoding(held: u64, decoding: u64, available: Option<u64>) -> Result<(), TrainError> {
    let needed = held.saturating_add(decoding).saturating_add(MARGIN_BYTES);
    match available {
        Some(available) if decoding > 0 && needed > available => {
            Err(TrainError::Memory { work: Work::Decoding, needed, available, activations: 0, fewer_images: false })
        }
        _ => Ok(()),
    }
}

/// Stack of a thread.
const STACK_BYTES: u64 = 2 << 20;

/// Address space that glibc's allocator sets aside for a heap: each thread has its own, up to a number of heaps.
const HEAP_BYTES: u64 = 64 << 20;

/// Most such heaps for each processor.
const HEAPS_OF_A_PROCESSOR: u64 = 8;

/// Returns the bytes that a program with this many threads may still allocate: the system's available memory, or less
/// where this process (`ulimit -v`, `ulimit -d`) or its container has a limit.
pub fn available_memory(threads: usize) -> Option<u64> {
    let system = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_available(&text));
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| group_left(&text, "/sys/fs/cgroup"));
    system.into_iter().chain(group).chain(limits_left(threads)).min()
}

/// Reads `MemAvailable` of `/proc/meminfo`.
fn mem_available(meminfo: &str) -> Option<u64> {
    kibibytes(meminfo, "MemAvailable:")
}

/// Reads a number of kibibytes behind a name, as bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Returns what the lowest limit of this process leaves, if there is one: `ulimit -v` counts all reserved addresses,
/// `ulimit -d` the writable ones.
#[cfg(unix)]
fn limits_left(threads: usize) -> Option<u64> {
    use rustix::process::{Resource, getrlimit};
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let [addresses, writable] = taken_by_threads(threads, self::threads(0));
    let left = |resource, used, by_threads| limit_left(getrlimit(resource).current, &status, used, by_threads);
    let left = [left(Resource::As, "VmSize:", addresses), left(Resource::Data, "VmData:", writable)];
    left.into_iter().flatten().min()
}

/// Other systems have no such limits.
#[cfg(not(unix))]
fn limits_left(_: usize) -> Option<u64> {
    None
}

/// Address space of the threads themselves, including the writer thread, and the writable part of it.
fn taken_by_threads(threads: usize, processors: usize) -> [u64; 2] {
    let threads = threads as u64 + 1;
    let heaps = threads.min(HEAPS_OF_A_PROCESSOR * processors as u64);
    [threads * STACK_BYTES + heaps * HEAP_BYTES, threads * STACK_BYTES]
}

/// What is left of a limit when the threads have started.
fn limit_left(limit: Option<u64>, status: &str, used: &str, by_threads: u64) -> Option<u64> {
    let taken = kibibytes(status, used).unwrap_or(0) + by_threads;
    limit.map(|limit| limit.saturating_sub(taken))
}

/// Returns the least that any control group above this process has left.
fn group_left(own_groups: &str, mount: &str) -> Option<u64> {
    let mount = Path::new(mount);
    let lines = own_groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?, parts.next()?))
    });
    let left = lines.filter_map(|(controllers, path)| {
        if controllers.is_empty() {
            least(mount, path, ["memory.max", "memory.current", "inactive_file"])
        } else if controllers.split(',').any(|name| name == "memory") {
            let names = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"];
            least(&mount.join("memory"), path, names)
        } else {
            None
        }
    });
    left.min()
}

/// Walks from a group up to the root: every limit on the way holds. Files that can be dropped do not count as used.
fn least(root: &Path, group: &str, [limit, usage, droppable]: [&str; 3]) -> Option<u64> {
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let start = root.join(group.trim_start_matches('/'));
    let folders = start.ancestors().take_while(|folder| folder.starts_with(root));
    let left = folders.filter_map(|folder| {
        let (limit, used) = (number(folder.join(limit))?, number(folder.join(usage))?);
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let files = stat.lines().find_map(|line| line.strip_prefix(droppable)?.trim().parse::<u64>().ok());
        Some(limit.saturating_sub(used.saturating_sub(files.unwrap_or(0))))
    });
    left.min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advice::Explain;

    #[test]
    fn the_systems_figure_is_in_kibibytes() {
        let text = "MemTotal:       24000000 kB\nMemFree:  1 kB\nMemAvailable:   12345678 kB\n";
        assert_eq!(mem_available(text), Some(12_345_678 * 1024));
        assert_eq!(mem_available("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn a_limit_leaves_what_neither_the_process_nor_its_threads_take() {
        let status = "VmPeak:\t  999 kB\nVmSize:\t    1000 kB\nVmData:\t 10 kB\n";
        assert_eq!(limit_left(None, status, "VmSize:", 7), None);
        assert_eq!(limit_left(Some(5_000_000), status, "VmSize:", 7), Some(5_000_000 - 1_024_000 - 7));
        assert_eq!(limit_left(Some(5_000), status, "VmData:", 0), Some(0));
        assert_eq!(limit_left(Some(5_000), "", "VmData:", 0), Some(5_000));
    }

    #[test]
    fn each_thread_has_a_stack_and_a_heap_until_there_are_eight_heaps_for_each_processor() {
        let mebibytes = |threads, processors| taken_by_threads(threads, processors).map(|bytes| bytes >> 20);
        assert_eq!(mebibytes(2, 2), [3 * 66, 3 * 2]);
        assert_eq!(mebibytes(64, 2), [65 * 2 + 16 * 64, 65 * 2]);
        assert_eq!(mebibytes(64, 99), [65 * 66, 65 * 2]);
    }

    #[test]
    fn every_group_on_the_way_up_counts_and_files_that_can_be_dropped_are_free() {
        let root = tempfile::tempdir().unwrap();
        let group = |path: &str, files: [(&str, &str); 3]| {
            let folder = root.path().join(path);
            fs::create_dir_all(&folder).unwrap();
            files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
        };
        let v2 = |max, current, stat| [("memory.max", max), ("memory.current", current), ("memory.stat", stat)];
        group("a/b", v2("max\n", "50\n", "anon 1\n"));
        group("a", v2("1000\n", "700\n", "anon 1\ninactive_file 100\n"));
        let mount = root.path().to_str().unwrap();
        assert_eq!(group_left("0::/a/b\n", mount), Some(400));
        assert_eq!(group_left("0::/elsewhere\n", mount), None);
        let v1 = |limit, usage| {
            [
                ("memory.limit_in_bytes", limit),
                ("memory.usage_in_bytes", usage),
                ("memory.stat", "total_inactive_file 5\n"),
            ]
        };
        group("memory/c", v1("300\n", "100\n"));
        assert_eq!(group_left("4:cpu,cpuacct:/c\n3:memory:/c\n", mount), Some(205));
    }

    #[test]
    fn pictures_that_are_decoded_together_must_fit() {
        let check = |decoding, available| check_decoding(1_000_000, decoding, available);
        assert_eq!([check(900_000_000, Some(1_000_000_000)), check(900_000_000, None)], [Ok(()), Ok(())]);
        // Of packed files nothing is decoded: their images are counted with the training.
        assert_eq!(check(0, Some(1)), Ok(()));
        let error = check(900_000_000, Some(500_000_000)).unwrap_err();
        let expected = "decoding the images needs 934.6 MB of memory, but 500.0 MB are available";
        assert_eq!(
            (error.to_string(), error.hint().unwrap()),
            (expected.into(), "use fewer train.threads, or smaller images".into())
        );
    }

    #[test]
    fn what_does_not_fit_is_told_with_both_numbers() {
        let memory = Memory { activations: 900_000_000, parameters: 50_000_000, ..Memory::default() };
        let needed = (memory, 17_000_000);
        let check = |needed, fewer, available| check_memory(Work::Training, needed, fewer, available);
        assert_eq!(check(needed, true, Some(2_000_000_000)), Ok(()));
        assert_eq!(check(needed, true, None), Ok(()));
        let error = check(needed, true, Some(500_000_000)).unwrap_err();
        assert_eq!(error.to_string(), "training needs 1.0 GB of memory, but 500.0 MB are available");
        assert_eq!(error.hint().unwrap(), "use a smaller train.batch_size, fewer train.threads, or a smaller model");
        // The memory that grows with the batch is small relative to the images, which a packed file always has in
        // memory.
        let hint = |fewer| check((memory, 17_000_000_000), fewer, Some(500_000_000)).unwrap_err().hint().unwrap();
        assert_eq!(
            hint(true),
            "use a smaller model (embed_dim, depth), or fewer images with a smaller data.limit_train"
        );
        assert_eq!(hint(false), "use a smaller model (embed_dim, depth), or end other programs");
    }
}
