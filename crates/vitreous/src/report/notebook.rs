//! A report as a Jupyter notebook (nbformat 4.5): cells hold the commands, their outputs the texts and plots.

use serde_json::{Value, json};

use super::{Part, Report, Section, Table};
use crate::layout::{Align, table};
use crate::plot::svg::base64;
use crate::text::{visible, visible_lines};

/// Writes a report as a notebook. Nothing in it was run: the outputs are those of the report.
pub fn notebook(report: &Report) -> String {
    let mut cells = vec![text_cell(format!("# {}\n\n{}", plain(&report.title), plain(&report.lead)))];
    for section in &report.sections {
        cells.push(text_cell(format!("## {}", plain(&section.title))));
        cells.push(code_cell(section));
    }
    for (number, cell) in cells.iter_mut().enumerate() {
        cell["id"] = json!(format!("cell-{number}"));
    }
    let kernel = json!({ "name": "python3", "display_name": "Python 3", "language": "python" });
    let metadata = json!({ "kernelspec": kernel, "language_info": { "name": "python" } });
    let notebook = json!({ "nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells });
    format!("{notebook:#}\n")
}

/// A text for a cell of Markdown, where neither Markdown nor HTML means anything in it.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '$' | '~' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

fn text_cell(text: String) -> Value {
    json!({ "cell_type": "markdown", "metadata": {}, "source": text })
}

fn code_cell(section: &Section) -> Value {
    let source = match &section.command {
        // IPython replaces `{name}` and `$name` by values of Python, also inside of quotes of the shell.
        Some(command) => format!("!{}", command.replace('{', "{{").replace('}', "}}").replace('$', "$$")),
        None => "# from the files of the run".to_string(),
    };
    let mut outputs = Vec::new();
    let mut text = String::new();
    for part in &section.parts {
        match part {
            Part::Cards { cards } => {
                cards.iter().for_each(|card| text += &format!("{}: {} {}\n", card.label, card.value, card.below));
                text.push('\n');
            }
            Part::Text { text: line } | Part::Missing { text: line } => text += &format!("{line}\n\n"),
            Part::Warning { text: line } => text += &format!("warning: {line}\n\n"),
            Part::Command { what, command } => text += &format!("{what}\n{command}\n\n"),
            Part::Table(rows) => text += &text_table(rows),
            Part::Figure { drawing } | Part::Curves { drawing, .. } => {
                outputs.extend(stream(&mut text));
                let alt = drawing.alt();
                let mut data = json!({ "text/plain": alt });
                if let Some(png) = drawing.png() {
                    data["image/png"] = json!(base64(&png));
                }
                outputs.push(
                    json!({ "output_type": "display_data", "metadata": { "image/png": { "alt": alt } }, "data": data }),
                );
            }
        }
    }
    outputs.extend(stream(&mut text));
    json!({ "cell_type": "code", "execution_count": null, "metadata": {}, "source": source, "outputs": outputs })
}

/// What was collected, as an output; nothing is left of it.
fn stream(text: &mut String) -> Option<Value> {
    let collected = std::mem::take(text);
    let lines = format!("{}\n", visible_lines(collected.trim_end()));
    (lines != "\n").then(|| json!({ "output_type": "stream", "name": "stdout", "text": lines }))
}

fn text_table(rows: &Table) -> String {
    let titles = (!rows.columns.is_empty()).then(|| rows.columns.clone());
    let lines: Vec<Vec<String>> = titles.into_iter().chain(rows.rows.iter().cloned()).collect();
    let align: Vec<Align> =
        rows.is_number.iter().map(|is_number| if *is_number { Align::Right } else { Align::Left }).collect();
    format!("{}\n{}\n", rows.caption, table(&lines, &align, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_read_as_markup_or_python() {
        let section = Section {
            title: "a_b".to_string(),
            command: Some("vitreous evaluate 'runs/{1+1} $HOME'".to_string()),
            parts: Vec::new(),
        };
        let report = Report {
            title: "<img src=x onerror=alert(1)>".to_string(),
            lead: "[a](javascript:b) & $x$".to_string(),
            program: String::new(),
            sections: vec![section],
        };
        let cells: Value = serde_json::from_str(&notebook(&report)).unwrap();
        let source = |at: usize| cells["cells"][at]["source"].as_str().unwrap().to_string();
        assert_eq!(source(0), "# &lt;img src=x onerror=alert(1)&gt;\n\n\\[a\\](javascript:b) &amp; \\$x\\$");
        assert_eq!(source(1), "## a\\_b");
        assert_eq!(source(2), "!vitreous evaluate 'runs/{{1+1}} $$HOME'");
    }
}
