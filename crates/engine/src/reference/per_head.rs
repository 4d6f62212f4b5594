//! Linear maps of each head's columns.

/// How the columns of a layer are cut: `count` maps of `heads` heads of `width` columns.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub count: usize,
    pub heads: usize,
    pub width: usize,
}

impl Sizes {
    /// Calls `each` with the places of every weight, of its output in a row of y and of its input in a row of x.
    fn places(self, mut each: impl FnMut(usize, usize, usize)) {
        let Sizes { count, heads, width } = self;
        for map in 0..count {
            for head in 0..heads {
                for o in 0..width {
                    for i in 0..width {
                        let output = (map * heads + head) * width + o;
                        each(output * width + i, output, head * width + i);
                    }
                }
            }
        }
    }

    /// Values in a row of x and in a row of y.
    fn rows(self) -> [usize; 2] {
        [self.heads * self.width, self.count * self.heads * self.width]
    }
}

/// y[map][head][o] = b[map][head][o] + sum over i of w[map][head][o][i] * x[head][i], for each row
pub(crate) fn forward(x: &[f64], weight: &[f64], bias: Option<&[f64]>, sizes: Sizes) -> Vec<f64> {
    let [inputs, outputs] = sizes.rows();
    x.chunks_exact(inputs)
        .flat_map(|x| {
            let mut y = bias.map_or_else(|| vec![0.0; outputs], <[f64]>::to_vec);
            sizes.places(|w, o, i| y[o] += weight[w] * x[i]);
            y
        })
        .collect()
}

/// dx[head][i] = sum over maps and o of dy[map][head][o] * w[map][head][o][i]
pub(crate) fn input_grad(dy: &[f64], weight: &[f64], sizes: Sizes) -> Vec<f64> {
    let [inputs, outputs] = sizes.rows();
    dy.chunks_exact(outputs)
        .flat_map(|dy| {
            let mut dx = vec![0.0; inputs];
            sizes.places(|w, o, i| dx[i] += weight[w] * dy[o]);
            dx
        })
        .collect()
}

/// dw[map][head][o][i] = sum over rows of dy[map][head][o] * x[head][i]
pub(crate) fn weight_grad(dy: &[f64], x: &[f64], sizes: Sizes) -> Vec<f64> {
    let [inputs, outputs] = sizes.rows();
    let mut dweight = vec![0.0; outputs * sizes.width];
    for (x, dy) in x.chunks_exact(inputs).zip(dy.chunks_exact(outputs)) {
        sizes.places(|w, o, i| dweight[w] += dy[o] * x[i]);
    }
    dweight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_width_one_are_products_of_numbers() {
        let sizes = Sizes { count: 2, heads: 3, width: 1 };
        let weight = [2.0, 3.0, 5.0, 7.0, 11.0, 13.0];
        let y = forward(&[1.0, 10.0, 100.0], &weight, Some(&[0.5; 6]), sizes);
        assert_eq!(y, [2.5, 30.5, 500.5, 7.5, 110.5, 1300.5]);
        assert_eq!(input_grad(&[1.0, 1.0, 1.0, 1.0, 1.0, 0.0], &weight, sizes), [9.0, 14.0, 5.0]);
    }
}
