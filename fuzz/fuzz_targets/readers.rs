//! Runs the readers of `crates/vitreous/tests/fuzzing/readers` under libFuzzer, one at a time:
//!
//! ```sh
//! cargo install cargo-fuzz
//! cd fuzz
//! READER=idx cargo +nightly fuzz run -s none readers found/idx corpus/idx seeds/idx -- -max_total_time=600 -max_len=20000
//! ```
//!
//! The readers are idx, cifar, config, sweep, weights, state, run, archive, picture, pickle and npz. Seeds are written
//! at the start; new inputs go into the first folder. `TMPDIR=/dev/shm` makes most readers faster, because each input is written to
//! files. This reduces new inputs to a small corpus:
//!
//! ```sh
//! READER=idx cargo +nightly fuzz run -s none readers corpus/idx found/idx -- -set_cover_merge=1 -use_counters=0 -max_len=1000
//! ```
//!
//! An input that makes a reader fail belongs there too: the ordinary tests read the corpus.

#![no_main]

#[path = "../../crates/vitreous/tests/fuzzing/readers/mod.rs"]
mod readers;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&readers::Target> = LazyLock::new(|| {
    let name = std::env::var("READER").unwrap_or_default();
    readers::target(&name)
});

fn write_seeds() {
    let folder = |of: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(of).join(TARGET.name);
    let [found, corpus, seeds] = ["found", "corpus", "seeds"].map(folder);
    for folder in [&found, &corpus, &seeds] {
        fs::create_dir_all(folder).expect("the folder can be created");
    }
    for (number, seed) in (TARGET.seeds)().iter().enumerate() {
        fs::write(seeds.join(format!("seed-{number}")), seed).expect("a seed can be written");
    }
}

fuzz_target!(init: write_seeds(), |bytes: &[u8]| readers::check(*TARGET, bytes));
