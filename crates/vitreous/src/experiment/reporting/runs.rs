//! What a report says of several runs: as `compare`, with their curves.

use std::path::PathBuf;

use super::curves::charts_of_runs;
use super::{Words, program, table};
use crate::advice::{Command, Note, Verb};
use crate::compare::{Comparison, LeftOut, Sheet};
use crate::experiment::plotting::by_data;
use crate::numbers;
use crate::report::{Drawing, Part, Report, Section, Table};

/// Collects the report of a comparison; `given` are the folders that were named.
pub fn report_comparison(comparison: &Comparison, given: &[PathBuf], words: &Words) -> Report {
    let sheet = Sheet::for_screen(comparison);
    let notes = |notes: &[Note]| notes.iter().map(|note| Part::Text { text: (words.note)(note) }).collect::<Vec<_>>();
    let mut parts: Vec<Part> = sheet.lead.iter().map(|lead| Part::Text { text: numbers::capital(lead) }).collect();
    let mut verdicts = Vec::new();
    for section in sheet.sections {
        let caption = section.title.clone().unwrap_or_else(|| "The runs, the best first".to_string());
        let columns = section.columns.iter().map(|column| column.title.clone()).collect();
        let is_number = section.columns.iter().map(|column| column.is_number).collect();
        parts.push(Part::Table(Table { caption, columns, is_number, rows: section.rows, is_folded: false }));
        parts.extend(notes(&section.notes));
        if let Some(found) = section.verdicts {
            let titles: Vec<&str> = found.rows[0].iter().map(String::as_str).collect();
            let rows = found.rows[1..].iter().map(|row| row.to_vec()).collect();
            verdicts.push(Part::Table(table(numbers::capital(&found.title), &titles, &[1, 3], rows)));
            verdicts.extend(notes(&found.notes));
        }
    }
    parts.extend(notes(&sheet.notes));
    let left =
        |left: &LeftOut| Part::Warning { text: format!("{} was left out: {}", left.folder.display(), left.reason) };
    parts.extend(comparison.left_out.iter().map(left));
    let compare = given.iter().fold(Command::new(Verb::Compare), |command, folder| command.operand(folder.as_path()));
    let command = Some((words.command)(&compare));
    let mut sections = vec![Section { title: "Comparison".to_string(), command, parts }];
    if !verdicts.is_empty() {
        sections.push(Section { title: "Differences".to_string(), command: None, parts: verdicts });
    }
    let groups = by_data(comparison);
    for group in &groups {
        let is_alone = groups.len() == 1;
        let figures = Drawing::all(|theme| group.figures(theme));
        let parts = figures.map(|(name, drawing)| match name.starts_with("curves") {
            true => Part::Curves { charts: charts_of_runs(&group.records), drawing },
            false => Part::Figure { drawing },
        });
        let title = if is_alone { "Figures".to_string() } else { format!("Figures: {}", group.data) };
        let parts: Vec<Part> = parts.collect();
        sections.extend((!parts.is_empty()).then_some(Section { title, command: None, parts }));
    }
    let all = comparison.rows.iter().map(|row| row.folders.len()).sum::<usize>();
    let lead = format!("{}, ranked by {}", numbers::counted(all, "run"), comparison.ranked_by);
    Report { title: "Comparison of runs".to_string(), lead, program: program(), sections }
}
