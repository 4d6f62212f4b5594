//! The profile of a run's training step, where `vitreous profile` has saved one.

use super::table;
use crate::advice::{Argument, Command, Verb};
use crate::numbers;
use crate::profile::{FILE, Machine, Profile, figures};
use crate::record::Run;
use crate::report::{Drawing, Part, Section};

use super::Words;

/// Rows of the table.
const ROWS: usize = 20;

/// The section, if there is a profile.
pub(super) fn profile(run: &Run, words: &Words) -> Option<Section> {
    let path = run.folder().join(FILE);
    if !path.exists() {
        return None;
    }
    let plain = Command::new(Verb::Profile).with(Argument::Run, run.folder());
    let title = "Profile".to_string();
    let profile = match Profile::read(&path) {
        Ok(profile) => profile,
        Err(error) => {
            let parts = vec![Part::Warning { text: error.to_string() }];
            return Some(Section { title, command: Some((words.command)(&plain)), parts });
        }
    };
    let own = run.manifest().machine.threads;
    let (command, remark) = match profile.threads == own {
        true => (plain, String::new()),
        false => (
            plain.with(Argument::Set, format!("train.threads={}", profile.threads)),
            format!(", while the run was trained on {}", numbers::counted(own, "thread")),
        ),
    };
    let command = Some((words.command)(&command));
    let text = format!(
        "A training step of {} took {:.1} ms on {}{remark} ({}). The time of a row is that of all threads, divided by their number.",
        numbers::counted(profile.batch, "image"),
        profile.sum_ms,
        numbers::counted(profile.threads, "thread"),
        profile.machine
    );
    let mut parts = vec![Part::Text { text }];
    if profile.machine != Machine::this() {
        let text = format!(
            "The profile was measured on another machine than the one that wrote this report ({}): its times and limits \
             hold there.",
            Machine::this()
        );
        parts.push(Part::Warning { text });
    }
    if profile.is_doubtful() {
        let text = format!(
            "The machine was busy: 8 of 10 steps took {:.1} to {:.1} ms, and the profiler's rows differ by {:+.1} % from a step \
             without it. Roof, limit and reasons may not hold; profile the run again while no other program runs.",
            profile.step.p10,
            profile.step.p90,
            profile.sum_error() * 100.0
        );
        parts.push(Part::Warning { text });
    }
    let drawn = Drawing::all(|theme| {
        let figures = ["profile", "roofline"].into_iter().zip(figures(&profile, theme.style()));
        figures.filter_map(|(name, figure)| Some((name.to_string(), figure?))).collect()
    });
    parts.extend(drawn.map(|(_, drawing)| Part::Figure { drawing }));
    let mut rows: Vec<_> = profile.layers.iter().collect();
    rows.sort_by(|a, b| b.ms.median.total_cmp(&a.ms.median));
    let rows = rows.into_iter().take(ROWS).map(|row| {
        let why = row.reason.as_ref().map_or(String::new(), |reason| reason.why.clone());
        let limit = row.limit.map_or("", |limit| limit.name()).to_string();
        let roof = row.roof_share.map_or(String::new(), |share| format!("{:.0} %", share * 100.0));
        let ms = format!("{:.2}", row.ms.median);
        vec![row.name(), row.operation.clone(), ms, format!("{:.1} %", row.share * 100.0), roof, limit, why]
    });
    let columns = ["Layer", "Operation", "ms", "Share", "Roof", "Limit", "Why"];
    parts.push(Part::Table(table("The rows that take the longest", &columns, &[2, 3, 4], rows.collect())));
    Some(Section { title, command, parts })
}
