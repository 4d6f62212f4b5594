//! An image as text, one character per 2x2 pixels.

/// Minimum brightness of a drawn pixel.
const BRIGHT: u8 = 96;

/// Characters by which of their quarters are drawn: 1 upper left, 2 upper right, 4 lower left, 8 lower right.
const QUARTERS: [char; 16] = [' ', '▘', '▝', '▀', '▖', '▌', '▞', '▛', '▗', '▚', '▐', '▜', '▄', '▙', '▟', '█'];

/// Draws a gray image with rows of `width` pixels. Empty lines at its top and bottom are left out.
pub fn blocks(pixels: &[u8], width: usize) -> String {
    let rows: Vec<&[u8]> = pixels.chunks_exact(width).collect();
    let bright = |row: &[u8], column: usize| row.get(column).is_some_and(|&pixel| pixel >= BRIGHT);
    let line = |pair: &[&[u8]]| {
        let lower = pair.get(1).copied().unwrap_or_default();
        let quarters = |column| {
            let found = [
                bright(pair[0], column),
                bright(pair[0], column + 1),
                bright(lower, column),
                bright(lower, column + 1),
            ];
            QUARTERS[found.iter().rev().fold(0, |bits, &bit| 2 * bits + usize::from(bit))]
        };
        let text: String = (0..width).step_by(2).map(quarters).collect();
        text.trim_end().to_string()
    };
    let lines: Vec<String> = rows.chunks(2).map(line).collect();
    let first = lines.iter().position(|line| !line.is_empty()).unwrap_or(0);
    let last = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    lines[first..last.max(first)].iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_pixels_are_a_character() {
        let image = [
            [0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0],
            [255, 0, 0, 200, 0],
            [0, 96, 95, 0, 255],
            [255, 255, 0, 0, 0],
            [255, 255, 0, 0, 0],
            [0, 0, 255, 255, 255],
        ];
        assert_eq!(blocks(&image.concat(), 5), "▚▝▖\n█\n ▀▘\n");
        assert_eq!(blocks(&[0; 20], 5), "");
    }
}
