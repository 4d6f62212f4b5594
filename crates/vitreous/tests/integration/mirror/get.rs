//! Fetches a small data set from mirrors, and records what happened.

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use vitreous::data_sets::{Content, Download, RemoteFile};
use vitreous::fetch::{Event, FetchError, Fetched, Options, Proxies, fetch};

use super::Mirror;
use crate::common::Folder;

/// How long a mirror of these tests may be silent.
const TIMEOUT: Duration = Duration::from_millis(250);

/// Bytes that compress badly.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn hex(sum: &[u8]) -> String {
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&<sha2::Sha256 as sha2::Digest>::digest(bytes))
}

/// The result of a fetch, and the events on the way.
pub struct Got {
    pub result: Result<Fetched, FetchError>,
    pub told: Vec<String>,
}

impl Got {
    /// What the mirrors did wrong, in their order.
    pub fn reasons(&self) -> Vec<&str> {
        self.told.iter().filter_map(|line| line.strip_prefix("refused ")).collect()
    }

    pub fn asked(&self) -> usize {
        self.told.iter().filter(|line| line.starts_with("asks ")).count()
    }
}

pub fn get(set: &Download, folder: &Folder, mirrors: &[&Mirror], force: bool) -> Got {
    let urls = mirrors.iter().map(|mirror| mirror.url.clone()).collect();
    get_with(set, folder, urls, |options| options.force = force)
}

/// As [`get`], from these addresses, with other options.
pub fn get_with(set: &Download, folder: &Folder, mirrors: Vec<String>, change: impl FnOnce(&mut Options)) -> Got {
    let mut options = Options {
        dir: folder.path("sets"),
        mirrors,
        force: false,
        timeout: TIMEOUT,
        slowest: 20_000,
        proxies: Proxies::default(),
        certificates: None,
    };
    change(&mut options);
    let told = RefCell::new(Vec::new());
    let started = Instant::now();
    let result = fetch(set.folder, set, &options, &|event| {
        told.borrow_mut().push(match event {
            Event::Asks { from, .. } => format!("asks from {from}"),
            Event::Received { .. } => return,
            Event::Checks { .. } => "checks".to_string(),
            Event::Refused { reason, .. } => format!("refused {reason}"),
        });
    });
    assert!(started.elapsed() < Duration::from_secs(5), "it hangs: {:?}", told.borrow());
    Got { result, told: told.into_inner() }
}

/// A data set of one compressed file, `noise.gz`, whose content is 100,003 bytes of noise.
pub fn with_noise(test: impl FnOnce(&Download, Vec<u8>)) {
    let content = noise(100_003);
    let sum = sha256(&content);
    let files = [RemoteFile { name: "noise.gz", content: Content::Gzip { bytes: 100_003, sha256: &sum } }];
    let mirrors = ["https://mirror.example/"];
    test(&Download { folder: "noise", mirrors: &mirrors, files: &files }, gzip(&content));
}

/// Everything below a folder, files and folders, from it.
pub fn names(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(inside) = folders.pop() {
        for entry in fs::read_dir(inside).into_iter().flatten() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(folder).unwrap().to_str().unwrap().replace('\\', "/"));
            folders.extend(path.is_dir().then_some(path));
        }
    }
    found.sort();
    found
}

#[track_caller]
pub fn assert_whole(folder: &Folder, gz: &[u8]) {
    assert_eq!(names(&folder.path("sets")), ["noise", "noise/noise.gz"]);
    assert!(folder.read("sets/noise/noise.gz") == gz, "the file is the mirror's");
}

#[track_caller]
pub fn assert_nothing(folder: &Folder) {
    assert_eq!(names(&folder.path("sets")), [""; 0]);
}
