//! An archive with a report and the files behind it. Equal files give equal bytes: entries have no time.

use std::fs::File;
use std::io::{self, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A file of an archive.
pub enum Packed {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// An open file.
    File(File),
}

/// Writes an archive of files with their names, with `/` between folders.
///
/// # Errors
/// When a file cannot be read or the archive cannot be written.
pub fn bundle(writer: impl Write, files: Vec<(String, Packed)>) -> io::Result<()> {
    let mut archive = ZipWriter::new_stream(writer);
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).unix_permissions(0o644);
    for (name, file) in files {
        archive.start_file(name, options)?;
        match file {
            Packed::Bytes(bytes) => archive.write_all(&bytes)?,
            Packed::File(mut file) => io::copy(&mut file, &mut archive).map(|_| ())?,
        }
    }
    archive.finish()?.flush()
}
