//! Reduces a PNG file to the chunks that its pixels depend on.

/// Removes chunks that neither affect pixels nor contain EXIF data: profiles and texts, which a decoder would inflate to
/// any size, and the later frames of an animation. A truncated file stays truncated.
pub fn keep_pixels(bytes: &mut Vec<u8>) {
    const SIGNATURE: usize = 8;
    let (mut from, mut to) = (SIGNATURE, SIGNATURE);
    while let Some(&[a, b, c, d, ref name @ ..]) = bytes.get(from..from + 8) {
        // Length, name and checksum.
        let end = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_add(from + 12).min(bytes.len());
        // A capital first letter marks a critical chunk.
        if name[0].is_ascii_uppercase() || matches!(name, b"tRNS" | b"eXIf") {
            bytes.copy_within(from..end, to);
            to += end - from;
        }
        from = end;
    }
    bytes.truncate(to.min(bytes.len()));
}
