//! The framing of an event file (TFRecord): of each record its length, a checksum of that, its bytes, a checksum of those.
//!
//! # Source
//! `tensorflow/core/lib/io/record_writer.h`. Checksums are CRC-32C (not the CRC-32 of gzip), "masked".

use std::io::{self, Read};

/// Longest record that is read, in bytes: an image of a few megabytes at most. What claims to be longer is damaged.
const RECORD_MAX: u64 = 64 << 20;

/// Checksums of data that may contain checksums are masked, says the format.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Appends a record.
pub fn add(to: &mut Vec<u8>, record: &[u8]) {
    let length = (record.len() as u64).to_le_bytes();
    to.extend(length);
    to.extend(masked(&length).to_le_bytes());
    to.extend(record);
    to.extend(masked(record).to_le_bytes());
}

/// Reads the next record. There is none where the file ends, also in the middle of a record, as after a kill, or where it
/// is damaged: nothing behind that can be found.
///
/// # Errors
/// When the file cannot be read.
pub fn next(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; 12];
    if !fill(from, &mut head)? {
        return Ok(None);
    }
    let (length, check) = head.split_at(8);
    if check != masked(length).to_le_bytes() {
        return Ok(None);
    }
    let length = u64::from_le_bytes(length.try_into().expect("8 bytes"));
    if length > RECORD_MAX {
        return Ok(None);
    }
    let mut record = vec![0; length as usize];
    let mut check = [0; 4];
    let is_whole = fill(from, &mut record)? && fill(from, &mut check)?;
    Ok((is_whole && check == masked(&record).to_le_bytes()).then_some(record))
}

/// Reads as many bytes as there is room for; false where the file ends before.
fn fill(from: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::hexadecimal;

    #[test]
    fn a_record_has_the_bytes_of_the_format() {
        let mut bytes = Vec::new();
        add(&mut bytes, b"vitreous");
        // What TensorBoard's `tensorboard.summary.writer.record_writer` writes.
        assert_eq!(hexadecimal(&bytes), "0800000000000000ff86240f76697472656f7573809acc72");
    }

    #[test]
    fn records_are_read_up_to_the_first_that_is_cut_or_damaged() {
        let texts: [&[u8]; 3] = [b"first", b"", b"third record"];
        let mut bytes = Vec::new();
        texts.iter().for_each(|text| add(&mut bytes, text));
        let read = |mut bytes: &[u8]| std::iter::from_fn(|| next(&mut bytes).unwrap()).count();
        assert_eq!(read(&bytes), 3);
        let ends = [5 + 16, 5 + 32];
        for cut in 0..bytes.len() {
            let whole = ends.iter().filter(|end| cut >= **end).count();
            assert_eq!(read(&bytes[..cut]), whole, "cut at {cut}");
            let mut damaged = bytes.clone();
            damaged[cut] ^= 1;
            assert_eq!(read(&damaged), whole, "damaged at {cut}");
        }
    }
}
