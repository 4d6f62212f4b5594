//! Weights for another grid of tokens, another patch size, or other channels.
//!
//! Source: timm's `resample_abs_pos_embed`, `resample_patch_embed` and `adapt_input_conv`; the filter is that of PyTorch's
//! `interpolate` with `mode="bicubic", antialias=True`, which is Pillow's. FlexiViT: Beyer et al. 2023, section 3.4.

/// Weights of a bicubic filter that is wider when shrinking.
///
/// # Shapes
/// - returned: `[to, from]`, row by row
fn bicubic(from: usize, to: usize) -> Vec<Vec<f64>> {
    let cubic = |x: f64| {
        let (x, a) = (x.abs(), -0.5);
        if x < 1.0 {
            ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
        } else if x < 2.0 {
            (((x - 5.0) * x + 8.0) * x - 4.0) * a
        } else {
            0.0
        }
    };
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    let row = |place: usize| {
        let center = scale * (place as f64 + 0.5);
        let start = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let mut weights = vec![0.0; from];
        for (source, weight) in weights.iter_mut().enumerate().take(end).skip(start) {
            *weight = cubic((source as f64 - center + 0.5) / stretch);
        }
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= total);
        weights
    };
    (0..to).map(row).collect()
}

/// Applies a matrix to both axes of a square.
///
/// # Shapes
/// - `square`: `[from, from, channels]`; `matrix`: `[to, from]`; returned: `[to, to, channels]`
fn both_axes(square: &[f32], from: usize, matrix: &[Vec<f64>], channels: usize) -> Vec<f32> {
    let to = matrix.len();
    let mut wide = vec![0.0f64; from * to * channels];
    for (row, out) in square.chunks_exact(from * channels).zip(wide.chunks_exact_mut(to * channels)) {
        for (weights, out) in matrix.iter().zip(out.chunks_exact_mut(channels)) {
            for (weight, pixel) in weights.iter().zip(row.chunks_exact(channels)) {
                out.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += weight * f64::from(*value));
            }
        }
    }
    let mut high = vec![0.0f64; to * to * channels];
    for (weights, out) in matrix.iter().zip(high.chunks_exact_mut(to * channels)) {
        for (weight, row) in weights.iter().zip(wide.chunks_exact(to * channels)) {
            out.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
        }
    }
    high.into_iter().map(|value| value as f32).collect()
}

/// Position embeddings for another square grid.
///
/// # Shapes
/// - `table`: `[from * from, width]`; returned: `[to * to, width]`
pub(super) fn positions(table: &[f32], from: usize, to: usize, width: usize) -> Vec<f32> {
    both_axes(table, from, &bicubic(from, to), width)
}

/// The kernel of a patch embedding for another patch size. A patch scaled by a linear map has the same product with it, as
/// nearly as can be: the kernel is multiplied by the pseudoinverse of the map's transpose, here one axis after the other.
///
/// # Shapes
/// - `kernel`: `[kernels, from, from]`; returned: `[kernels, to, to]`
pub(super) fn patches(kernel: &[f32], from: usize, to: usize) -> Vec<f32> {
    let matrix = pseudoinverse_of_transpose(&bicubic(from, to));
    kernel.chunks_exact(from * from).flat_map(|square| both_axes(square, from, &matrix, 1)).collect()
}

/// Kernels for another number of channels: their sum for one, an equal share of one channel's for several.
///
/// # Shapes
/// - `kernel`: `[out, from, rest]`; returned: `[out, to, rest]`
pub(super) fn channels(kernel: &[f32], from: usize, to: usize, rest: usize) -> Vec<f32> {
    let share = from as f32 / to as f32;
    let each = |filter: &[f32]| -> Vec<f32> {
        if to == 1 {
            return (0..rest).map(|i| (0..from).map(|channel| filter[channel * rest + i]).sum()).collect();
        }
        (0..to * rest).map(|i| filter[i % (from * rest)] * share).collect()
    };
    kernel.chunks_exact(from * rest).flat_map(each).collect()
}

/// `pinv(m^T)` for a matrix of full rank: `m (m^T m)^-1` or `(m m^T)^-1 m`.
fn pseudoinverse_of_transpose(matrix: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let (rows, columns) = (matrix.len(), matrix[0].len());
    let transposed: Vec<Vec<f64>> = (0..columns).map(|j| matrix.iter().map(|row| row[j]).collect()).collect();
    if rows <= columns {
        return solve(product(matrix, &transposed), matrix.to_vec());
    }
    // x = m s^-1 with the symmetric s = m^T m, so x^T = s^-1 m^T.
    let solved = solve(product(&transposed, matrix), transposed);
    (0..rows).map(|i| solved.iter().map(|row| row[i]).collect()).collect()
}

fn product(a: &[Vec<f64>], b: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let cell = |row: &Vec<f64>, j: usize| row.iter().zip(b).map(|(x, other)| x * other[j]).sum();
    a.iter().map(|row| (0..b[0].len()).map(|j| cell(row, j)).collect()).collect()
}

/// `a^-1 b` by Gaussian elimination with pivots.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let size = a.len();
    for column in 0..size {
        let pivot = (column..size).max_by(|&i, &j| a[i][column].abs().total_cmp(&a[j][column].abs())).unwrap_or(column);
        a.swap(column, pivot);
        b.swap(column, pivot);
        let (own_a, own_b) = (a[column].clone(), b[column].clone());
        for row in (0..size).filter(|&row| row != column) {
            let factor = a[row][column] / own_a[column];
            a[row].iter_mut().zip(&own_a).for_each(|(x, y)| *x -= factor * y);
            b[row].iter_mut().zip(&own_b).for_each(|(x, y)| *x -= factor * y);
        }
    }
    for (row, values) in b.iter_mut().enumerate() {
        values.iter_mut().for_each(|value| *value /= a[row][row]);
    }
    b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_table_stays_constant_and_the_same_size_changes_nothing() {
        let table: Vec<f32> = (0..9 * 2).map(|i| (i * i % 7) as f32).collect();
        for (one, other) in table.iter().zip(positions(&table, 3, 3, 2)) {
            assert!((one - other).abs() < 1e-6);
        }
        assert!(positions(&[2.5; 9], 3, 7, 1).iter().all(|value| (value - 2.5).abs() < 1e-6));
    }

    #[test]
    fn a_larger_kernel_gives_a_larger_patch_the_same_product() {
        // For a patch that is scaled up, the resampled kernel has exactly the product of the old kernel with the old patch.
        let (from, to) = (3, 5);
        let patch: Vec<f32> = (0..9).map(|i| (i as f32 * 0.7).sin()).collect();
        let kernel: Vec<f32> = (0..9).map(|i| (i as f32 * 1.3).cos()).collect();
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let larger = both_axes(&patch, from, &bicubic(from, to), 1);
        assert!((dot(&larger, &patches(&kernel, from, to)) - dot(&patch, &kernel)).abs() < 1e-5);
    }

    #[test]
    fn gray_is_the_sum_of_the_channels_and_three_channels_share_one() {
        let kernel = [1.0, 2.0, 10.0, 20.0, 100.0, 200.0];
        assert_eq!(channels(&kernel, 3, 1, 2), [111.0, 222.0]);
        assert_eq!(channels(&[3.0, 6.0], 1, 3, 2), [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
    }
}
