//! A profile as text, Markdown and CSV.

use super::super::screen::{Align, indented, sentence, stdout_columns};
use crate::layout::{self, markdown_table};
use crate::profile::{Profile, Row, What};
use crate::{csv, numbers};

/// Columns of a terminal in which most figures have room, and in which all have.
const WIDE: usize = 118;
const WIDEST: usize = 124;

/// Columns before the sentences below the table.
const FOOT: usize = 10;

/// Deviation of the sum of the rows from the step that is still right, and cost of the profiler that is.
const SUM_ERROR: f64 = 0.02;
const COST: f64 = 0.03;

/// A row's part of the step below which its reason is not printed.
const WORTH: f64 = 0.01;

/// A column: its title, the columns of a terminal that has room for it, and a row's cell.
type Column = (&'static str, usize, fn(&Row) -> String);

const COLUMNS: [Column; 13] = [
    ("layer", 0, Row::name),
    ("operation", WIDEST, |row| row.op.clone()),
    ("ms", 0, |row| ms(row.ms.median)),
    ("spread", WIDE, |row| format!("{}-{}", ms(row.ms.p10), ms(row.ms.p90))),
    ("share", 0, |row| format!("{:.1} %", row.share * 100.0)),
    ("forward", 0, |row| layer(row, ms(row.forward_ms))),
    ("backward", 0, |row| layer(row, ms(row.backward_ms))),
    ("FLOPs", WIDE, |row| layer(row, count(row.flops))),
    ("GFLOP/s", 0, |row| layer(row, format!("{:.1}", row.gflops))),
    ("bytes", WIDE, |row| layer(row, count(row.bytes))),
    ("FLOP/B", WIDE, |row| layer(row, format!("{:.1}", row.intensity))),
    ("roof", 0, |row| row.roof_share.map_or(String::new(), |share| format!("{:.0} %", share * 100.0))),
    ("limit", 0, |row| row.limit.map_or("", |limit| limit.name()).to_string()),
];

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
fn cells(by: &str, rows: &[Row], top: Option<usize>, width: Option<usize>) -> (Vec<Vec<String>>, Vec<Align>) {
    let columns: Vec<&Column> =
        COLUMNS.iter().filter(|(_, from, _)| width.is_none_or(|width| width >= *from)).collect();
    let mut shown: Vec<Row> = rows.to_vec();
    if let Some(top) = top.filter(|top| *top < rows.len()) {
        shown.truncate(top);
        shown.push(rest(&rows[top..]));
    }
    let titles = columns.iter().map(|(title, ..)| if *title == "layer" { by } else { title }.to_string()).collect();
    let body = shown.iter().map(|row| columns.iter().map(|(.., cell)| cell(row)).collect());
    let align = |(title, ..): &&Column| match *title {
        "layer" => Align::Wrap,
        "operation" | "limit" => Align::Left,
        _ => Align::Right,
    };
    ([titles].into_iter().chain(body).collect(), columns.iter().map(align).collect())
}

/// The sum of rows that are not shown.
fn rest(rows: &[Row]) -> Row {
    let sum = |of: fn(&Row) -> f64| rows.iter().map(of).sum::<f64>();
    let mut rest = Row { names: vec![numbers::counted(rows.len(), "other row")], ..Row::default() };
    (rest.ms.median, rest.ms.p10, rest.ms.p90) =
        (sum(|row| row.ms.median), sum(|row| row.ms.p10), sum(|row| row.ms.p90));
    rest.share = sum(|row| row.share);
    rest
}

/// The profile for people.
pub fn text(profile: &Profile, by: &str, rows: &[Row], top: Option<usize>) -> String {
    let columns = stdout_columns();
    let (cells, align) = cells(by, rows, top, columns);
    let table = layout::table(&cells, &align, columns);
    let shown = &rows[..top.unwrap_or(rows.len()).min(rows.len())];
    format!("{}\n{table}\n{}{}", sentence(&heading(profile)), feet(profile), reasons(shown))
}

/// The profile for documents.
pub fn markdown(profile: &Profile, by: &str, rows: &[Row], top: Option<usize>) -> String {
    let (cells, align) = cells(by, rows, top, None);
    format!("{}\n\n{}", heading(profile), markdown_table(&cells, &align))
}

/// Every figure.
pub fn csv(by: &str, rows: &[Row]) -> String {
    let titles = [
        by,
        "op",
        "ms",
        "ms_p10",
        "ms_p90",
        "ms_low",
        "ms_high",
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
            row.ms.median.to_string(),
            row.ms.p10.to_string(),
            row.ms.p90.to_string(),
            row.ms.interval[0].to_string(),
            row.ms.interval[1].to_string(),
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
pub fn memory(profile: &Profile, rows: &[Row], top: Option<usize>) -> String {
    let titles = ["layer", "stores", "until"].map(str::to_string).to_vec();
    let shown = rows.iter().take(top.unwrap_or(rows.len()));
    let body =
        shown.map(|row| vec![row.name(), numbers::bytes(row.held_bytes), row.held_until.clone().unwrap_or_default()]);
    let cells: Vec<Vec<String>> = [titles].into_iter().chain(body).collect();
    let table = layout::table(&cells, &[Align::Wrap, Align::Right, Align::Left], stdout_columns());
    format!("{}\n{table}\n{}", sentence(&heading(profile)), memory_foot(profile))
}

fn heading(profile: &Profile) -> String {
    let Profile { model, batch, pairs, step, threads, machine, .. } = profile;
    let what = match profile.what {
        What::TrainingStep => "training step",
        What::Inference => "inference",
    };
    format!(
        "{model}: {} ms for one {what} of {}, median of {pairs} ({} to {}); {}, {}",
        ms(step.median),
        numbers::counted(*batch, "image"),
        ms(step.p10),
        ms(step.p90),
        numbers::counted(*threads, "thread"),
        machine.instruction_set
    )
}

/// What the table rests on.
fn feet(profile: &Profile) -> String {
    let percent = |part: f64| format!("{:.1} %", part * 100.0);
    let error = profile.sum_error();
    let verdict = match error.abs() <= SUM_ERROR {
        true => "",
        false => "; that is more than 2 %: other programs disturb the measurement",
    };
    let sum = format!(
        "sum       {} ms, {} {} than the step without profiler{verdict}",
        ms(profile.sum_ms),
        percent(error.abs()),
        if error < 0.0 { "less" } else { "more" }
    );
    let cost = profile.cost;
    let dear = if cost.interval[0] > COST { "; that is more than 3 %" } else { "" };
    let cost = format!(
        "profiler  makes the step {} {} (95 % interval {} to {}){dear}",
        percent(cost.median.abs()),
        if cost.median < 0.0 { "faster" } else { "slower" },
        percent(cost.interval[0]),
        percent(cost.interval[1])
    );
    let roof = format!(
        "roof      {:.0} GFLOP/s and {:.1} GB/s on {}: below {:.0} FLOPs per byte, memory limits",
        profile.roof.gflops,
        profile.roof.gbytes_per_s,
        numbers::counted(profile.threads, "thread"),
        profile.roof.ridge()
    );
    [sum, cost, roof].iter().map(|line| indented(line, FOOT)).collect::<String>() + &memory_foot(profile)
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
    let text = format!(
        "memory    {}: {}; most activations at once: {} at {}",
        numbers::bytes(memory.total),
        parts.join(", "),
        numbers::bytes(memory.peak),
        memory.peak_at
    );
    indented(&text, FOOT)
}

/// Why layers are far from the roof.
fn reasons(rows: &[Row]) -> String {
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
    if lines.is_empty() {
        return String::new();
    }
    let line = |(why, names): &(String, Vec<String>)| indented(&format!("- {}: {why}", names.join(", ")), 2);
    format!("\n{}{}", sentence("Below half of the roof, and why:"), lines.iter().map(line).collect::<String>())
}
