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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cells_that_need_quotes_have_them() {
        assert_eq!(line(["a b", "c,d", "say \"e\"", "f\ng"]), "a b,\"c,d\",\"say \"\"e\"\"\",\"f\ng\"\n");
    }
}
