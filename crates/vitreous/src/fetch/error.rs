//! Errors of fetching a data set, and what to do about them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::archive::Unfit;
use crate::advice::{Argument, Explain, Fault, Place, Source, Suggestion};
use crate::record::RecordError;
use crate::system_errors;

/// Why a mirror did not serve a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its address.
    pub mirror: String,
    /// The reason.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.mirror, self.reason)
    }
}

/// An error of fetching a data set.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum FetchError {
    /// Invalid address of a mirror. A password in it is not shown.
    #[error("invalid mirror address `{url}`")]
    Mirror { url: String },
    /// A variable names an unusable proxy. It may hold a password, so its value is not shown.
    #[error("the proxy is {reason} ({variable})")]
    Proxy { variable: String, reason: &'static str },
    /// A file has no usable certificates.
    #[error("the certificates cannot be used: {reason} ({})", path.display())]
    Certificates { path: PathBuf, reason: String },
    /// An existing file is not the data set's.
    #[error("this is not the file of {name}: {reason} ({})", path.display())]
    Wrong { name: String, file: String, path: PathBuf, reason: String },
    /// No mirror serves a file.
    #[error("no mirror has {}: {} ({})", missing[0], list(refusals), folder.display())]
    NoMirror {
        /// This file and the files after it.
        missing: Vec<String>,
        is_archive: bool,
        refusals: Vec<Refusal>,
        /// Where they can be downloaded by hand.
        address: String,
        /// The data set's folder.
        folder: PathBuf,
    },
    /// Another process fetches the same file.
    #[error("another process fetches this file ({})", path.display())]
    Busy { path: PathBuf },
    /// An archive changed while it was unpacked.
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
    fn place(&self) -> Option<Place> {
        match self {
            FetchError::Mirror { .. } => Some(Place::Argument(Argument::Mirror)),
            FetchError::Proxy { variable, .. } => Some(Place::Config(Source::Argument(variable.clone()), None)),
            FetchError::Certificates { path, .. }
            | FetchError::Wrong { path, .. }
            | FetchError::Busy { path }
            | FetchError::Write { path, .. }
            | FetchError::Read { path, .. } => Some(Place::Path(path.clone())),
            FetchError::NoMirror { folder, .. } => Some(Place::Path(folder.clone())),
            FetchError::Record(error) => error.place(),
            FetchError::Changed { .. } => None,
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        let new = Suggestion::new;
        Some(match self {
            FetchError::Mirror { .. } => new().text("use an address such as https://example.org/mnist/"),
            FetchError::Proxy { .. } => new().text("set it to an address such as http://proxy.example.org:3128"),
            FetchError::Certificates { .. } => new().text("set SSL_CERT_FILE to a PEM file, or unset it"),
            FetchError::Wrong { file, .. } => {
                let again = new().text(format!("fetch {file} again with")).argument(Argument::Force);
                again.or().text("move the file away")
            }
            FetchError::NoMirror { missing, is_archive, address, folder, .. } => {
                let by_hand = match is_archive {
                    true => {
                        let unpacked = format!("download {address}{} yourself and unpack it in", missing[0]);
                        new().text(unpacked).path(folder.parent().unwrap_or(folder))
                    }
                    false => {
                        let files =
                            format!("download {} yourself from {address} and put them into", missing.join(", "));
                        new().text(files).path(folder)
                    }
                };
                by_hand.or().text("name another").argument(Argument::Mirror)
            }
            FetchError::Busy { .. } => new().text("wait for it"),
            FetchError::Changed { .. } => new().text("start again when no other program writes to it"),
            FetchError::Write { .. } | FetchError::Record(_) => {
                let other = new().text("choose another folder with").key("data.dir");
                other.or().text("make room there, or let this user write there")
            }
            FetchError::Read { .. } => return None,
        })
    }

    fn fault(&self) -> Fault {
        match self {
            // The same command may succeed later.
            FetchError::NoMirror { .. } | FetchError::Busy { .. } => Fault::Work,
            _ => Fault::Input,
        }
    }
}

impl FetchError {
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
