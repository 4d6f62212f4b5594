//! The content of downloads: gzip streams with a known checksum, and tar archives from which only known files are used.
//! Source of the layout: POSIX.1-1988, the `ustar` interchange format.
//!
//! A stream is read through a small buffer and no further than its known size, so a decompression bomb fills neither
//! memory nor disk. Names in an archive are only compared with the wanted names and never used as a path.

use std::io::{self, BufRead, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use md5::Md5;
use sha2::{Digest, Sha256};

use super::FetchError;
use crate::data_sets::{Content, Member};
use crate::record::replace_file;
use crate::{numbers, system_errors};

/// Size of a tar header and of a tar block, in bytes.
const BLOCK: usize = 512;

/// Maximum bytes in an archive in addition to the wanted files: headers and ignored files.
const EXTRA_MAX: u64 = 1 << 20;

/// Why a download is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit(pub String);

impl Unfit {
    fn damaged(error: &io::Error) -> Unfit {
        Unfit(match error.kind() {
            io::ErrorKind::UnexpectedEof => "the gzip data is cut off".to_string(),
            _ => format!("the gzip data is damaged: {}", system_errors::system_error(error)),
        })
    }
}

/// Checks a download; the error is what is wrong with it.
///
/// # Errors
/// When it is not the content of the table.
pub fn check(content: &Content, open: impl Fn() -> io::Result<Box<dyn BufRead>>) -> Result<(), Unfit> {
    let reader = || open().map_err(|error| Unfit(system_errors::system_error(&error)));
    match content {
        Content::Gzip { bytes, sha256 } => check_gzip(reader()?, *bytes, sha256),
        Content::File { bytes, sha256 } => {
            check_bytes(reader()?, *bytes, sha256, |error| Unfit(system_errors::system_error(error)))
        }
        Content::Archive { bytes, md5, members } => {
            let mut sum = Md5::new();
            let found =
                io::copy(&mut reader()?, &mut sum).map_err(|error| Unfit(system_errors::system_error(&error)))?;
            if found != *bytes {
                return Err(Unfit(format!("it has {} bytes, not {}", numbers::count(found), numbers::count(*bytes))));
            }
            let sum = numbers::hexadecimal(&sum.finalize());
            if sum != *md5 {
                return Err(Unfit(format!("its MD5 is {sum}, not {md5}")));
            }
            walk(reader()?, members, |_, file| {
                io::copy(file, &mut io::sink()).map(drop).map_err(|error| Unfit::damaged(&error))
            })
        }
    }
}

/// Reads a gzip stream to its end and compares the content.
///
/// # Errors
/// When it is damaged or has another content; content that is too long is an error at the first extra byte.
pub fn check_gzip(reader: impl BufRead, bytes: u64, sha256: &str) -> Result<(), Unfit> {
    check_bytes(MultiGzDecoder::new(reader), bytes, sha256, Unfit::damaged)
}

/// Reads to the end and compares the content.
///
/// # Errors
/// As [`check_gzip`]; `unread` makes the error of a failed read.
pub fn check_bytes(
    reader: impl Read,
    bytes: u64,
    sha256: &str,
    unread: impl Fn(&io::Error) -> Unfit,
) -> Result<(), Unfit> {
    let mut sum = Sha256::new();
    let found = io::copy(&mut reader.take(bytes + 1), &mut sum).map_err(|error| unread(&error))?;
    if found != bytes {
        let found = if found > bytes { "more".to_string() } else { numbers::count(found) };
        return Err(Unfit(format!("it holds {found} bytes, not {}", numbers::count(bytes))));
    }
    let sum = numbers::hexadecimal(&sum.finalize());
    if sum != sha256 {
        return Err(Unfit(format!("the SHA-256 of its content is {sum}, not {sha256}")));
    }
    Ok(())
}

/// Unpacks the members of an archive into a folder, under their own names.
///
/// # Errors
/// When the archive fails the checks of [`check`], or a file cannot be written.
pub fn unpack(reader: impl BufRead, members: &[Member], folder: &Path) -> Result<(), FetchError> {
    walk(reader, members, |member, file| {
        let path = folder.join(member.name());
        replace_file(&path, |to| io::copy(file, to).map(drop)).map(drop).map_err(FetchError::from)
    })
}

/// Passes each wanted file of an archive to `take`; anything else is ignored.
///
/// # Errors
/// When the archive is damaged or too large; when a wanted file is missing, has another size, occurs twice or is a
/// link; and when `take` fails.
pub fn walk<E: From<Unfit>>(
    reader: impl BufRead,
    members: &[Member],
    mut take: impl FnMut(&Member, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let most = members.iter().map(|member| member.bytes).sum::<u64>() + EXTRA_MAX;
    let mut reader = MultiGzDecoder::new(reader).take(most);
    let mut is_taken = vec![false; members.len()];
    while let Some(header) = next_header(&mut reader)? {
        let wanted = members.iter().position(|member| header.is_called(member.path));
        let mut file = (&mut reader).take(header.bytes);
        if let Some(place) = wanted {
            let member = &members[place];
            let refuse = |what: String| Err(E::from(Unfit(format!("{} in the archive {what}", member.path))));
            if !header.is_file {
                return refuse("is not a regular file".to_string());
            }
            if header.bytes != member.bytes {
                let [found, wanted] = [header.bytes, member.bytes].map(numbers::count);
                return refuse(format!("has {found} bytes, not {wanted}"));
            }
            if std::mem::replace(&mut is_taken[place], true) {
                return refuse("is there twice".to_string());
            }
            take(member, &mut file)?;
        }
        let padding = header.bytes.next_multiple_of(BLOCK as u64) - header.bytes;
        let left = file.limit() + padding;
        let passed =
            io::copy(&mut (&mut reader).take(left), &mut io::sink()).map_err(|error| Unfit::damaged(&error))?;
        if passed < left {
            return Err(ended(&reader).into());
        }
    }
    match is_taken.iter().position(|is_taken| !is_taken) {
        Some(place) => Err(Unfit(format!("{} is not in the archive", members[place].path)).into()),
        None => Ok(()),
    }
}

/// The header of a file in an archive.
struct Header {
    /// The stored path.
    name: Vec<u8>,
    bytes: u64,
    is_file: bool,
}

impl Header {
    fn is_called(&self, path: &str) -> bool {
        self.name.strip_prefix(b"./").unwrap_or(&self.name) == path.as_bytes()
    }
}

/// The error for a stream that ends too early.
fn ended<R>(reader: &io::Take<R>) -> Unfit {
    let is_over = reader.limit() == 0;
    Unfit(if is_over { "the archive holds more than it may" } else { "the archive is cut off" }.to_string())
}

/// Reads a header; `None` at the end of the archive, which is a block of zeros.
fn next_header(reader: &mut io::Take<impl Read>) -> Result<Option<Header>, Unfit> {
    let mut block = [0; BLOCK];
    let mut at = 0;
    while at < BLOCK {
        match reader.read(&mut block[at..]) {
            Ok(0) => return Err(ended(reader)),
            Ok(read) => at += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Unfit::damaged(&error)),
        }
    }
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let damaged = || Unfit("the archive is damaged: invalid header".to_string());
    // The checksum is the sum of the header's bytes, with spaces in place of the checksum itself.
    let sum = block.iter().enumerate().map(|(i, byte)| u64::from(if (148..156).contains(&i) { b' ' } else { *byte }));
    if octal(&block[148..156]) != Some(sum.sum()) {
        return Err(damaged());
    }
    let bytes = octal(&block[124..136]).ok_or_else(damaged)?;
    let mut name = text(&block[345..500]).to_vec();
    // Only POSIX headers store the first part of a long path here.
    if &block[257..263] != b"ustar\0" || name.is_empty() {
        name.clear();
    } else {
        name.push(b'/');
    }
    name.extend_from_slice(text(&block[..100]));
    Ok(Some(Header { name, bytes, is_file: [b'0', 0].contains(&block[156]) }))
}

/// A text field up to its zero byte.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number as tar writes it: octal digits with spaces or zero bytes around them.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    // Eleven octal digits at most, so a u64 holds them.
    u64::from_str_radix(text.trim_matches([' ', '\0']), 8).ok()
}
