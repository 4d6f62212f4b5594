//! The linear layer and its gradients; `weight` is `[out, in]`.

/// y[row][o] = bias[o] + sum over i of x[row][i] * weight[o][i]
pub(crate) fn forward(x: &[f64], weight: &[f64], bias: Option<&[f64]>, outputs: usize) -> Vec<f64> {
    let inputs = weight.len() / outputs;
    let mut y = Vec::with_capacity(x.len() / inputs * outputs);
    for row in x.chunks_exact(inputs) {
        for o in 0..outputs {
            let product: f64 = row.iter().zip(&weight[o * inputs..]).map(|(x, w)| x * w).sum();
            y.push(product + bias.map_or(0.0, |bias| bias[o]));
        }
    }
    y
}

/// dx[row][i] = sum over o of dy[row][o] * weight[o][i]
pub(crate) fn input_grad(dy: &[f64], weight: &[f64], inputs: usize) -> Vec<f64> {
    let outputs = weight.len() / inputs;
    let mut dx = Vec::with_capacity(dy.len() / outputs * inputs);
    for row in dy.chunks_exact(outputs) {
        let mut sums = vec![0.0; inputs];
        for o in 0..outputs {
            for i in 0..inputs {
                sums[i] += row[o] * weight[o * inputs + i];
            }
        }
        dx.extend(sums);
    }
    dx
}

/// dweight[o][i] = sum over rows of dy[row][o] * x[row][i]
pub(crate) fn weight_grad(dy: &[f64], x: &[f64], outputs: usize, inputs: usize) -> Vec<f64> {
    let mut dweight = vec![0.0; outputs * inputs];
    for (dy, x) in dy.chunks_exact(outputs).zip(x.chunks_exact(inputs)) {
        for o in 0..outputs {
            for i in 0..inputs {
                dweight[o * inputs + i] += dy[o] * x[i];
            }
        }
    }
    dweight
}

/// dbias[o] = sum over rows of dy[row][o]
pub(crate) fn bias_grad(dy: &[f64], outputs: usize) -> Vec<f64> {
    let mut dbias = vec![0.0; outputs];
    for row in dy.chunks_exact(outputs) {
        for o in 0..outputs {
            dbias[o] += row[o];
        }
    }
    dbias
}
