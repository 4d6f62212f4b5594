//! Comma-separated values, as in RFC 4180 but with a plain line feed at the end of a line.

/// Writes one line; cells with commas, quotes or line breaks are quoted.
pub fn line<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let mut line = cells.into_iter().map(quoted).collect::<Vec<_>>().join(",");
    line.push('\n');
    line
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_string() }
}

/// Reads back what [`line`] has written, line by line; what follows a quoted cell's end is taken as it is.
pub fn rows(text: &str) -> impl Iterator<Item = Vec<String>> {
    let mut chars = text.chars().peekable();
    std::iter::from_fn(move || {
        chars.peek()?;
        let (mut cells, mut cell, mut is_quoted) = (Vec::new(), String::new(), false);
        while let Some(c) = chars.next() {
            match c {
                '"' if is_quoted && chars.next_if_eq(&'"').is_some() => cell.push('"'),
                '"' => is_quoted = !is_quoted,
                ',' if !is_quoted => cells.push(std::mem::take(&mut cell)),
                '\n' if !is_quoted => break,
                c => cell.push(c),
            }
        }
        cells.push(cell);
        Some(cells)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cells_that_need_quotes_have_them() {
        assert_eq!(line(["a b", "c,d", "say \"e\"", "f\ng"]), "a b,\"c,d\",\"say \"\"e\"\"\",\"f\ng\"\n");
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let lines = [vec!["a b", "c,d", "say \"e\"", "f\ng"], vec!["", "\"\"", ","], vec!["x"]];
        let text: String = lines.iter().map(|cells| line(cells.iter().copied())).collect();
        assert_eq!(rows(&text).collect::<Vec<_>>(), lines);
        assert_eq!(rows("a,\"b").collect::<Vec<_>>(), [["a", "b"]]);
        assert_eq!(rows("").next(), None);
    }
}
