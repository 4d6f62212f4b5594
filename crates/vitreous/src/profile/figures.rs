//! The figures of a profile.

use super::{Profile, Row, What};
use crate::numbers;
use crate::plot::Figure;
use crate::plot::profile::{RoofPoint, TimeBar, roofline, time_bars};
use crate::plot::style::Style;

/// Time by layer, and the layers under the roof.
pub fn figures(profile: &Profile, style: &'static Style) -> [Option<Figure>; 2] {
    let what = match profile.what {
        What::TrainingStep => "training step",
        What::Inference => "inference",
    };
    let below = format!(
        "{}: a {what} of {} takes {:.1} ms on {}",
        profile.model,
        numbers::counted(profile.batch, "image"),
        profile.sum_ms,
        numbers::counted(profile.threads, "thread")
    );
    let bar = |row: &Row| TimeBar {
        name: match row.operation.as_str() {
            "" => row.name(),
            operation => format!("{}: {operation}", row.name()),
        },
        ms: if row.is_layer() { [row.forward_ms, row.backward_ms, 0.0] } else { [0.0, 0.0, row.ms.median] },
        note: row.limit.map_or("", |limit| limit.name()).to_string(),
    };
    let point = |row: &Row| RoofPoint {
        name: row.name(),
        operation: row.operation.clone(),
        intensity: row.intensity,
        gflops: row.gflops,
        share: row.share,
    };
    let bars: Vec<TimeBar> = profile.layers.iter().map(bar).collect();
    let points: Vec<RoofPoint> = profile.layers.iter().filter(|row| row.is_layer()).map(point).collect();
    let roof = [profile.roof.gflops, profile.roof.gbytes_per_s];
    [time_bars(&bars, &below, style), roofline(&points, roof, &below, style)]
}
