//! A report as a Jupyter notebook (nbformat 4.5): cells hold the commands, their outputs the texts and plots.

use serde_json::{Value, json};

use super::{Part, Report, Section, Table};
use crate::layout::{Align, table};
use crate::plot::svg::base64;
use crate::text::{markdown, visible_lines};

/// Writes a report as a notebook. Nothing in it was run: the outputs are those of the report.
pub fn notebook(report: &Report) -> String {
    let mut cells = vec![text_cell(format!("# {}\n\n{}", markdown(&report.title), markdown(&report.lead)))];
    for section in &report.sections {
        cells.push(text_cell(format!("## {}", markdown(&section.title))));
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

fn text_cell(text: String) -> Value {
    json!({ "cell_type": "markdown", "metadata": {}, "source": text })
}

fn code_cell(section: &Section) -> Value {
    let source = match &section.command {
        Some(command) => format!("!{command}"),
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
