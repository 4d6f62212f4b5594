//! NumPy's arrays: a short header in Python's notation, then the numbers. Source: `numpy/lib/format.py`.

use std::path::Path;

use super::error::ImportError;
use super::file::Budget;
use super::tensor::{Dtype, Tensor};

/// Reads a `.npy` file.
///
/// # Errors
/// When it is damaged, holds Python objects, or numbers of an unsupported kind.
pub(super) fn read(path: &Path, name: String, bytes: &[u8], budget: &mut Budget) -> Result<Tensor, ImportError> {
    let damaged = |reason: &str| ImportError::damaged(path, format!("the array `{name}` {reason}"));
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or_else(|| damaged("does not start like one of NumPy"))?;
    let length_bytes = if rest.first() == Some(&1) { 2 } else { 4 };
    let cut = || damaged("is cut off");
    let length = rest.get(2..2 + length_bytes).ok_or_else(cut)?;
    let length = length.iter().rev().fold(0, |length, &byte| length << 8 | usize::from(byte));
    let rest = &rest[2 + length_bytes..];
    let (header, data) = rest.split_at_checked(length).ok_or_else(cut)?;
    let header = std::str::from_utf8(header).map_err(|_| damaged("has an unreadable header"))?;
    let (descr, is_fortran, shape) = parse(header).ok_or_else(|| damaged("has an unreadable header"))?;
    let integer = |bytes, signed| Dtype::Integer { bytes, signed };
    let dtype = match descr {
        "<f4" => Dtype::Float32,
        "<f8" => Dtype::Float64,
        "<f2" => Dtype::Float16,
        // How JAX's bfloat16 is saved.
        "|V2" | "<V2" => Dtype::Bfloat16,
        "<i8" => integer(8, true),
        "<i4" => integer(4, true),
        "<i2" => integer(2, true),
        "|i1" => integer(1, true),
        "|u1" | "|b1" => integer(1, false),
        "|O" => {
            return Err(ImportError::Code { path: path.to_path_buf(), function: "pickle.load".to_string() });
        }
        other => return Err(ImportError::unsupported(path, format!("the array `{name}` holds `{other}`"))),
    };
    let count = shape.iter().try_fold(1usize, |count, &axis| count.checked_mul(axis));
    if count.and_then(|count| count.checked_mul(dtype.size())) != Some(data.len()) {
        return Err(damaged("has another length than its header says"));
    }
    budget.take_values(data.len() / dtype.size())?;
    let tensor = Tensor { name, values: dtype.values(data), shape, dtype };
    if is_fortran {
        // The first axis is contiguous: the same numbers with the axes reversed.
        let axes: Vec<usize> = (0..tensor.shape.len()).rev().collect();
        let reversed = Tensor { shape: tensor.shape.iter().rev().copied().collect(), ..tensor };
        return Ok(reversed.permuted(&axes));
    }
    Ok(tensor)
}

/// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5), }`.
fn parse(header: &str) -> Option<(&str, bool, Vec<usize>)> {
    let after = |key: &str| Some(header.split_once(&format!("'{key}':"))?.1.trim_start());
    let descr = after("descr")?.strip_prefix('\'')?.split_once('\'')?.0;
    let order = after("fortran_order")?;
    let is_fortran = order.starts_with("True");
    if !is_fortran && !order.starts_with("False") {
        return None;
    }
    let shape = after("shape")?.strip_prefix('(')?.split_once(')')?.0;
    let axes = shape.split(',').map(str::trim).filter(|axis| !axis.is_empty());
    let axes: Vec<usize> = axes.map(|axis| axis.parse().ok()).collect::<Option<_>>()?;
    (axes.len() <= 8).then_some((descr, is_fortran, axes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_in_pythons_notation() {
        let header = |text| parse(text).map(|(descr, is_fortran, shape)| (descr.to_string(), is_fortran, shape));
        let read = header("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5), }   \n");
        assert_eq!(read, Some(("<f4".to_string(), false, vec![3, 5])));
        assert_eq!(header("{'descr': '<f2', 'fortran_order': True, 'shape': (3,), }").unwrap().2, [3]);
        assert_eq!(header("{'descr': '<f2', 'fortran_order': True, 'shape': (), }").unwrap().2, [0; 0]);
        for bad in ["", "{'descr': '<f4'}", "{'descr': '<f4', 'fortran_order': False, 'shape': (3, -5), }"] {
            assert_eq!(header(bad), None, "{bad}");
        }
    }
}
