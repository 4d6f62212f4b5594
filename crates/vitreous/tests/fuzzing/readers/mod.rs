//! Every reader of foreign files, as a function of bytes: no panic, no hang, and no more memory than stated.
//! `tests/fuzzing` runs them in the ordinary test run, `fuzz/` at the root at length.

mod bodies;
mod seeds;
mod watch;

/// A reader, its seed inputs, and its memory limit.
pub struct Target {
    pub name: &'static str,
    /// Reads bytes that may be anything.
    pub body: fn(&[u8]),
    /// Valid inputs, and some with false headers, from which fuzzing starts.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// The most memory that may be held at a time while these bytes are read.
    pub memory_bytes_max: fn(&[u8]) -> usize,
}

/// What any reader may hold in addition to what grows with its input.
const BASE: usize = 1 << 20;

/// All readers.
pub static TARGETS: [Target; 11] = [
    Target {
        name: "idx",
        body: bodies::idx,
        seeds: seeds::idx,
        // Deflate makes at most 1032 bytes of one, and images are held once.
        memory_bytes_max: |bytes| BASE + 1100 * bytes.len(),
    },
    Target {
        name: "cifar",
        body: bodies::cifar,
        seeds: seeds::cifar,
        // The bytes lie in all six files.
        memory_bytes_max: |bytes| BASE + 16 * bytes.len(),
    },
    Target {
        name: "config",
        body: bodies::config,
        seeds: seeds::config,
        // A few letters can ask for a thousand blocks, of which the graph and the summary are made.
        memory_bytes_max: |bytes| 64 * BASE + 1000 * bytes.len(),
    },
    Target {
        name: "sweep",
        body: bodies::sweep,
        seeds: seeds::sweep,
        // There are 10,000 settings at most; each repeats the assignments, which have few bytes and a string each, and has
        // a name and a place in a list.
        memory_bytes_max: |bytes| BASE + 10_000 * (500 + 6 * bytes.len()),
    },
    Target {
        name: "weights",
        body: bodies::weights,
        seeds: seeds::weights,
        memory_bytes_max: |bytes| 4 * BASE + 1000 * bytes.len(),
    },
    Target {
        name: "state",
        body: bodies::state,
        seeds: seeds::state,
        // The valid file next to the input is written through a buffer of one megabyte.
        memory_bytes_max: |bytes| 2 * BASE + 400 * bytes.len(),
    },
    Target { name: "run", body: bodies::run, seeds: seeds::run, memory_bytes_max: |bytes| BASE + 400 * bytes.len() },
    Target {
        name: "archive",
        body: bodies::archive,
        seeds: seeds::archive,
        // The buffers of the decompressor.
        memory_bytes_max: |_| BASE,
    },
    Target {
        name: "picture",
        body: bodies::picture,
        seeds: seeds::picture,
        // The file is copied a few times. A picture is held decoded, converted and scaled, and what it says of its
        // size is believed up to a limit; what a profile inflates to is not held.
        memory_bytes_max: |bytes| BASE + 8 * bytes.len() + 16 * bodies::pixels(bytes),
    },
    Target {
        name: "pickle",
        body: bodies::pickle,
        seeds: seeds::pickle,
        // Tensors are up to 100 times as large as the file and a megabyte; two copies exist while axes change.
        memory_bytes_max: |bytes| 6 * BASE + 400 * bytes.len(),
    },
    Target {
        name: "npz",
        body: bodies::npz,
        seeds: seeds::npz,
        memory_bytes_max: |bytes| 6 * BASE + 400 * bytes.len(),
    },
];

/// Returns a reader by its name.
pub fn target(name: &str) -> &'static Target {
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("`{name}` is none of {}", TARGETS.each_ref().map(|target| target.name).join(", ")))
}

/// Runs a reader; panics if it panics, takes too long, or holds too much memory.
pub fn check(target: &'static Target, bytes: &[u8]) {
    watch::check(target.name, target.body, bytes, (target.memory_bytes_max)(bytes));
}

/// Pictures of 1000x700 pixels of every kind that can be made here, with their names.
#[allow(dead_code)] // Not used by the libFuzzer target.
pub fn large_pictures() -> Vec<(&'static str, Vec<u8>)> {
    seeds::large_pictures()
}

/// Decodes a picture, and panics where that holds more memory than stated.
#[allow(dead_code)]
pub fn check_picture(name: &str, bytes: &[u8], most: usize) {
    watch::check(name, bodies::picture, bytes, most);
}
