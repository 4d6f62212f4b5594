//! A named tensor in memory, and how the numbers of files become f32.

/// A tensor with the name it has in its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its axes.
    pub shape: Vec<usize>,
    /// Its values, the last axis first.
    pub values: Vec<f32>,
    /// How the file holds them.
    pub dtype: Dtype,
}

impl Tensor {
    /// The values with the axes in another order: axis `order[i]` becomes axis i.
    #[must_use]
    pub fn permuted(&self, order: &[usize]) -> Tensor {
        let shape: Vec<usize> = order.iter().map(|&axis| self.shape[axis]).collect();
        let own = strides(&self.shape);
        let strides: Vec<usize> = order.iter().map(|&axis| own[axis]).collect();
        Tensor { name: self.name.clone(), values: strided(&self.values, 0, &shape, &strides), shape, dtype: self.dtype }
    }

    /// The same values with other axes.
    ///
    /// # Panics
    /// When the number of values differs.
    #[must_use]
    pub fn reshaped(self, shape: Vec<usize>) -> Tensor {
        assert_eq!(shape.iter().product::<usize>(), self.values.len(), "{shape:?} for {:?}", self.shape);
        Tensor { shape, ..self }
    }
}

/// How far apart neighbors along each axis are in memory.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Gathers values in the order of axes with these strides.
pub(super) fn strided<T: Copy>(values: &[T], offset: usize, shape: &[usize], strides: &[usize]) -> Vec<T> {
    let count: usize = shape.iter().product();
    let mut gathered = Vec::with_capacity(count);
    let (mut index, mut at) = (vec![0; shape.len()], offset);
    for _ in 0..count {
        gathered.push(values[at]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    gathered
}

/// The kinds of numbers that files hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are PyTorch's names")]
pub enum Dtype {
    Float32,
    Float64,
    Float16,
    Bfloat16,
    /// An integer of so many bytes, with or without a sign.
    Integer {
        bytes: usize,
        signed: bool,
    },
}

impl Dtype {
    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Dtype::Float64 => 8,
            Dtype::Float32 => 4,
            Dtype::Float16 | Dtype::Bfloat16 => 2,
            Dtype::Integer { bytes, .. } => bytes,
        }
    }

    /// Whether the numbers are integers.
    pub fn is_integer(self) -> bool {
        matches!(self, Dtype::Integer { .. })
    }

    /// PyTorch's name.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::Float32 => "float32",
            Dtype::Float64 => "float64",
            Dtype::Float16 => "float16",
            Dtype::Bfloat16 => "bfloat16",
            Dtype::Integer { .. } => "integer",
        }
    }

    /// Converts little-endian bytes; incomplete numbers at the end are left out.
    pub fn values(self, bytes: &[u8]) -> Vec<f32> {
        fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            bytes.chunks_exact(N).map(|chunk| value(chunk.try_into().expect("N bytes"))).collect()
        }
        match self {
            Dtype::Float32 => each(bytes, f32::from_le_bytes),
            Dtype::Float64 => each(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
            Dtype::Float16 => each(bytes, |bytes| from_half(u16::from_le_bytes(bytes))),
            Dtype::Bfloat16 => each(bytes, |bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)),
            Dtype::Integer { bytes: size, signed } => (bytes.chunks_exact(size))
                .map(|chunk| {
                    let fill = if signed && chunk[size - 1] >= 0x80 { 0xFF } else { 0 };
                    let mut wide = [fill; 8];
                    wide[..size].copy_from_slice(chunk);
                    i64::from_le_bytes(wide) as f32
                })
                .collect(),
        }
    }
}

/// IEEE 754's binary16 as f32, which has every value of it.
fn from_half(half: u16) -> f32 {
    let (sign, exponent, fraction) = (half >> 15, (half >> 10) & 0x1F, half & 0x3FF);
    let magnitude = match exponent {
        0 => f32::from(fraction) * (-24f32).exp2(),
        0x1F if fraction == 0 => f32::INFINITY,
        0x1F => f32::NAN,
        _ => f32::from_bits(u32::from(exponent + 112) << 23 | u32::from(fraction) << 13),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_kind_become_f32() {
        let half = [0x3C00u16, 0xC000, 0x0001, 0x7BFF, 0x3555].map(u16::to_le_bytes).concat();
        assert_eq!(Dtype::Float16.values(&half), [1.0, -2.0, 5.960_464_5e-8, 65504.0, 0.333_251_95]);
        assert!(Dtype::Float16.values(&0x7E00u16.to_le_bytes())[0].is_nan());
        assert_eq!(Dtype::Float16.values(&0xFC00u16.to_le_bytes()), [f32::NEG_INFINITY]);
        assert_eq!(Dtype::Bfloat16.values(&[0x80, 0x3F, 0x20, 0xC0]), [1.0, -2.5]);
        assert_eq!(Dtype::Float64.values(&0.1f64.to_le_bytes()), [0.1]);
        assert_eq!(Dtype::Integer { bytes: 2, signed: true }.values(&[0xFE, 0xFF, 3, 1]), [-2.0, 259.0]);
        assert_eq!(Dtype::Integer { bytes: 1, signed: false }.values(&[0xFE]), [254.0]);
    }

    #[test]
    fn axes_are_permuted_as_numpy_does() {
        let tensor = Tensor {
            name: String::new(),
            shape: vec![2, 3, 5],
            values: (0..30u8).map(f32::from).collect(),
            dtype: Dtype::Float32,
        };
        let other = tensor.permuted(&[2, 0, 1]);
        assert_eq!(other.shape, [5, 2, 3]);
        assert_eq!(other.values[..8], [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 1.0, 6.0]);
    }
}
