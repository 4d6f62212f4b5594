//! Why a layer stays below half of the roof, from its sizes and numbers: a table of rules, the first that applies counts.

use serde::{Deserialize, Serialize};
use vitreous_engine::ops::{Activation, Convolution, Op};
use vitreous_engine::profile::{LANES, TILE_ROWS};

use super::Spread;
use super::rows::{HALF, is_product};
use crate::numbers::counted;

/// Time of a run below which starting it matters, in microseconds.
const SHORT_US: f64 = 3.0;

/// Why a layer is slow, and what would be faster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Why.
    pub why: String,
    /// What would fit better; empty where nothing would.
    pub instead: String,
}

/// A layer below half of the roof.
pub(super) struct Subject<'a> {
    pub op: &'a Op,
    /// Whether it computes the logits, whose number the data decides.
    pub is_head: bool,
    /// Shapes without the batch axis.
    pub input: &'a [usize],
    pub output: &'a [usize],
    /// Maximum number of images that are computed together.
    pub chunk: usize,
    /// Columns of a tile of a matrix product.
    pub tile_columns: usize,
    /// Floating-point operations per byte, of the layer and where the roof bends.
    pub intensity: f64,
    pub ridge: f64,
    /// Part of its bytes that are read and written in each run, for any number of images.
    pub fixed: f64,
    pub microseconds_per_run: f64,
    /// Part of the roof that it reaches.
    pub share: f64,
    /// Part that its forward and its backward pass reach; 0 where it has none.
    pub passes: [f64; 2],
    pub ms: Spread,
    pub part_of_step: f64,
}

/// Part of a step below which interruptions do not matter.
const SMALL: f64 = 0.01;

/// How much closer to the roof one pass must be than the other to be worth a word.
const MORE: f64 = 1.5;

type Rule = fn(&Subject) -> Option<Reason>;

/// The rules; what is special comes before what is general.
const RULES: [Rule; 11] = [
    interrupted,
    moves_values,
    few_channels_per_group,
    narrow_heads,
    ragged_columns,
    few_columns,
    few_rows,
    memory_bound_product,
    short_runs,
    row_by_row,
    unknown,
];

/// The reason of a layer.
pub(super) fn reason(subject: &Subject) -> Reason {
    RULES.iter().find_map(|rule| rule(subject)).expect("the last rule always applies")
}

fn because(why: String, instead: impl Into<String>) -> Option<Reason> {
    Some(Reason { why, instead: instead.into() })
}

impl Subject<'_> {
    /// The convolution, if it is one.
    fn convolution(&self) -> Option<Convolution> {
        match self.op {
            Op::Conv2d(convolution) => Some(*convolution),
            _ => None,
        }
    }

    /// Columns of the product: output features, or output channels of a group.
    fn columns(&self) -> Option<usize> {
        let all = *self.output.last().filter(|_| is_product(self.op))?;
        Some(match self.op {
            Op::Conv2d(convolution) => all / convolution.groups,
            Op::PerHeadLinear { heads, count } => all / heads / count,
            _ => all,
        })
    }

    /// What would fit better, unless the data decides the number of columns.
    fn not_of_head(&self, instead: String) -> String {
        if self.is_head { String::new() } else { instead }
    }

    /// Rows of an image in the product.
    fn rows(&self) -> usize {
        self.output.iter().rev().skip(1).product()
    }

    /// What the columns of its product are called.
    fn columns_are(&self) -> &'static str {
        if self.convolution().is_some() { "output channel" } else { "output feature" }
    }
}

/// Columns that whole vectors have.
fn whole(columns: usize) -> usize {
    columns.next_multiple_of(LANES)
}

/// The fastest steps are those that other programs interrupt least.
fn interrupted(subject: &Subject) -> Option<Reason> {
    let Spread { median, p10, .. } = subject.ms;
    if subject.part_of_step < SMALL || !subject.ms.is_wide() || subject.share * median < HALF * p10 {
        return None;
    }
    because(
        "its fastest steps reach more than half of the roof: in the others, other programs interrupt it".to_string(),
        "",
    )
}

fn moves_values(subject: &Subject) -> Option<Reason> {
    let moves = matches!(
        subject.op,
        Op::ChannelsLast
            | Op::ChannelsFirst
            | Op::Patches { .. }
            | Op::ConcatFeatures
            | Op::Reshape
            | Op::SliceFeatures { .. }
            | Op::SliceTokens { .. }
            | Op::SelectToken { .. }
            | Op::PrependToken
            | Op::Embedding
            | Op::TrainedConstant
    );
    if !moves {
        return None;
    }
    because("it only moves values, in small pieces".to_string(), "")
}

fn few_channels_per_group(subject: &Subject) -> Option<Reason> {
    let convolution = subject.convolution().filter(|convolution| convolution.groups > 1)?;
    let [input, output] = [subject.input, subject.output].map(|map| map.last().map_or(0, |&c| c / convolution.groups));
    if [input, output] == [1, 1] {
        // Its channels are vectors.
        let (products, per_byte) = (convolution.kernel.pow(2), subject.intensity);
        return because(
            format!("each result sums only {products} products, of one channel: {per_byte:.1} FLOPs for each byte"),
            "",
        );
    }
    if output >= LANES {
        return None;
    }
    because(
        format!(
            "each of its {} groups has {} and {}: {output} of {LANES} lanes compute",
            convolution.groups,
            counted(input, "input channel"),
            counted(output, "output channel")
        ),
        "fewer groups, or a plain convolution, which takes less time than its operations suggest",
    )
}

fn narrow_heads(subject: &Subject) -> Option<Reason> {
    let (Op::Attention(attention) | Op::Attend(attention)) = subject.op else { return None };
    let (tokens, width) = (subject.rows(), subject.output.last()? / attention.heads);
    if width < LANES {
        return because(
            format!("heads are {width} wide: {width} of {LANES} lanes compute"),
            format!("fewer heads, each at least {LANES} wide"),
        );
    }
    because(
        format!("softmax over {tokens} tokens takes exponentials, and heads of {width} make short products"),
        "fewer tokens (larger patches), or fewer and wider heads",
    )
}

fn ragged_columns(subject: &Subject) -> Option<Reason> {
    let columns = subject.columns()?;
    let part = columns as f64 / whole(columns) as f64;
    if part > 0.85 {
        return None;
    }
    because(
        format!("{} fill {columns} of {} lanes", counted(columns, subject.columns_are()), whole(columns)),
        subject.not_of_head(format!("a multiple of {LANES}: {} take no more time", whole(columns))),
    )
}

fn few_columns(subject: &Subject) -> Option<Reason> {
    let columns = subject.columns()?;
    if whole(columns) >= subject.tile_columns {
        return None;
    }
    let vectors = whole(columns) / LANES;
    because(
        format!(
            "{} are {} a row, but registers have room for {}: each number that is read serves fewer \
             products{}",
            counted(columns, subject.columns_are()),
            counted(vectors, "vector"),
            subject.tile_columns / LANES,
            if subject.passes[1] > 0.0 { ", most of all in the weights' gradient" } else { "" }
        ),
        // Not less time for the layer, but more done in it.
        subject.not_of_head(format!(
            "fewer layers with {} each, which do more in the same time",
            counted(subject.tile_columns, subject.columns_are())
        )),
    )
}

fn few_rows(subject: &Subject) -> Option<Reason> {
    let rows = subject.rows() * subject.chunk;
    let waits_for_weights = subject.intensity < subject.ridge && subject.fixed > 0.5;
    if !is_product(subject.op) || rows >= 4 * TILE_ROWS && !waits_for_weights {
        return None;
    }
    let (images, rows) = (counted(subject.chunk, "image"), counted(rows, "row"));
    because(
        match waits_for_weights {
            true => format!(
                "{:.0} % of its bytes are weights and their gradients, read again for each {images} ({rows})",
                subject.fixed * 100.0
            ),
            false => format!("{images} at a time have {rows}: its weights are read for few products"),
        },
        "a narrower layer, or a larger batch",
    )
}

fn memory_bound_product(subject: &Subject) -> Option<Reason> {
    if !is_product(subject.op) || subject.intensity >= subject.ridge {
        return None;
    }
    let inner = match subject.convolution() {
        Some(convolution) => convolution.fan_in(*subject.input.last()?),
        None => *subject.input.last()?,
    };
    because(
        format!(
            "each result sums only {} products: {:.1} FLOPs for each byte, and this machine computes {:.0} in the time \
             that memory takes for one",
            inner, subject.intensity, subject.ridge
        ),
        "more input channels, or a larger kernel with fewer layers",
    )
}

fn short_runs(subject: &Subject) -> Option<Reason> {
    if subject.microseconds_per_run >= SHORT_US {
        return None;
    }
    because(
        format!("a call takes {:.1} µs, so starting it counts", subject.microseconds_per_run),
        "fewer and larger layers",
    )
}

fn row_by_row(subject: &Subject) -> Option<Reason> {
    if is_product(subject.op) {
        return None;
    }
    let has_functions = matches!(
        subject.op,
        Op::Softmax
            | Op::LayerNorm { .. }
            | Op::GroupNorm { .. }
            | Op::BatchNorm { .. }
            | Op::Activation(Activation::Gelu | Activation::GeluTanh | Activation::Tanh)
    );
    let functions = if has_functions { ", with roots or exponentials that no multiply-add unit does" } else { "" };
    because(
        format!("it computes value by value, {:.1} FLOPs for each byte{functions}", subject.intensity),
        match subject.input.len() {
            3 => "a smaller map where it stands",
            2 => "fewer tokens where it stands",
            _ => "",
        },
    )
}

fn unknown(subject: &Subject) -> Option<Reason> {
    let [forward, backward] = subject.passes;
    let part = match is_product(subject.op) {
        true if backward > 0.0 && forward > MORE * backward => "; the gradients are the furthest from the roof",
        true if forward > 0.0 && backward > MORE * forward => "; the forward pass is the furthest from the roof",
        _ => "",
    };
    because(format!("its sizes do not say why{part}"), "")
}

#[cfg(test)]
mod tests {
    use vitreous_engine::ops::{Attention, Pool};

    use super::*;

    const PLAIN: Subject = Subject {
        op: &Op::Linear,
        is_head: false,
        input: &[],
        output: &[],
        chunk: 8,
        tile_columns: 64,
        intensity: 20.0,
        ridge: 10.0,
        fixed: 0.1,
        microseconds_per_run: 50.0,
        share: 0.3,
        passes: [0.5, 0.2],
        ms: Spread { median: 1.0, p10: 1.0, p90: 1.1 },
        part_of_step: 0.2,
    };

    fn why(subject: &Subject) -> String {
        reason(subject).why
    }

    fn conv(convolution: Convolution, map: [usize; 3], change: impl Fn(&mut Subject)) -> Reason {
        let Convolution { kernel, stride, padding, out_channels, .. } = convolution;
        let out = |len: usize| (len + 2 * padding - kernel) / stride + 1;
        let (op, output) = (Op::Conv2d(convolution), [out(map[0]), out(map[1]), out_channels]);
        let mut subject = Subject { op: &op, input: &map, output: &output, ..PLAIN };
        change(&mut subject);
        reason(&subject)
    }

    #[test]
    fn lanes_that_no_channel_fills() {
        let found = conv(Convolution::new(13, 3), [20, 20, 32], |_| ());
        assert_eq!(
            (found.why.as_str(), found.instead.as_str()),
            ("13 output channels fill 13 of 16 lanes", "a multiple of 16: 16 take no more time")
        );
        // 30 of 32 lanes are enough; then it is the tile that is not filled.
        let found = conv(Convolution::new(30, 3), [20, 20, 32], |_| ());
        assert_eq!(
            found.why,
            "30 output channels are 2 vectors a row, but registers have room for 4: each number that is read serves fewer \
             products, most of all in the weights' gradient"
        );
        assert_eq!(found.instead, "fewer layers with 64 output channels each, which do more in the same time");
        // The data decides the number of classes.
        let head = |out: &[usize]| reason(&Subject { input: &[128], output: out, is_head: true, ..PLAIN });
        assert_eq!(
            (head(&[10]).why.as_str(), head(&[10]).instead.as_str()),
            ("10 output features fill 10 of 16 lanes", "")
        );
        assert!(head(&[30]).why.contains("are 2 vectors a row") && head(&[30]).instead.is_empty());
        let narrow = conv(Convolution::new(16, 3), [20, 20, 32], |subject| subject.tile_columns = 16);
        assert!(narrow.why.starts_with("its sizes do not say"), "a tile of 16 columns is full: {narrow:?}");
    }

    #[test]
    fn products_of_few_channels_wait_for_memory() {
        let found = conv(Convolution::new(64, 1), [20, 20, 8], |subject| subject.intensity = 3.55);
        assert_eq!(
            found.why,
            "each result sums only 8 products: 3.5 FLOPs for each byte, and this machine computes 10 in the time that \
             memory takes for one"
        );
        assert_eq!(found.instead, "more input channels, or a larger kernel with fewer layers");
    }

    #[test]
    fn groups_of_few_channels_leave_lanes_empty() {
        let found = conv(Convolution::new(32, 3).groups(8), [20, 20, 32], |_| ());
        assert_eq!(found.why, "each of its 8 groups has 4 input channels and 4 output channels: 4 of 16 lanes compute");
        let by_itself = conv(Convolution::new(32, 3).groups(32), [20, 20, 32], |subject| subject.intensity = 1.5);
        assert_eq!(by_itself.why, "each result sums only 9 products, of one channel: 1.5 FLOPs for each byte");
        assert!(found.instead.contains("fewer groups"));
    }

    #[test]
    fn narrow_heads_and_many_tokens() {
        let attention = |heads: usize| Op::Attention(Attention::new(heads, 0.5, None));
        let of = |op: &Op| reason(&Subject { op, input: &[50, 96], output: &[50, 32], ..PLAIN });
        assert_eq!(of(&attention(8)).why, "heads are 4 wide: 4 of 16 lanes compute");
        assert_eq!(of(&attention(8)).instead, "fewer heads, each at least 16 wide");
        assert!(of(&attention(2)).why.starts_with("softmax over 50 tokens"));
    }

    #[test]
    fn few_rows_for_the_weights() {
        let of = |chunk: usize| why(&Subject { input: &[512], output: &[128], chunk, ..PLAIN });
        assert_eq!(of(8), "8 images at a time have 8 rows: its weights are read for few products");
        assert!(of(64).starts_with("its sizes do not say"), "{}", of(64));
        // Most bytes are weights: it is not the inner axis that is short.
        let wide = Subject { input: &[512], output: &[128], chunk: 64, intensity: 7.0, fixed: 0.875, ..PLAIN };
        assert_eq!(
            why(&wide),
            "88 % of its bytes are weights and their gradients, read again for each 64 images (64 rows)"
        );
        assert_eq!(reason(&wide).instead, "a narrower layer, or a larger batch");
        assert!(why(&Subject { fixed: 0.4, ..wide }).starts_with("each result sums only 512 products"));
    }

    #[test]
    fn what_only_moves_values_or_computes_value_by_value() {
        let shape = [20, 20, 64];
        let of = |op: &Op, us: f64| {
            why(&Subject { op, input: &shape, output: &shape, microseconds_per_run: us, intensity: 0.25, ..PLAIN })
        };
        assert_eq!(of(&Op::ChannelsLast, 50.0), "it only moves values, in small pieces");
        assert_eq!(of(&Op::Activation(Activation::Gelu), 1.25), "a call takes 1.2 µs, so starting it counts");
        assert_eq!(
            of(&Op::Activation(Activation::Gelu), 50.0),
            "it computes value by value, 0.2 FLOPs for each byte, with roots or exponentials that no multiply-add unit does"
        );
        let pool = reason(&Subject {
            op: &Op::MaxPool2d(Pool { kernel: 2, stride: 2, padding: 0 }),
            input: &shape,
            output: &[10, 10, 64],
            intensity: 0.25,
            ..PLAIN
        });
        assert_eq!(pool.why, "it computes value by value, 0.2 FLOPs for each byte");
        assert_eq!(pool.instead, "a smaller map where it stands");
    }

    #[test]
    fn a_layer_that_is_only_interrupted_has_no_fault_of_its_own() {
        let ms = Spread { median: 4.0, p10: 2.0, p90: 7.25 };
        // 30 % of the roof in the median step, 60 % in the fastest ones.
        let busy = Subject { input: &[50, 256], output: &[50, 13], ms, ..PLAIN };
        assert!(why(&busy).starts_with("its fastest steps reach more than half of the roof"), "{}", why(&busy));
        let steady = Spread { p10: 3.9, p90: 4.1, ..ms };
        let slow = Spread { p10: 3.0, ..ms };
        for other in
            [Subject { ms: steady, ..busy }, Subject { ms: slow, ..busy }, Subject { part_of_step: 0.005, ..busy }]
        {
            assert!(why(&other).starts_with("13 output features fill 13 of 16 lanes"), "{}", why(&other));
        }
    }

    #[test]
    fn without_a_reason_nothing_is_made_up() {
        let subject = Subject { input: &[50, 256], output: &[50, 256], ..PLAIN };
        assert_eq!(why(&subject), "its sizes do not say why; the gradients are the furthest from the roof");
        assert_eq!(why(&Subject { passes: [0.3, 0.3], ..subject }), "its sizes do not say why");
    }
}
