//! The readers of `crates/vitreous/tests/fuzz`, tried at length by libFuzzer, one at a time:
//!
//! ```sh
//! cargo install cargo-fuzz
//! cd fuzz
//! READER=idx cargo +nightly fuzz run -s none readers corpus/idx -- -max_total_time=600 -max_len=20000
//! ```
//!
//! The readers are idx, cifar, config, sweep, weights, state, run, archive and picture. Their seeds are written into the
//! corpus at the start; `TMPDIR=/dev/shm` makes most of them faster, since each try writes files.

#![no_main]

#[path = "../../crates/vitreous/tests/fuzz/mod.rs"]
mod fuzz;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("READER").unwrap_or_default();
    fuzz::target(&name)
});

fn write_seeds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(TARGET.name);
    fs::create_dir_all(&folder).expect("the corpus can be written");
    for (number, seed) in (TARGET.seeds)().iter().enumerate() {
        fs::write(folder.join(format!("seed-{number}")), seed).expect("the corpus can be written");
    }
}

fuzz_target!(init: write_seeds(), |bytes: &[u8]| fuzz::check(*TARGET, bytes));
