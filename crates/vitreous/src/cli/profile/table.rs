//! A profile as text, Markdown and CSV.

use super::super::screen::{Align, indented, sentence, stdout_columns};
use crate::layout::{self, markdown_table};
use crate::profile::{COST, Profile, Row, SUM_ERROR, Spread, What};
use crate::{csv, numbers};

/// Title of the column with what rows are.
const NAME: &str = "layer";

/// Columns before the sentences below the table.
const FOOT: usize = 10;

/// Part of the roof above which it needs a word.
const ABOVE: f64 = 1.05;

/// A row's part of the step below which its reason is not printed.
const WORTH: f64 = 0.01;

/// What introduces the reasons.
const REASONS: &str = "Below half of the roof, and why:";

/// A column: its title, the columns of a terminal that has room for it, and a row's cell.
type Column = (&'static str, usize, fn(&Row) -> String);

const COLUMNS: [Column; 13] = [
    (NAME, 0, Row::name),
    ("operation", 0, operation),
    ("ms", 0, |row| ms(row.ms.median)),
    ("spread", 136, |row| format!("{}-{}", ms(row.ms.p10), ms(row.ms.p90))),
    ("share", 0, |row| format!("{:.1} %", row.share * 100.0)),
    ("forward", 96, |row| layer(row, ms(row.forward_ms))),
    ("backward", 96, |row| layer(row, ms(row.backward_ms))),
    ("FLOPs", 114, |row| layer(row, count(row.flops))),
    ("GFLOP/s", 106, |row| layer(row, format!("{:.1}", row.gflops))),
    ("bytes", 122, |row| layer(row, count(row.bytes))),
    ("FLOP/B", 144, |row| layer(row, format!("{:.1}", row.intensity))),
    ("roof", 0, |row| row.roof_share.map_or(String::new(), |share| format!("{:.0} %", share * 100.0))),
    ("limit", 0, |row| row.limit.map_or("", |limit| limit.name()).to_string()),
];

/// What a row computes; early profiles have only the name of its main operation.
fn operation(row: &Row) -> String {
    if row.operation.is_empty() { row.op.clone() } else { row.operation.clone() }
}

/// Milliseconds with three digits or so.
fn ms(time: f64) -> String {
    let decimals = if time >= 100.0 {
        0
    } else if time >= 10.0 {
        1
    } else {
        2
    };
    format!("{time:.decimals$}")
}

/// A cell that only layers have.
fn layer(row: &Row, text: String) -> String {
    if row.is_layer() { text } else { String::new() }
}

/// A large number, short.
fn count(n: u64) -> String {
    let (mut value, mut at) = (n as f64, 0);
    while value >= 1000.0 && at < 4 {
        value /= 1000.0;
        at += 1;
    }
    format!("{value:.*}{}", usize::from(at > 0), ["", "k", "M", "G", "T"][at])
}

/// The rows with their titles; of more than `top`, the others are one row.
fn cells(
    what: What,
    by: &str,
    rows: &[Row],
    top: Option<usize>,
    width: Option<usize>,
) -> (Vec<Vec<String>>, Vec<Align>) {
    let says_something = |title: &str| match title {
        // Kinds and phases are their own operation.
        "operation" => !["kind", "phase"].contains(&by),
        "forward" | "backward" => what == What::TrainingStep && by != "phase",
        _ => true,
    };
    let has_room = |from: usize| width.is_none_or(|width| width >= from);
    let columns: Vec<&Column> =
        COLUMNS.iter().filter(|(title, from, _)| has_room(*from) && says_something(title)).collect();
    let mut shown: Vec<Row> = rows.to_vec();
    if let Some(top) = top.filter(|top| *top < rows.len()) {
        shown.truncate(top);
        shown.push(rest(&rows[top..]));
    }
    let titles = columns.iter().map(|(title, ..)| if *title == NAME { by } else { title }.to_string()).collect();
    let body = shown.iter().map(|row| columns.iter().map(|(.., cell)| cell(row)).collect());
    let align = |(title, ..): &&Column| match *title {
        NAME | "operation" => Align::Wrap,
        "limit" => Align::Left,
        _ => Align::Right,
    };
    ([titles].into_iter().chain(body).collect(), columns.iter().map(align).collect())
}

/// The sum of rows that are not shown.
fn rest(rows: &[Row]) -> Row {
    let sum = |of: fn(&Row) -> f64| rows.iter().map(of).sum::<f64>();
    let mut rest = Row { names: vec![numbers::counted(rows.len(), "other row")], ..Row::default() };
    rest.ms = Spread { median: sum(|row| row.ms.median), p10: sum(|row| row.ms.p10), p90: sum(|row| row.ms.p90) };
    rest.share = sum(|row| row.share);
    rest
}

/// The profile for people.
pub fn text(profile: &Profile, by: &str, rows: &[Row], top: Option<usize>) -> String {
    let columns = stdout_columns();
    let (cells, align) = cells(profile.what, by, rows, top, columns);
    let table = layout::table(&cells, &align, columns);
    let lines: String = reasons(shown(rows, top)).iter().map(|line| indented(&format!("- {line}"), 2)).collect();
    let reasons = if lines.is_empty() { lines } else { format!("\n{}{lines}", sentence(REASONS)) };
    let doubt = doubt(profile).map_or(String::new(), sentence);
    format!("{}{doubt}\n{table}\n{}{reasons}", sentence(&heading(profile)), foot(&feet(profile)))
}

/// The profile for documents.
pub fn markdown(profile: &Profile, by: &str, rows: &[Row], top: Option<usize>) -> String {
    let (cells, align) = cells(profile.what, by, rows, top, None);
    let list = |lines: Vec<String>| lines.iter().map(|line| format!("- {line}\n")).collect::<String>();
    let feet = list(feet(profile).iter().map(|(name, text)| format!("{name}: {text}")).collect());
    let lines = list(reasons(shown(rows, top)));
    let reasons = if lines.is_empty() { lines } else { format!("\n{REASONS}\n\n{lines}") };
    let doubt = doubt(profile).map_or(String::new(), |doubt| format!(" {doubt}"));
    format!("{}{doubt}\n\n{}\n{feet}{reasons}", heading(profile), markdown_table(&cells, &align))
}

/// The first rows.
pub fn shown(rows: &[Row], top: Option<usize>) -> &[Row] {
    &rows[..top.unwrap_or(rows.len()).min(rows.len())]
}

/// Every figure.
pub fn csv(by: &str, rows: &[Row]) -> String {
    let titles = [
        by,
        "op",
        "operation",
        "ms",
        "ms_p10",
        "ms_p90",
        "forward_ms",
        "backward_ms",
        "share",
        "flops",
        "bytes",
        "runs",
        "gflops",
        "flops_per_byte",
        "roof_share",
        "limit",
        "reason",
        "instead",
        "held_bytes",
        "held_until",
    ];
    let line = |row: &Row| {
        let reason = row.reason.clone();
        let cells = [
            row.name(),
            row.op.clone(),
            row.operation.clone(),
            row.ms.median.to_string(),
            row.ms.p10.to_string(),
            row.ms.p90.to_string(),
            row.forward_ms.to_string(),
            row.backward_ms.to_string(),
            row.share.to_string(),
            row.flops.to_string(),
            row.bytes.to_string(),
            row.runs.to_string(),
            row.gflops.to_string(),
            row.intensity.to_string(),
            row.roof_share.map_or(String::new(), |share| share.to_string()),
            row.limit.map_or("", |limit| limit.name()).to_string(),
            reason.as_ref().map_or(String::new(), |reason| reason.why.clone()),
            reason.map_or(String::new(), |reason| reason.instead),
            row.held_bytes.to_string(),
            row.held_until.clone().unwrap_or_default(),
        ];
        csv::line(cells.iter().map(String::as_str))
    };
    csv::line(titles) + &rows.iter().map(line).collect::<String>()
}

/// What each layer stores.
pub fn memory(profile: &Profile, rows: &[Row], top: Option<usize>, is_markdown: bool) -> String {
    let titles = ["layer", "stores", "until"].map(str::to_string).to_vec();
    let row = |row: &Row| vec![row.name(), numbers::bytes(row.held_bytes), row.held_until.clone().unwrap_or_default()];
    let cells: Vec<Vec<String>> = [titles].into_iter().chain(shown(rows, top).iter().map(row)).collect();
    let align = [Align::Wrap, Align::Right, Align::Left];
    let rows = format!(
        "what a layer stores for a chunk of at most {} on each of {}; memory is used again as soon as no layer needs it, so \
         rows add up to more than the most at once",
        numbers::counted(profile.chunk, "image"),
        numbers::counted(profile.threads, "thread")
    );
    let feet = [("memory", memory_foot(profile)), ("rows", rows)];
    if is_markdown {
        let lines: String = feet.iter().map(|(name, text)| format!("- {name}: {text}\n")).collect();
        return format!("{}\n\n{}\n{lines}", heading(profile), markdown_table(&cells, &align));
    }
    let table = layout::table(&cells, &align, stdout_columns());
    format!("{}\n{table}\n{}", sentence(&heading(profile)), foot(&feet))
}

/// Says first that the machine was busy, where the table's own checks say so.
fn doubt(profile: &Profile) -> Option<&'static str> {
    profile.is_doubtful().then_some("The machine was busy: roof, limit and reasons may not hold (see below the table).")
}

fn heading(profile: &Profile) -> String {
    let Profile { model, batch, pairs, step, threads, machine, sum_ms, .. } = profile;
    let what = match profile.what {
        What::TrainingStep => "training step",
        What::Inference => "inference",
    };
    format!(
        "{model}: {} ms for one {what} of {}, median of {pairs} (8 of 10 took {} to {}); {}, {}",
        ms(*sum_ms),
        numbers::counted(*batch, "image"),
        ms(step.p10),
        ms(step.p90),
        numbers::counted(*threads, "thread"),
        machine.instruction_set
    )
}

/// What the table rests on: names and texts.
fn feet(profile: &Profile) -> Vec<(&'static str, String)> {
    let percent = |part: f64| format!("{:.1} %", part * 100.0);
    let (error, cost, step) = (profile.sum_error(), profile.cost, profile.step);
    let one = match profile.what {
        What::TrainingStep => "step",
        What::Inference => "inference",
    };
    let verdict = match error.abs() <= SUM_ERROR {
        true => "",
        false => "; that is more than 2 %: repeat it on a quiet machine",
    };
    let sum = format!(
        "{} ms, {} {} than the {one} without profiler ({} ms){verdict}",
        ms(profile.sum_ms),
        percent(error.abs()),
        if error < 0.0 { "less" } else { "more" },
        ms(step.median)
    );
    let change = |part: f64| format!("{:+.1} %", part * 100.0);
    let interval = match cost.interval {
        Some([low, high]) => format!("95 % interval {} to {}", change(low), change(high)),
        None => format!("{} are too few for an interval", numbers::counted(profile.pairs, "pair")),
    };
    let dear = match cost.range() {
        [low, _] if low > COST => "; that is more than 3 %",
        [_, high] if high > COST => "; it may be more than 3 %: repeat it on a quiet machine, or with more --seconds",
        _ => "",
    };
    let cost = format!("changes the time of the {one} by {} ({interval}){dear}", change(cost.median));
    let above = match profile.layers.iter().any(|row| row.roof_share.is_some_and(|share| share > ABOVE)) {
        true => {
            "; layers above 100 % have their values in a cache, or the roof was measured on a busy machine \
                 (--measure-roof measures it again)"
        }
        false => "",
    };
    let roof = format!(
        "{:.0} GFLOP/s and {:.1} GB/s on {}: below {:.0} FLOPs per byte, memory limits{above}",
        profile.roof.gflops,
        profile.roof.gbytes_per_s,
        numbers::counted(profile.threads, "thread"),
        profile.roof.ridge()
    );
    let mut feet = vec![("sum", sum), ("profiler", cost), ("roof", roof), ("memory", memory_foot(profile))];
    if step.is_wide() {
        let (low, high) = (ms(step.p10), ms(step.p90));
        let text = format!("take between {low} and {high} ms (10th and 90th percentile): repeat it on a quiet machine");
        feet.insert(0, ("steps", text));
    }
    if let Some(counts) = &profile.counters {
        feet.push(("counters", counts.to_string()));
    }
    if profile.dropped > 0 {
        let pieces = numbers::counted(profile.dropped, "piece");
        feet.push(("missing", format!("{pieces} of work had no room in the profile and count as waiting")));
    }
    feet
}

/// Lines below a table for people.
fn foot(feet: &[(&str, String)]) -> String {
    feet.iter().map(|(name, text)| indented(&format!("{name:<FOOT$}{text}"), FOOT)).collect()
}

fn memory_foot(profile: &Profile) -> String {
    let memory = &profile.memory;
    let parts = [
        ("parameters", memory.parameters),
        ("moments", memory.moments),
        ("gradients", memory.gradients),
        ("packed weights", memory.packed),
        ("activations of chunks", memory.scratch),
        ("activations of the batch", memory.batch),
    ];
    let parts: Vec<String> = (parts.iter().filter(|(_, bytes)| *bytes > 0))
        .map(|(name, bytes)| format!("{name} {}", numbers::bytes(*bytes)))
        .collect();
    format!(
        "{}: {}; most activations at once: {} at {}",
        numbers::bytes(memory.total),
        parts.join(", "),
        numbers::bytes(memory.peak),
        memory.peak_at
    )
}

/// Why layers are far from the roof, a line for each reason.
fn reasons(rows: &[Row]) -> Vec<String> {
    let mut lines: Vec<(String, Vec<String>)> = Vec::new();
    for row in rows.iter().filter(|row| row.share >= WORTH) {
        let (Some(reason), Some(share)) = (&row.reason, row.roof_share) else { continue };
        let instead = if reason.instead.is_empty() { String::new() } else { format!("; better: {}", reason.instead) };
        let (why, name) = (format!("{}{instead}", reason.why), format!("{} ({:.0} %)", row.name(), share * 100.0));
        match lines.iter_mut().find(|(known, _)| *known == why) {
            Some((_, names)) => names.push(name),
            None => lines.push((why, vec![name])),
        }
    }
    lines.iter().map(|(why, names)| format!("{}: {why}", names.join(", "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Cost, Reason};

    fn row(name: &str, ms: f64) -> Row {
        Row {
            names: vec![name.to_string()],
            op: "conv2d".to_string(),
            ms: Spread { median: ms, p10: ms, p90: ms },
            share: ms / 10.0,
            roof_share: Some(0.25),
            reason: Some(Reason { why: format!("{name} is slow"), instead: String::new() }),
            ..Row::default()
        }
    }

    fn profile(interval: Option<[f64; 2]>, p90: f64, dropped: usize) -> Profile {
        let value = serde_json::json!({
            "version": 1, "what": "training_step", "model": "m", "threads": 2, "batch": 8, "chunk": 4, "params": 1,
            "machine": {"cpu": "c", "processors": 2, "instruction_set": "avx2", "os": "linux"}, "pairs": 5,
            // As the first version wrote it.
            "step": {"median": 10.0, "p10": 9.5, "p90": p90, "interval": [9.0, 11.0]},
            "cost": {"median": 0.01, "p10": 0.0, "p90": 0.1, "interval": [0.0, 0.02]},
            "sum_ms": 10.3, "roof": {"gflops": 100.0, "gbytes_per_s": 10.0},
            "layers": [], "kinds": [], "calls": [], "phases": [],
            "memory": {"parameters": 0, "moments": 0, "gradients": 0, "packed": 0, "scratch": 0, "batch": 0, "total": 0,
                "peak": 0, "peak_at": ""}
        });
        let profile: Profile = serde_json::from_value(value).unwrap();
        Profile { cost: Cost { interval, ..profile.cost }, dropped, ..profile }
    }

    fn line(profile: &Profile, name: &str) -> Option<String> {
        feet(profile).into_iter().find(|(found, _)| *found == name).map(|(_, text)| text)
    }

    #[test]
    fn the_lines_below_the_table_say_what_is_doubtful() {
        let quiet = profile(Some([-0.01, 0.02]), 10.5, 0);
        assert_eq!(
            line(&quiet, "sum").unwrap(),
            "10.3 ms, 3.0 % more than the step without profiler (10.0 ms); that is more than 2 %: repeat it on a quiet \
             machine"
        );
        assert_eq!(
            line(&quiet, "profiler").unwrap(),
            "changes the time of the step by +1.0 % (95 % interval -1.0 % to +2.0 %)"
        );
        let fine = Profile { sum_ms: 10.1, ..quiet.clone() };
        let costs = Cost { interval: Some([-0.01, 0.04]), ..fine.cost };
        let is_doubtful =
            [&quiet, &fine, &Profile { cost: costs, ..fine.clone() }].map(|profile| doubt(profile).is_some());
        assert_eq!(is_doubtful, [true, false, true]);
        assert_eq!([line(&quiet, "steps"), line(&quiet, "missing")], [None, None]);
        let of = |interval| line(&profile(interval, 10.5, 0), "profiler").unwrap();
        assert!(of(Some([-0.01, 0.04])).contains("; it may be more than 3 %: "), "{}", of(Some([-0.01, 0.04])));
        assert!(of(Some([0.031, 0.04])).ends_with("; that is more than 3 %"));
        assert_eq!(of(None), "changes the time of the step by +1.0 % (5 pairs are too few for an interval)");
        let busy = profile(None, 16.0, 7);
        assert_eq!(
            line(&busy, "steps").unwrap(),
            "take between 9.50 and 16.0 ms (10th and 90th percentile): repeat it on a quiet machine"
        );
        assert_eq!(line(&busy, "missing").unwrap(), "7 pieces of work had no room in the profile and count as waiting");
    }

    #[test]
    fn the_slowest_layer_and_its_reason_come_first_also_in_markdown() {
        let mut rows = vec![row("stem", 1.0), row("layers.3", 7.0), row("head", 2.0)];
        super::super::Sort::Time.sort(&mut rows);
        let profile = profile(None, 10.5, 0);
        for text in [text(&profile, "layer", &rows, None), markdown(&profile, "layer", &rows, None)] {
            let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("{word}: {text}"));
            assert!(at("layers.3") < at("head") && at("head") < at("stem"), "{text}");
            assert!(at("- layers.3 (25 %): layers.3 is slow") < at("- head (25 %): head is slow"), "{text}");
            assert!(text.contains("sum") && text.contains("roof") && text.contains("GFLOP/s and"), "{text}");
        }
    }
}
