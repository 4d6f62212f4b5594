//! Downloads known data sets to where `train` looks for them.
//!
//! Mirrors are not trusted: a file gets its final name only after its size and checksum match the table in
//! [`data_sets`](crate::data_sets). An interrupted download stays as `<file>.part`, and the next attempt resumes it.

pub mod archive;

mod address;
mod certificates;
mod error;
mod guard;
mod part;
mod present;
mod proxy;
mod receive;

use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

pub use error::{FetchError, Refusal};
pub use proxy::{Proxies, Proxy};

use crate::data_sets::{Content, Download, RemoteFile};

use part::Part;
use present::{Found, find};
use receive::Receiver;

/// How data sets are fetched.
#[derive(Clone)]
pub struct Options {
    /// The folder that holds data sets.
    pub dir: PathBuf,
    /// Mirrors to use instead of the data set's own ones, tried in order; empty for its own ones.
    pub mirrors: Vec<String>,
    /// Whether existing files with another content are replaced.
    pub force: bool,
    /// Longest wait for a mirror: to connect, to answer, and between two pieces of a file.
    pub timeout: Duration,
    /// Slowest accepted download, in bytes per second, averaged over a file; below it, the next mirror is tried.
    pub slowest: u64,
    /// Proxies of the environment.
    pub proxies: Proxies,
    /// A PEM file of certificate authorities that replace those that browsers trust.
    pub certificates: Option<PathBuf>,
}

// Written by hand, because addresses of mirrors may hold passwords.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { dir, mirrors, force, timeout, slowest, proxies, certificates } = self;
        let mirrors: Vec<String> = mirrors.iter().map(|mirror| address::shown(mirror)).collect();
        let mut shown = f.debug_struct("Options");
        shown.field("dir", dir).field("mirrors", &mirrors).field("force", force).field("timeout", timeout);
        shown.field("slowest", slowest).field("proxies", proxies).field("certificates", certificates).finish()
    }
}

/// Progress of a download.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// A file is requested from a mirror, from the first missing byte on. Passwords are removed from addresses.
    Asks {
        /// The name of the file.
        file: &'a str,
        /// The address.
        url: &'a str,
        /// The byte at which the download starts.
        from: u64,
    },
    /// Number of bytes received, and the total if the mirror states it.
    Received {
        /// Number of bytes.
        bytes: u64,
        /// Number of bytes of the whole file, where it is known.
        total: Option<u64>,
    },
    /// A mirror did not serve the file.
    Refused {
        /// The address.
        url: &'a str,
        /// The reason.
        reason: &'a str,
    },
    /// The file is complete; its content is being checked and moved to its place.
    Checks {
        /// The name of the file.
        file: &'a str,
    },
}

/// What was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fetched {
    /// The data set.
    pub name: String,
    /// The folder of its files.
    #[serde(serialize_with = "crate::text::lossy")]
    pub folder: PathBuf,
    /// Files that were downloaded, by their names at the mirror.
    pub fetched: Vec<String>,
    /// Files that already existed, and archives whose files did.
    pub present: Vec<String>,
    /// Bytes of the downloaded files.
    pub bytes: u64,
}

/// Downloads the missing files of a data set; `watch` is called with each event.
///
/// # Errors
/// When an existing file has another content, no mirror has a file, or the folder cannot be written.
pub fn fetch(name: &str, set: &Download, options: &Options, watch: &dyn Fn(Event)) -> Result<Fetched, FetchError> {
    let folder = options.dir.join(set.folder);
    let mut found = Fetched { name: name.to_string(), folder, fetched: Vec::new(), present: Vec::new(), bytes: 0 };
    let mut missing = Vec::new();
    for file in set.files {
        match find(&found.folder, file)? {
            Found::Right => found.present.push(file.name.to_string()),
            Found::Wrong { path, reason } if !options.force => {
                let (name, file) = (name.to_string(), file.name.to_string());
                return Err(FetchError::Wrong { name, file, path, reason });
            }
            Found::Wrong { .. } | Found::Missing => missing.push(file),
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    let given = options.mirrors.iter().map(String::as_str);
    let mut mirrors: VecDeque<&str> =
        if options.mirrors.is_empty() { set.mirrors.iter().copied().collect() } else { given.collect() };
    let receivers = Receivers { options, watch };
    receivers.check(&mirrors)?;
    fs::create_dir_all(&found.folder).map_err(|error| FetchError::write(&found.folder, &error))?;
    for (place, file) in missing.iter().enumerate() {
        match receivers.get(file, &found.folder, &mut mirrors) {
            Ok(bytes) => {
                found.bytes += bytes;
                found.fetched.push(file.name.to_string());
            }
            Err(Failure::Here(error)) => return Err(error),
            Err(Failure::Mirrors(refusals)) => {
                // Removes the folder only if it is empty.
                let _ = fs::remove_dir(&found.folder);
                let missing = missing[place..].iter().map(|file| file.name.to_string()).collect();
                let is_archive = matches!(file.content, Content::Archive { .. });
                let folder = found.folder;
                let address = set.mirrors.first().copied().unwrap_or_default().to_string();
                return Err(FetchError::NoMirror { missing, is_archive, refusals, address, folder });
            }
        }
    }
    Ok(found)
}

/// Why a file could not be downloaded.
enum Failure {
    /// The reason of each mirror.
    Mirrors(Vec<Refusal>),
    /// A local error, which another mirror would not solve.
    Here(FetchError),
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Failure::Here(error)
    }
}

/// Makes a receiver for each mirror.
struct Receivers<'a> {
    options: &'a Options,
    watch: &'a dyn Fn(Event),
}

impl Receivers<'_> {
    /// Checks addresses and proxies before the first request.
    fn check(&self, mirrors: &VecDeque<&str>) -> Result<(), FetchError> {
        mirrors.iter().try_for_each(|mirror| Receiver::new(mirror, self.options).map(drop))
    }

    /// Downloads a file from the first mirror that has the correct one; returns the size of the download in bytes.
    /// Later files are requested from that mirror first.
    fn get(&self, file: &RemoteFile, folder: &Path, mirrors: &mut VecDeque<&str>) -> Result<u64, Failure> {
        let mut part = Part::open(&folder.join(format!("{}.part", file.name)))?;
        let mut refusals = Vec::new();
        for place in 0..mirrors.len() {
            let receiver = Receiver::new(mirrors[place], self.options)?;
            let url = receiver.url_of(file.name);
            match receiver.get(&url, file, &mut part, self.watch)? {
                Ok(()) => {
                    mirrors.rotate_left(place);
                    let bytes = part.len();
                    return put_in_place(part, file, folder).map(|()| bytes).map_err(Failure::Here);
                }
                Err(reason) => {
                    (self.watch)(Event::Refused { url: &address::shown(&url), reason: &reason });
                    refusals.push(Refusal { mirror: address::shown(mirrors[place]), reason });
                }
            }
        }
        Err(Failure::Mirrors(refusals))
    }
}

/// Moves a checked download, or the files of a checked archive, to their final names.
fn put_in_place(part: Part, file: &RemoteFile, folder: &Path) -> Result<(), FetchError> {
    match &file.content {
        Content::Gzip { .. } | Content::File { .. } => part.keep_as(&folder.join(file.name)),
        Content::Archive { members, .. } => {
            archive::unpack(part.reader()?, members, folder)?;
            part.remove()
        }
    }
}
