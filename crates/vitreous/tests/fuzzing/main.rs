//! Hostile files do the readers no harm: seeds, seeds with a few random changes, and what a fuzzer found (`fuzz/corpus`).
//!
//! A test program of its own: its global allocator counts the memory that a reader holds.

mod readers;

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use readers::{TARGETS, Target, check, target};

/// Memory is counted for all threads.
static ALONE: Mutex<()> = Mutex::new(());

/// Changed inputs for each reader.
const CASES: u32 = 200;

/// A change of an input.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    /// In either byte order.
    Number(Index, u32, bool),
    Insert(Index, Vec<u8>),
    Remove(Index, u8),
    Repeat(Index, u8),
    CutOff(Index),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let at = |index: &Index| index.index(bytes.len().max(1)).min(bytes.len());
        match self {
            Change::Set(index, value) => {
                let at = at(index);
                bytes.splice(at..(at + 1).min(bytes.len()), [*value]);
            }
            Change::Number(index, value, is_big) => {
                let at = at(index);
                let number = if *is_big { value.to_be_bytes() } else { value.to_le_bytes() };
                bytes.splice(at..(at + 4).min(bytes.len()), number);
            }
            Change::Insert(index, inserted) => {
                let at = at(index);
                bytes.splice(at..at, inserted.iter().copied());
            }
            Change::Remove(index, length) => {
                let at = at(index);
                bytes.drain(at..(at + usize::from(*length)).min(bytes.len()));
            }
            Change::Repeat(index, length) => {
                let at = at(index);
                let piece = bytes[at..(at + usize::from(*length)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            Change::CutOff(index) => bytes.truncate(at(index)),
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let number = prop_oneof![any::<u32>(), Just(u32::MAX), Just(i32::MAX as u32), 0..300_u32];
    // Characters of text formats come more often than other bytes.
    let byte = prop_oneof![any::<u8>(), proptest::sample::select(b"0123456789=[]{}\"'.,-\n e".to_vec())];
    prop_oneof![
        4 => (any::<Index>(), byte.clone()).prop_map(|(at, value)| Change::Set(at, value)),
        2 => (any::<Index>(), number, any::<bool>()).prop_map(|(at, value, is_big)| Change::Number(at, value, is_big)),
        2 => (any::<Index>(), prop::collection::vec(byte, 1..20)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, length)| Change::Remove(at, length)),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, length)| Change::Repeat(at, length)),
        1 => any::<Index>().prop_map(Change::CutOff),
    ]
}

/// Inputs that reach more code than the seeds do, and those that once made the reader fail.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{}: nothing was kept of what was found", folder.display());
    files.iter().map(|file| fs::read(file).expect("an input can be read")).collect()
}

fn is_read_without_harm(target: &'static Target) {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let seeds = (target.seeds)();
    assert!(seeds.len() > 2, "{} has seeds", target.name);
    check(target, b"");
    seeds.iter().chain(&corpus(target)).for_each(|input| check(target, input));
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    let changed = (any::<Index>(), prop::collection::vec(change(), 1..8));
    let outcome = TestRunner::new(config).run(&changed, |(seed, changes)| {
        let mut bytes = seed.get(&seeds).clone();
        changes.iter().for_each(|change| change.apply(&mut bytes));
        check(target, &bytes);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{}: {failure}", target.name));
}

#[test]
fn an_image_takes_no_more_memory_than_estimated() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("picture");
    for (name, picture) in readers::large_pictures() {
        fs::write(&path, &picture).expect("the picture is written");
        let counted = vitreous::data::decoding_bytes([&path], 1) as usize;
        assert!(counted > 1000 * 700 * 3, "{name}: {counted}");
        // Gray and in color; the image itself, and the file in the test's own hands.
        for kind in [0, 1] {
            readers::check_picture(name, &[&[kind][..], &picture].concat(), counted + (1 << 18));
        }
    }
}

/// A test for each reader, under its name.
macro_rules! readers {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            is_read_without_harm(target(stringify!($name)));
        })*

        #[test]
        fn every_reader_has_a_test() {
            assert_eq!(TARGETS.each_ref().map(|target| target.name), [$(stringify!($name)),*]);
        }
    };
}

readers!(idx cifar config sweep weights state run archive picture pickle npz);
