//! What can keep a data set from being fetched, and the way out.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::archive::Unfit;
use crate::advice::{Explain, Fault, Suggestion};
use crate::record::RecordError;
use crate::system_errors;

/// What a mirror said instead of giving a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its address.
    pub mirror: String,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.mirror, self.reason)
    }
}

/// Says why a data set was not fetched.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum FetchError {
    /// The address of a mirror is none. It may hold a password, which is not shown.
    #[error("`{url}` is no address of a mirror")]
    Mirror { url: String },
    /// What a variable says of a proxy cannot be used. It may hold a password, so it is not shown.
    #[error("the proxy is {reason} ({variable})")]
    Proxy { variable: String, reason: &'static str },
    /// A file has no certificates of authorities.
    #[error("the certificates cannot be used: {reason} ({})", path.display())]
    Certificates { path: PathBuf, reason: String },
    /// A file that is there is not the data set's.
    #[error("this is not the file of {name}: {reason} ({})", path.display())]
    Wrong { name: String, file: String, path: PathBuf, reason: String },
    /// Nobody gives a file.
    #[error("no mirror gives {}: {} ({})", missing[0], list(refusals), folder.display())]
    NoMirror {
        /// This file, and those that were still to come.
        missing: Vec<String>,
        is_archive: bool,
        refusals: Vec<Refusal>,
        /// Where they can be had by hand.
        address: String,
        /// The folder of the data set, in that of all.
        folder: PathBuf,
    },
    /// Somebody else is at it.
    #[error("another process fetches this file ({})", path.display())]
    Busy { path: PathBuf },
    /// An archive has become another one after it was looked at.
    #[error("the download was changed while it was unpacked: {reason}")]
    Changed { reason: String },
    /// A file or folder cannot be written.
    #[error("cannot write: {reason} ({})", path.display())]
    Write { path: PathBuf, reason: String },
    /// A file of an archive cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A file cannot be read.
    #[error("cannot read: {reason} ({})", path.display())]
    Read { path: PathBuf, reason: String },
}

impl Explain for FetchError {
    fn suggestion(&self) -> Option<Suggestion> {
        self.hint().map(|hint| Suggestion::new().text(hint))
    }

    fn fault(&self) -> Fault {
        match self {
            // It may work in an hour, with the same words.
            FetchError::NoMirror { .. } | FetchError::Busy { .. } => Fault::Work,
            _ => Fault::Input,
        }
    }
}

impl FetchError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            FetchError::Mirror { .. } => "use an address such as https://example.org/mnist/".to_string(),
            FetchError::Proxy { .. } => "set it to an address such as http://proxy.example.org:3128".to_string(),
            FetchError::Certificates { .. } => "name a PEM file in SSL_CERT_FILE, or leave that out".to_string(),
            FetchError::Wrong { file, .. } => format!("fetch {file} anew with --force, or move the file away"),
            FetchError::NoMirror { missing, is_archive: true, address, folder, .. } => {
                let (file, dir) = (&missing[0], folder.parent().unwrap_or(folder).display());
                format!("get {address}{file} by hand and unpack it in {dir}, or name a --mirror")
            }
            FetchError::NoMirror { missing, address, folder, .. } => {
                let (files, folder) = (missing.join(", "), folder.display());
                format!("get {files} by hand from {address} and put them into {folder}, or name a --mirror")
            }
            FetchError::Busy { .. } => "wait for it".to_string(),
            FetchError::Changed { .. } => "start again when nothing writes to it".to_string(),
            FetchError::Write { .. } | FetchError::Record(_) => {
                "choose another folder with --data-dir DIR, or make room in this one".to_string()
            }
            FetchError::Read { .. } => return None,
        })
    }

    pub(super) fn write(path: &Path, error: &io::Error) -> FetchError {
        FetchError::Write { path: path.to_path_buf(), reason: system_errors::system_error(error) }
    }

    pub(super) fn read(path: &Path, error: &io::Error) -> FetchError {
        FetchError::Read { path: path.to_path_buf(), reason: system_errors::system_error(error) }
    }
}

impl From<Unfit> for FetchError {
    fn from(unfit: Unfit) -> Self {
        FetchError::Changed { reason: unfit.0 }
    }
}

fn list(refusals: &[Refusal]) -> String {
    refusals.iter().map(Refusal::to_string).collect::<Vec<_>>().join("; ")
}
