//! Columns of text side by side, aligned as a terminal shows them.

use std::borrow::Cow;

use crate::text;

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
    let rows: Vec<Vec<Cow<str>>> =
        rows.iter().map(|row| row.as_ref().iter().map(|cell| text::visible(cell)).collect()).collect();
    let width = |column: usize| rows.iter().map(|row| text::width(&row[column])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..align.len()).map(width).collect();
    let mut lines = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).zip(align);
        let cells = cells.map(|((cell, width), align)| text::padded(cell, *width, *align == Align::Right));
        lines.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        lines.push('\n');
    }
    lines
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

    #[test]
    fn wide_characters_align_and_a_cell_stays_in_its_line() {
        let rows = [["日本語", "7"], ["a\nb", "5"], ["\x1b[31m", "3"]].map(|row| row.map(str::to_string));
        let expected = "日本語      7\na\\nb        5\n\\u{1b}[31m  3\n";
        assert_eq!(table(&rows, &[Align::Left, Align::Right]), expected);
    }

    #[test]
    fn a_cell_may_be_wider_than_a_format_can_say() {
        let wide = "x".repeat(70_000);
        let rows = [[wide.clone(), "1".to_string()], ["y".to_string(), "2".to_string()]];
        let lines = table(&rows, &[Align::Left, Align::Right]);
        assert_eq!(lines, format!("{wide}  1\ny{}  2\n", " ".repeat(69_999)));
    }
}
