//! Columns of text side by side.

/// Where the cells of a column stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// At its left edge, as words do.
    Left,
    /// At its right edge, as numbers do.
    Right,
}

/// Sets rows of cells into columns, two blanks apart, without blanks at the end of a line.
pub fn table<const N: usize>(rows: &[[String; N]], align: &[Align; N]) -> String {
    set(rows, align)
}

/// As [`table`], for columns whose number is not known before.
pub fn columns(rows: &[Vec<String>], align: &[Align]) -> String {
    set(rows, align)
}

fn set(rows: &[impl AsRef<[String]>], align: &[Align]) -> String {
    let width = |column: usize| rows.iter().map(|row| row.as_ref()[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..align.len()).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.as_ref().iter().zip(&widths).zip(align).map(|((cell, width), align)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_left_and_numbers_right() {
        let rows = [["class", "images"], ["größer", "7"], ["cat", "1,117"]].map(|row| row.map(str::to_string));
        let expected = "class   images\ngrößer       7\ncat      1,117\n";
        assert_eq!(table(&rows, &[Align::Left, Align::Right]), expected);
    }
}
