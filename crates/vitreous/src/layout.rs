//! Tables and paragraphs for people to read: columns that line up, lines that break between words.
//!
//! A width of `None` is that of a file or a pipe: there a row or a sentence stays one line, so that `grep` finds it whole.

use crate::text::{markdown, padded, visible, width};

/// Blanks between two columns.
const GAP: usize = 2;

/// The program's name: the words behind it are a command, which is copied to a shell.
const PROGRAM: &str = "vitreous";

/// Narrowest column whose cells are wrapped, unless all its cells are narrower.
const WRAPPED_MIN: usize = 20;

/// Where the cells of a column stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// At its left edge, as names do.
    Left,
    /// At its right edge, as numbers do.
    Right,
    /// At its left edge, in several lines where the table is too wide for one.
    Wrap,
}

/// Sets rows of cells into columns; the first row holds the titles. Lines have no blanks at their ends.
///
/// A table that is too wide first wraps the cells that may be wrapped, then continues in further blocks of columns, each of
/// which begins with the first column again.
pub fn table(rows: &[impl AsRef<[String]>], align: &[Align], columns: Option<usize>) -> String {
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| row.as_ref().iter().map(|cell| visible(cell).into_owned()).collect()).collect();
    let natural: Vec<usize> =
        (0..align.len()).map(|at| cells.iter().map(|row| width(&row[at])).max().unwrap_or(0)).collect();
    let all: Vec<usize> = (0..align.len()).collect();
    let Some(columns) = columns else { return block(&cells, align, &all, &natural) };
    let least: Vec<usize> = (0..align.len())
        .map(|at| match align[at] {
            Align::Wrap => {
                let words = cells.iter().flat_map(|row| words(&row[at])).map(|word| width(&word)).max();
                // One word that is too long does not widen the other rows.
                let most = columns.saturating_sub(natural[0] + GAP);
                natural[at].min(WRAPPED_MIN).max(words.unwrap_or(0).min(most))
            }
            _ => natural[at],
        })
        .collect();
    let needed = |chosen: &[usize]| chosen.iter().map(|&at| least[at] + GAP).sum::<usize>().saturating_sub(GAP);
    let mut blocks: Vec<Vec<usize>> = vec![Vec::new()];
    for at in all {
        let last = blocks.last_mut().expect("there is always one");
        last.push(at);
        if last.len() > 2 && needed(last) > columns {
            last.pop();
            blocks.push(vec![0, at]);
        }
    }
    let text = |chosen: &Vec<usize>| {
        let mut widths = least.clone();
        // With nothing else to move to another block, any text is wrapped.
        if let [first, second] = chosen[..]
            && align[second] == Align::Left
        {
            widths[second] = natural[second].min(columns.saturating_sub(natural[first] + GAP));
        }
        let mut left = columns.saturating_sub(needed(chosen));
        for &at in chosen.iter().filter(|&&at| align[at] == Align::Wrap) {
            let more = left.min(natural[at] - least[at]);
            widths[at] += more;
            left -= more;
        }
        block(&cells, align, chosen, &widths)
    };
    blocks.iter().map(text).collect::<Vec<_>>().join("\n")
}

/// Sets some columns of a table side by side.
fn block(cells: &[Vec<String>], align: &[Align], chosen: &[usize], widths: &[usize]) -> String {
    let mut text = String::new();
    for row in cells {
        let lines: Vec<Vec<String>> = chosen
            .iter()
            .map(|&at| match align[at] {
                Align::Right => vec![row[at].clone()],
                Align::Left | Align::Wrap => wrap(&row[at], widths[at], 0),
            })
            .collect();
        for number in 0..lines.iter().map(Vec::len).max().unwrap_or(0) {
            let cell = |(&at, lines): (&usize, &Vec<String>)| {
                padded(lines.get(number).map_or("", String::as_str), widths[at], align[at] == Align::Right)
            };
            let cells: Vec<String> = chosen.iter().zip(&lines).map(cell).collect();
            text.push_str(cells.join(&" ".repeat(GAP)).trim_end());
            text.push('\n');
        }
    }
    text
}

/// Writes the same rows as a table in Markdown.
pub fn markdown_table(rows: &[impl AsRef<[String]>], align: &[Align]) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let rule = align.iter().map(|align| if *align == Align::Right { "---:" } else { "---" }.to_string()).collect();
    let mut lines: Vec<String> =
        rows.iter().map(|row| line(row.as_ref().iter().map(|cell| markdown(cell)).collect())).collect();
    lines.insert(lines.len().min(1), line(rule));
    lines.concat()
}

/// Writes a sentence as lines; those after the first are indented by so many blanks.
pub fn paragraph(sentence: &str, columns: Option<usize>, indent: usize) -> String {
    let sentence = visible(sentence);
    match columns {
        // Only words that follow one another are set anew: blanks by which a line is aligned stay.
        Some(columns) if width(&sentence) > columns => wrap(&sentence, columns, indent).join("\n") + "\n",
        _ => format!("{sentence}\n"),
    }
}

/// Breaks a text between words into lines of so many columns, the later ones indented; a word or command that is longer
/// than a line has one of its own, which a terminal copies as one.
fn wrap(text: &str, columns: usize, indent: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words(text) {
        match lines.last_mut() {
            Some(last) if width(last) + 1 + width(&word) <= columns => {
                last.push(' ');
                last.push_str(&word);
            }
            Some(_) => lines.push(" ".repeat(indent) + &word),
            None => lines.push(word),
        }
    }
    lines
}

/// The words of a text; a command, which starts with the program's name and ends with punctuation, is one.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut is_command = false;
    for word in text.split(' ') {
        match words.last_mut().filter(|_| is_command) {
            Some(command) => {
                command.push(' ');
                command.push_str(word);
            }
            None => words.push(word.to_string()),
        }
        let is_start = word.trim_start_matches(['`', '(']) == PROGRAM;
        is_command = (is_command || is_start) && !word.ends_with(['`', ',', ';', ':', ')', '?', '.']);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows<const N: usize>(rows: &[[&str; N]]) -> Vec<[String; N]> {
        rows.iter().map(|row| row.map(str::to_string)).collect()
    }

    const ALIGN: [Align; 2] = [Align::Left, Align::Right];

    #[test]
    fn names_stand_left_and_numbers_right() {
        let rows = rows(&[["class", "images"], ["größer", "7"], ["cat", "1,117"]]);
        let expected = "class   images\ngrößer       7\ncat      1,117\n";
        assert_eq!(table(&rows, &ALIGN, None), expected);
        assert_eq!(table(&rows, &ALIGN, Some(14)), expected);
        let markdown = "| class | images |\n| --- | ---: |\n| größer | 7 |\n| cat | 1,117 |\n";
        assert_eq!(markdown_table(&rows, &ALIGN), markdown);
    }

    #[test]
    fn wide_characters_align_and_a_cell_never_starts_a_line() {
        let rows = rows(&[["日本語", "7"], ["a\nb", "5"], ["\x1b[31m", "3"]]);
        let expected = "日本語      7\na\\nb        5\n\\u{1b}[31m  3\n";
        assert_eq!(table(&rows, &ALIGN, None), expected);
    }

    #[test]
    fn a_cell_may_be_wider_than_a_format_can_say() {
        let wide = "x".repeat(70_000);
        let rows = [[wide.clone(), "1".to_string()], ["y".to_string(), "2".to_string()]];
        assert_eq!(table(&rows, &ALIGN, None), format!("{wide}  1\ny{}  2\n", " ".repeat(69_999)));
    }

    #[test]
    fn a_wide_table_wraps_what_may_be_wrapped() {
        let rows =
            rows(&[["preset", "purpose", "params"], ["digits", "a small transformer on digits that are drawn", "77"]]);
        let align = [Align::Left, Align::Wrap, Align::Right];
        let expected = "\
preset  purpose                 params
digits  a small transformer on      77
        digits that are drawn
";
        assert_eq!(table(&rows, &align, Some(38)), expected);
        assert_eq!(table(&rows, &align, None).lines().count(), 2);
        // The narrowest that still has one block: 6, 20 and 6 columns, and two gaps.
        assert!(!table(&rows, &align, Some(36)).contains("\n\n") && table(&rows, &align, Some(35)).contains("\n\n"));
    }

    #[test]
    fn a_table_that_is_still_too_wide_goes_on_below() {
        let rows = rows(&[["run", "val acc", "test acc", "lr", "time"], ["deep", "97 %", "95 %", "0.5", "13 s"]]);
        let align = [Align::Left, Align::Right, Align::Right, Align::Right, Align::Right];
        let expected = "\
run   val acc  test acc
deep     97 %      95 %

run    lr  time
deep  0.5  13 s
";
        assert_eq!(table(&rows, &align, Some(23)), expected);
        // However narrow the terminal is, each block has a column besides the first.
        assert_eq!(table(&rows, &align, Some(1)).matches("\n\n").count(), 3);
        for columns in 14..60 {
            let text = table(&rows, &align, Some(columns));
            assert!(text.lines().all(|line| width(line) <= columns), "{columns}: {text}");
            assert!(["97 %", "95 %", "0.5", "13 s"].iter().all(|cell| text.contains(cell)), "{columns}: {text}");
        }
    }

    #[test]
    fn sentences_break_between_words_and_stay_whole_in_a_pipe() {
        let note = "note: the last batch of an epoch is smaller";
        assert_eq!(paragraph(note, Some(20), 0), "note: the last batch\nof an epoch is\nsmaller\n");
        assert_eq!(paragraph(note, Some(20), 6), "note: the last batch\n      of an epoch is\n      smaller\n");
        assert_eq!(paragraph(note, None, 6), format!("{note}\n"));
        assert_eq!(paragraph(note, Some(43), 6), format!("{note}\n"));
        assert_eq!(paragraph("a/path/without/blanks is long", Some(7), 2), "a/path/without/blanks\n  is\n  long\n");
        assert_eq!(paragraph("new\nline", None, 0), "new\\nline\n");
    }

    #[test]
    fn a_command_is_never_broken() {
        let note = "not saved; save them with vitreous evaluate runs/a --split val, then go on";
        let expected = "not saved; save them with\nvitreous evaluate runs/a --split val,\nthen go on\n";
        assert_eq!(paragraph(note, Some(36), 0), expected);
        assert_eq!(paragraph(note, Some(20), 0).lines().nth(2), Some("vitreous evaluate runs/a --split val,"));
        let quoted = paragraph("`vitreous models` lists them, `vitreous presets --filter cnn` too", Some(30), 0);
        assert_eq!(quoted, "`vitreous models` lists them,\n`vitreous presets --filter cnn`\ntoo\n");
        let rows =
            rows(&[["sweep", "purpose", "command"], ["e1", "both positions", "vitreous sweep e1 --data-dir DIR"]]);
        let text = table(&rows, &[Align::Left, Align::Wrap, Align::Wrap], Some(40));
        assert!(text.ends_with("\n\nsweep  command\ne1     vitreous sweep e1 --data-dir DIR\n"), "{text}");
        // A long word widens its own row only.
        let rows =
            self::rows(&[["sum", "0123456789012345678901234567890123456789"], ["note", "some words to wrap here"]]);
        let expected = "sum   0123456789012345678901234567890123456789\nnote  some words to wrap\n      here\n";
        assert_eq!(table(&rows, &[Align::Left, Align::Wrap], Some(26)), expected);
    }
}
