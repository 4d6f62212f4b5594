//! Comma-separated values, as in RFC 4180 but with a plain line feed at the end of a line, safe to open in a spreadsheet.
//!
//! A spreadsheet computes a cell that starts like a formula, also where a name of a class or file does. Such a cell gets
//! an apostrophe before it, as OWASP advises ("CSV Injection"), and [`rows`] takes it away again. So does a part behind a
//! separator, because programs split lines at other separators too. Numbers stay as they are.

/// What a formula starts with; the wide forms count where Chinese, Japanese or Korean is written.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];

/// Characters at a cell's start that some programs drop, which would leave what follows at the start.
const DROPPED: [char; 3] = ['\t', '\r', '\n'];

/// Characters at which some program or language starts another cell, also inside of quotes: those of a line that begins
/// with another cell than theirs are plain characters to a program with another separator.
const SEPARATORS: [char; 5] = [',', ';', '\t', '\r', '\n'];

/// Writes one line; cells with separators, quotes or line breaks are quoted.
pub fn line<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let mut line = cells.into_iter().map(|cell| quoted(&disarmed(cell))).collect::<Vec<_>>().join(",");
    line.push('\n');
    line
}

fn quoted(cell: &str) -> String {
    let needs_quotes = cell.contains('"') || cell.contains(SEPARATORS);
    if needs_quotes { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_string() }
}

/// Puts an apostrophe before a cell, and before a part of it behind a separator, that starts like a formula, or like one
/// with apostrophes before it already.
fn disarmed(cell: &str) -> String {
    let mut out = String::from(if is_formula(cell) { "'" } else { "" });
    for (at, c) in cell.char_indices() {
        out.push(c);
        if SEPARATORS.contains(&c) && is_formula(part(&cell[at + c.len_utf8()..])) {
            out.push('\'');
        }
    }
    out
}

/// Takes away what [`disarmed`] has put into a cell.
fn armed(cell: &str) -> String {
    let mut rest = cell.strip_prefix('\'').filter(|rest| is_formula(rest)).unwrap_or(cell);
    let mut out = String::with_capacity(cell.len());
    while let Some(at) = rest.find(SEPARATORS) {
        let (before, after) = rest.split_at(at + 1);
        out.push_str(before);
        rest = after.strip_prefix('\'').filter(|rest| is_formula(part(rest))).unwrap_or(after);
    }
    out + rest
}

/// The text up to the next separator.
fn part(text: &str) -> &str {
    text.split(SEPARATORS).next().unwrap_or_default()
}

fn is_formula(cell: &str) -> bool {
    let cell = cell.trim_start_matches('\'');
    let starts_so = cell.starts_with(DROPPED) || cell.trim_start().starts_with(FORMULA);
    starts_so && cell.parse::<f64>().is_err()
}

/// Reads back what [`line()`] has written, line by line; what follows a quoted cell's end is taken as it is.
pub fn rows(text: &str) -> impl Iterator<Item = Vec<String>> {
    let mut chars = text.chars().peekable();
    std::iter::from_fn(move || {
        chars.peek()?;
        let (mut cells, mut cell, mut is_quoted) = (Vec::new(), String::new(), false);
        while let Some(c) = chars.next() {
            match c {
                '"' if is_quoted && chars.next_if_eq(&'"').is_some() => cell.push('"'),
                '"' => is_quoted = !is_quoted,
                ',' if !is_quoted => cells.push(armed(&std::mem::take(&mut cell))),
                '\n' if !is_quoted => break,
                c => cell.push(c),
            }
        }
        cells.push(armed(&cell));
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
    fn a_name_is_never_a_formula_and_a_number_stays_one() {
        let written = line(["=1+1", "-2+3", "+cat", "@SUM(A1)", "\tx", " =1", "\u{ff1d}1", "=1,2", "'=1"]);
        assert_eq!(written, "'=1+1,'-2+3,'+cat,'@SUM(A1),\"'\tx\",' =1,'\u{ff1d}1,\"'=1,2\",''=1\n");
        // Other separators start cells too, where a program or a country uses them.
        let written = line(["cat;=1", ";-x", "a\tb", "a,@b\n+c", "1;-1.5", "; =1"]);
        assert_eq!(written, "\"cat;'=1\",\";'-x\",\"a\tb\",\"a,'@b\n'+c\",\"1;-1.5\",\";' =1\"\n");
        let same = ["-1.5", "+3", "-1e-5", "a=b", "'tis", "NaN", "-inf", "cat-1", ""];
        assert_eq!(line(same), format!("{}\n", same.join(",")));
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let names = vec![
            "=a", "'=a", "''=a", "-1", "'-1", "'tis", "\t", "'", "-", "\r\n=", "@,\"", ";=", ";'=a", ";;''-b", "=;'=",
            "\t;=",
        ];
        let lines = [vec!["a b", "c,d", "say \"e\"", "f\ng"], vec!["", "\"\"", ","], names, vec!["x"]];
        let text: String = lines.iter().map(|cells| line(cells.iter().copied())).collect();
        assert_eq!(rows(&text).collect::<Vec<_>>(), lines);
        assert_eq!(rows("a,\"b").collect::<Vec<_>>(), [["a", "b"]]);
        assert_eq!(rows("").next(), None);
    }
}
