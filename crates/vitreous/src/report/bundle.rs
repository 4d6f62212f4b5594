//! An archive with a report and the files behind it. Equal files give equal bytes: entries have no time.

use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A file of an archive.
pub enum Packed {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// A file that is opened when it is packed: a process may have few open at a time. Without it, nothing is packed.
    File(Box<dyn FnOnce() -> io::Result<File>>),
}

/// Writes an archive of files with their names, with `/` between folders.
///
/// # Errors
/// When a file cannot be read or the archive cannot be written.
pub fn bundle(writer: impl Write, files: Vec<(String, Packed)>) -> io::Result<()> {
    let mut archive = ZipWriter::new_stream(writer);
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).unix_permissions(0o644);
    for (name, file) in files {
        let mut from: Box<dyn Read> = match file {
            Packed::Bytes(bytes) => Box::new(Cursor::new(bytes)),
            Packed::File(open) => match open() {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => Box::new(opened?),
            },
        };
        archive.start_file(name, options)?;
        io::copy(&mut from, &mut archive)?;
    }
    archive.finish()?.flush()
}
