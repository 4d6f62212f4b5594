//! Cutting an image into patches.

/// patches[(row, column)][(channel, y, x)] = image[channel][row * patch + y][column * patch + x]
///
/// # Shapes
/// - `axes`: `[channels, height, width]` of the image
pub(crate) fn forward(image: &[f64], axes: &[usize], patch: usize) -> Vec<f64> {
    let &[channels, height, width] = axes else { panic!("an image has three axes, not {axes:?}") };
    let mut patches = Vec::with_capacity(image.len());
    for row in 0..height / patch {
        for column in 0..width / patch {
            for channel in 0..channels {
                for y in 0..patch {
                    for x in 0..patch {
                        patches.push(image[(channel * height + row * patch + y) * width + column * patch + x]);
                    }
                }
            }
        }
    }
    patches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_go_row_by_row_and_their_values_channel_by_channel() {
        // A pixel's value is 100 channel + 10 row + column.
        let image: Vec<f64> = (0..2 * 4 * 6).map(|i| f64::from(i / 24 * 100 + i / 6 % 4 * 10 + i % 6)).collect();
        let patches = forward(&image, &[2, 4, 6], 2);
        assert_eq!(patches[8..16], [2.0, 3.0, 12.0, 13.0, 102.0, 103.0, 112.0, 113.0], "the second patch");
        assert_eq!(patches[24..28], [20.0, 21.0, 30.0, 31.0], "the first of the second row");
    }
}
