//! Edits of stacks: layers one after the other, and inside residual connections.

use vitreous_engine::profile::LANES;

use super::{Change, Edit, Piece};
use crate::config::model::{Extent, Layer, Placed, PlacedKind, Residual, StackConfig, StackSpec, Window, WrittenLayer};
use crate::numbers::counted;

/// Fewest positions along a side of a map that is made smaller.
const SIDE_MIN: usize = 4;

/// A stack with its layers in the order in which they compute, each with its line.
pub struct Stack<'a> {
    lists: Vec<Vec<Item<'a>>>,
}

/// A layer in a list: the stack itself, or the inside of a residual connection.
struct Item<'a> {
    placed: &'a Placed,
    /// Its line; empty for a residual connection.
    line: &'a str,
}

impl Item<'_> {
    fn layer(&self) -> Option<Layer> {
        match self.placed.kind {
            PlacedKind::Layer(layer) => Some(layer),
            PlacedKind::Residual { .. } => None,
        }
    }

    fn name(&self) -> String {
        self.placed.name.clone()
    }

    /// Describes a change of its line.
    fn becomes(&self, to: &str) -> String {
        format!("{}: {} -> {to}", self.placed.name, self.line)
    }

    /// A convolution's channels, window and groups.
    fn convolution(&self) -> Option<(usize, Window, usize)> {
        match self.layer()? {
            Layer::Convolution { channels, window, groups, .. } => Some((channels, window, groups)),
            _ => None,
        }
    }

    fn is_pool(&self) -> bool {
        matches!(self.layer(), Some(Layer::MaxPool(_) | Layer::AvgPool(_)))
    }

    /// Whether it belongs to the convolution or linear layer before it.
    fn follows(&self) -> bool {
        self.is_norm() || matches!(self.layer(), Some(Layer::Activation(_) | Layer::Dropout { .. }))
    }

    fn is_norm(&self) -> bool {
        matches!(self.layer(), Some(Layer::BatchNorm | Layer::GroupNorm { .. } | Layer::LayerNorm))
    }

    /// Positions along the shorter side of its output; none where it is not a map.
    fn side(&self) -> Option<usize> {
        side(self.placed.output)
    }
}

fn side(extent: Extent) -> Option<usize> {
    match extent {
        Extent::Map { height, width, .. } => Some(height.min(width)),
        Extent::Features(_) => None,
    }
}

fn channels_of(extent: Extent) -> Option<usize> {
    match extent {
        Extent::Map { channels, .. } => Some(channels),
        Extent::Features(_) => None,
    }
}

impl<'a> Stack<'a> {
    pub fn new(config: &'a StackConfig) -> Stack<'a> {
        let mut stack = Stack { lists: Vec::new() };
        stack.add(config.layout(), &config.spec().layers);
        stack
    }

    fn add(&mut self, placed: &'a [Placed], written: &'a [WrittenLayer]) {
        let line = |written: &'a WrittenLayer| match written {
            WrittenLayer::Line(line) => line.trim(),
            WrittenLayer::Residual(_) => "",
        };
        self.lists
            .push(placed.iter().zip(written).map(|(placed, written)| Item { placed, line: line(written) }).collect());
        for (placed, written) in placed.iter().zip(written) {
            if let (PlacedKind::Residual { body, shortcut }, WrittenLayer::Residual(inside)) = (&placed.kind, written) {
                self.add(body, &inside.residual);
                self.add(shortcut, &inside.shortcut);
            }
        }
    }

    fn items(&self) -> impl Iterator<Item = &Item<'a>> {
        self.lists.iter().flatten()
    }

    /// Each list with the places of its blocks: a convolution and what follows it.
    fn blocks(&self) -> impl Iterator<Item = (&[Item<'a>], usize, usize)> {
        self.lists.iter().flat_map(|list| {
            let starts = (0..list.len()).filter(|&at| list[at].convolution().is_some());
            starts.map(move |at| (&list[..], at, end_of_block(list, at)))
        })
    }
}

/// The place after a layer and the norms, activations and dropout that follow it.
fn end_of_block(list: &[Item], at: usize) -> usize {
    at + 1 + list[at + 1..].iter().take_while(|item| item.follows()).count()
}

/// A line with another first number.
fn with_size(line: &str, size: usize) -> String {
    let mut words: Vec<String> = line.split_whitespace().map(str::to_string).collect();
    if let Some(word) = words.get_mut(1) {
        *word = size.to_string();
    }
    words.join(" ")
}

/// A line with another value of an option; defaults are not written. A kernel takes its default padding with it.
fn with_option(line: &str, option: char, value: usize) -> String {
    let is_option = |word: &str, option: char| {
        word.strip_prefix(option).is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut words: Vec<String> = line.split_whitespace().map(str::to_string).collect();
    words.retain(|word| !(is_option(word, option) || option == 'k' && is_option(word, 'p')));
    if value != if option == 'k' { 3 } else { 1 } {
        words.insert(words.len().min(2), format!("{option}{value}"));
    }
    words.join(" ")
}

/// Sizes near to another: half, one and a half times, twice, and the neighboring multiples of the lanes.
fn sizes(size: usize) -> Vec<usize> {
    let mut sizes = vec![size / 2, size * 3 / 2, size * 2];
    if !size.is_multiple_of(LANES) {
        sizes.extend([size / LANES * LANES, size.div_ceil(LANES) * LANES]);
    }
    sizes.retain(|&other| other > 0 && other != size);
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

pub fn channels(stack: &Stack) -> Vec<Edit> {
    let size_of = |item: &Item| match item.layer()? {
        Layer::Convolution { channels, .. } => Some(channels),
        Layer::Linear { features, .. } => features,
        _ => None,
    };
    let edit = |item: &Item, own: usize, size: usize| {
        let fills_lanes = size.is_multiple_of(LANES) && !own.is_multiple_of(LANES);
        Edit::new(item.becomes(&with_size(item.line, size)), vec![Change::Size(item.name(), size)]).because(
            match (fills_lanes, size < own) {
                (true, true) => "fewer channels cost less, and a multiple of 16 fills the vector lanes",
                (true, false) => "a multiple of 16 fills the vector lanes: more channels in the same time",
                (false, true) => "fewer channels cost less",
                (false, false) => "more channels let a layer tell more patterns apart",
            },
        )
    };
    stack
        .items()
        .filter_map(|item| Some((item, size_of(item)?)))
        .flat_map(|(item, size)| sizes(size).into_iter().map(move |other| edit(item, size, other)))
        .collect()
}

pub fn width(stack: &Stack) -> Vec<Edit> {
    let convolutions: Vec<(&Item, usize)> =
        stack.items().filter_map(|item| Some((item, item.convolution()?.0))).collect();
    if convolutions.len() < 2 {
        return Vec::new();
    }
    let edit = |(times, by): (&str, [usize; 2])| {
        let size = |size: usize| (size * by[0] / by[1]).max(1);
        let changes = convolutions.iter().map(|(item, channels)| Change::Size(item.name(), size(*channels))).collect();
        let sizes: Vec<String> = convolutions.iter().map(|(_, channels)| size(*channels).to_string()).collect();
        Edit::new(format!("all convolutions {times} as wide: {} channels", sizes.join(", ")), changes)
            .because(if by[0] < by[1] { "a narrower model costs less" } else { "a wider model can represent more" })
    };
    [("half", [1, 2]), ("three quarters", [3, 4]), ("1.5 times", [3, 2]), ("twice", [2, 1])].map(edit).into()
}

pub fn kernel(stack: &Stack) -> Vec<Edit> {
    let edits = |(item, window): (&Item, Window)| {
        let sizes =
            [window.kernel.checked_sub(2), Some(window.kernel + 2)].into_iter().flatten().filter(|&size| size > 0);
        let edit = |size| {
            Edit::new(item.becomes(&with_option(item.line, 'k', size)), vec![Change::Option(item.name(), 'k', size)])
                .because(match size < window.kernel {
                    true => "a convolution's cost grows with the square of its kernel",
                    false => "a larger kernel sees more of the image",
                })
        };
        sizes.map(edit).collect::<Vec<_>>()
    };
    stack.items().filter_map(|item| Some((item, item.convolution()?.1))).flat_map(edits).collect()
}

pub fn stride(stack: &Stack) -> Vec<Edit> {
    let edit = |item: &Item| {
        let (_, window, _) = item.convolution()?;
        let stride = if window.stride == 1 { 2 } else { 1 };
        let is_large = stride == 1 || item.side()? >= SIDE_MIN;
        is_large.then(|| {
            Edit::new(
                item.becomes(&with_option(item.line, 's', stride)),
                vec![Change::Option(item.name(), 's', stride)],
            )
            .because(if stride == 1 { "a stride of 1 keeps details" } else { "" })
        })
    };
    stack.items().filter_map(edit).collect()
}

/// Why pools move.
const SMALLER: &str = "pooling earlier, or more often, makes the maps of later layers smaller";
const DETAILS: &str = "pooling later, or less often, keeps details";

pub fn pool(stack: &Stack) -> Vec<Edit> {
    let mut edits = Vec::new();
    for list in &stack.lists {
        let starts: Vec<usize> = (0..list.len()).filter(|&at| list[at].convolution().is_some()).collect();
        for (at, item) in list.iter().enumerate().filter(|(_, item)| item.is_pool()) {
            edits.push(
                Edit::new(format!("{}: {} removed", item.name(), item.line), vec![Change::Remove(item.name())])
                    .because(DETAILS),
            );
            // Before the convolution that is before it, and behind the one that is behind it.
            let before = starts.iter().rev().find(|&&start| start > 0 && start < at).map(|&start| start - 1);
            let behind = starts.iter().find(|&&start| start > at).map(|&start| end_of_block(list, start) - 1);
            for (place, how) in [(before, "earlier"), (behind, "later")] {
                if let Some(place) = place.map(|place| &list[place]) {
                    let what = format!("{}: {} {how}, after {} ({})", item.name(), item.line, place.name(), place.line);
                    let edit = Edit::new(what, vec![Change::Move(item.name(), place.name())]);
                    edits.push(edit.because(if how == "earlier" { SMALLER } else { DETAILS }));
                }
            }
        }
    }
    for (list, _, end) in stack.blocks() {
        let last = &list[end - 1];
        let is_followed = list.get(end).is_some_and(Item::is_pool);
        if !is_followed && last.side().is_some_and(|side| side >= SIDE_MIN) {
            let what = format!("maxpool 2 added after {} ({})", last.name(), last.line);
            edits.push(Edit::new(what, vec![Change::Insert(last.name(), "maxpool 2".to_string())]).because(SMALLER));
        }
    }
    edits
}

pub fn norm(stack: &Stack) -> Vec<Edit> {
    let bare: Vec<&Item> = stack
        .blocks()
        .filter(|(list, at, end)| !list[*at..*end].iter().any(Item::is_norm))
        .map(|(list, at, _)| &list[at])
        .collect();
    let insert = |item: &&Item| Change::Insert(item.name(), "batchnorm".to_string());
    let edit =
        |item: &&Item| Edit::new(format!("batchnorm added after {} ({})", item.name(), item.line), vec![insert(item)]);
    let mut edits: Vec<Edit> = bare.iter().map(edit).collect();
    if bare.len() > 1 {
        let what = format!("batchnorm added after each of {}", counted(bare.len(), "convolution"));
        edits.push(Edit::new(what, bare.iter().map(insert).collect()));
    }
    edits
}

pub fn head(stack: &Stack) -> Vec<Edit> {
    let is_flatten =
        |item: &Item| item.layer() == Some(Layer::Flatten) && side(item.placed.input).is_some_and(|side| side > 1);
    let edit = |item: &Item| {
        Edit::new(
            item.becomes("globalpool"),
            vec![Change::Replace(item.name(), vec![Piece::Line("globalpool".to_string())])],
        )
    };
    stack.items().filter(|item| is_flatten(item)).map(edit).collect()
}

pub fn separable(stack: &Stack) -> Vec<Edit> {
    let edit = |item: &Item| {
        let (channels, window, groups) = item.convolution()?;
        let input = channels_of(item.placed.input)?;
        if groups > 1 || window.kernel < 3 || input < 8 {
            return None;
        }
        let depthwise = format!("{} g{input}", with_size(item.line, input));
        let lines = [depthwise, format!("conv {channels} k1")];
        let what = item.becomes(&lines.join(", "));
        Some(Edit::new(what, vec![Change::Replace(item.name(), lines.map(Piece::Line).into())]))
    };
    stack.items().filter_map(edit).collect()
}

pub fn residual(stack: &Stack) -> Vec<Edit> {
    // Only in the stack itself: what is inside a residual connection has one.
    let edit = |item: &Item| {
        let is_alike = item.convolution().is_some() && item.placed.input == item.placed.output;
        is_alike.then(|| {
            Edit::new(
                format!("{}: {} with a residual connection", item.name(), item.line),
                vec![Change::Replace(item.name(), vec![Piece::Residual(vec![item.line.to_string()])])],
            )
        })
    };
    stack.lists[0].iter().filter_map(edit).collect()
}

pub fn drop_layer(stack: &Stack) -> Vec<Edit> {
    let mut edits = Vec::new();
    for list in &stack.lists {
        for (at, item) in list.iter().enumerate() {
            let end = match item.layer() {
                Some(Layer::Convolution { .. } | Layer::Linear { features: Some(_), .. }) => end_of_block(list, at),
                Some(Layer::Dropout { .. }) => at + 1,
                _ if item.is_norm() => at + 1,
                _ => continue,
            };
            let lines: Vec<&str> = list[at..end].iter().map(|item| item.line).collect();
            let changes = list[at..end].iter().map(|item| Change::Remove(item.name())).collect();
            edits.push(Edit::new(format!("{}: {} dropped", item.name(), lines.join(", ")), changes));
        }
    }
    edits
}

pub fn attention(stack: &Stack) -> Vec<Edit> {
    let mut edits = Vec::new();
    for list in &stack.lists {
        let is_attention = |item: &Item| matches!(item.layer(), Some(Layer::Attention { .. }));
        for (at, item) in list.iter().enumerate().filter(|(_, item)| is_attention(item)) {
            edits.push(
                Edit::new(format!("{}: {} dropped", item.name(), item.line), vec![Change::Remove(item.name())])
                    .because("attention costs the square of the positions"),
            );
            // Behind the first layer that makes the map smaller, and behind the norm and activation of a convolution.
            let is_smaller = |later: &usize| list[*later].side().is_some_and(|side| Some(side) < item.side());
            if let Some(later) = (at + 1..list.len()).find(is_smaller) {
                let place = &list[end_of_block(list, later) - 1];
                let (own, after) = (item.name(), place.name());
                let what = format!("{own}: {} moved to a smaller map, after {after} ({})", item.line, place.line);
                edits.push(
                    Edit::new(what, vec![Change::Move(own, after)])
                        .because("attention costs the square of the positions: less on a smaller map"),
                );
            }
        }
    }
    edits
}

/// A layer that keeps the name that it had before the first change.
#[derive(Clone, Debug)]
struct Node {
    name: String,
    kind: NodeKind,
}

#[derive(Clone, Debug)]
enum NodeKind {
    Line(String),
    Residual { body: Vec<Node>, shortcut: Vec<Node> },
}

/// Makes changes; none where a layer that one of them names is gone.
pub fn apply<'a>(changes: impl Iterator<Item = &'a Change>, spec: StackSpec) -> Option<StackSpec> {
    let mut nodes = nodes("layers", &spec.layers);
    for change in changes {
        make(change, &mut nodes)?;
    }
    Some(StackSpec { layers: written(nodes), ..spec })
}

fn nodes(prefix: &str, layers: &[WrittenLayer]) -> Vec<Node> {
    let node = |(at, layer): (usize, &WrittenLayer)| {
        let name = format!("{prefix}.{at}");
        let kind = match layer {
            WrittenLayer::Line(line) => NodeKind::Line(line.clone()),
            WrittenLayer::Residual(Residual { residual, shortcut }) => NodeKind::Residual {
                body: nodes(&format!("{name}.residual"), residual),
                shortcut: nodes(&format!("{name}.shortcut"), shortcut),
            },
        };
        Node { name, kind }
    };
    layers.iter().enumerate().map(node).collect()
}

fn written(nodes: Vec<Node>) -> Vec<WrittenLayer> {
    let layer = |node: Node| match node.kind {
        NodeKind::Line(line) => WrittenLayer::Line(line),
        NodeKind::Residual { body, shortcut } => {
            WrittenLayer::Residual(Residual { residual: written(body), shortcut: written(shortcut) })
        }
    };
    nodes.into_iter().map(layer).collect()
}

/// The list that has a layer of this name, and its place there.
fn find<'a>(name: &str, list: &'a mut Vec<Node>) -> Option<(&'a mut Vec<Node>, usize)> {
    if let Some(at) = list.iter().position(|node| node.name == name) {
        return Some((list, at));
    }
    list.iter_mut().find_map(|node| match &mut node.kind {
        NodeKind::Line(_) => None,
        NodeKind::Residual { body, shortcut } => find(name, body).or_else(|| find(name, shortcut)),
    })
}

fn make(change: &Change, nodes: &mut Vec<Node>) -> Option<()> {
    let line = |name: String, line: &str| Node { name, kind: NodeKind::Line(line.to_string()) };
    match change {
        Change::Set(..) => return None,
        Change::Size(layer, size) => edit_line(layer, nodes, |line| with_size(line, *size))?,
        Change::Option(layer, option, value) => edit_line(layer, nodes, |line| with_option(line, *option, *value))?,
        Change::Remove(layer) => {
            let (list, at) = find(layer, nodes)?;
            list.remove(at);
        }
        Change::Insert(after, text) => {
            let (list, at) = find(after, nodes)?;
            list.insert(at + 1, line(format!("{after}+"), text));
        }
        Change::Move(layer, after) => {
            let (list, at) = find(layer, nodes)?;
            let node = list.remove(at);
            let (list, at) = find(after, nodes)?;
            list.insert(at + 1, node);
        }
        Change::Replace(layer, pieces) => {
            let (list, at) = find(layer, nodes)?;
            let node = |(number, piece): (usize, &Piece)| {
                // The last one keeps the name: what is put after the layer comes after it.
                let name = if number + 1 == pieces.len() { layer.clone() } else { format!("{layer}.{number}") };
                match piece {
                    Piece::Line(text) => line(name, text),
                    Piece::Residual(lines) => {
                        let body = lines.iter().map(|text| line(String::new(), text)).collect();
                        Node { name, kind: NodeKind::Residual { body, shortcut: Vec::new() } }
                    }
                }
            };
            list.splice(at..=at, pieces.iter().enumerate().map(node).collect::<Vec<_>>());
        }
    }
    Some(())
}

fn edit_line(layer: &str, nodes: &mut Vec<Node>, change: impl Fn(&str) -> String) -> Option<()> {
    let (list, at) = find(layer, nodes)?;
    match &mut list[at].kind {
        NodeKind::Line(line) => *line = change(line),
        NodeKind::Residual { .. } => return None,
    }
    Some(())
}
