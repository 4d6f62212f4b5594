//! A training step allocates nothing once its memory is there. The only test of its binary: it counts for all threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use vitreous_engine::graph::{Graph, GraphError, Init, NodeId};
use vitreous_engine::ops::{Activation, AttentionOptions, Convolution, LinearInit, Pool};
use vitreous_engine::profile::Clock;
use vitreous_engine::random::Key;
use vitreous_engine::{Adam, Muon, Optimizer, Parameters, Session, Step, WideRule};

/// Counts what the system's allocator is asked for.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // Not the trait's own, which writes to all of it.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        unsafe { System.dealloc(start, layout) }
    }
}

/// A clock that stands still.
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> u64 {
        0
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A small vision transformer with everything that a step can meet.
fn model() -> Result<(Graph, NodeId, NodeId), GraphError> {
    let mut graph = Graph::new();
    let image = graph.input("image", [2, 6, 9])?;
    let label = graph.input("label", [])?;
    let x = graph.patches("patches", image, 3)?;
    let x = graph.linear("proj", x, 14, LinearInit::pytorch(18))?;
    let token = graph.new_parameter("token", [1, 1, 14], Init::Constant(0.1))?;
    let x = graph.prepend_token("prepend", x, token)?;
    let table = graph.new_parameter("table", [1, 11, 14], Init::Constant(0.1))?;
    let x = graph.add_table("positions", x, table)?;
    let norm = graph.layer_norm_parameters("norm", 14)?;
    let y = graph.layer_norm("norm1", x, norm, 1e-5)?;
    let y = graph.linear("qkv", y, 42, LinearInit::pytorch(14))?;
    let y = graph.attention("attention", y, 2, 0.4, 0.1)?;
    let x = graph.add("sum1", x, y)?;
    let y = graph.layer_norm("norm2", x, norm, 1e-5)?;
    let y = graph.linear("fc1", y, 33, LinearInit::pytorch(14))?;
    let y = graph.activation("act", y, Activation::Gelu)?;
    let y = graph.dropout("drop", y, 0.1)?;
    let y = graph.linear("fc2", y, 14, LinearInit::pytorch(33))?;
    let x = graph.add("sum2", x, y)?;
    let y = graph.per_head_linear("maps", x, 7, 3, LinearInit::pytorch(2))?;
    let y = graph.attention("narrow", y, 7, 0.7, 0.0)?;
    let y = graph.drop_path("path", y, 0.2)?;
    let x = graph.add("sum3", x, y)?;
    let some = graph.slice_tokens("some", x, 1, 3)?;
    let y = graph.attend("attend", x, some, some, AttentionOptions::new(2, 0.4), None)?;
    let x = graph.concat_features("join", &[x, y])?;
    let x = graph.select_token("first", x, 0)?;
    let logits = graph.linear("head", x, 5, LinearInit::pytorch(28))?;
    let loss = graph.cross_entropy("loss", logits, label, 0.1)?;
    let correct = graph.correct("correct", logits, label)?;
    Ok((graph, loss, correct))
}

/// A small convolutional network with all kinds of norms and pooling.
fn network() -> Result<(Graph, NodeId, NodeId), GraphError> {
    let mut graph = Graph::new();
    let image = graph.input("image", [2, 6, 9])?;
    let label = graph.input("label", [])?;
    let x = graph.channels_last("map", image)?;
    let x = graph.conv2d("conv1", x, Convolution::new(6, 3).padding(1), LinearInit::pytorch(18))?;
    let x = graph.batch_norm("norm1", x, 1e-5, 0.1)?;
    let x = graph.activation("act1", x, Activation::Relu)?;
    let x = graph.max_pool2d("pool1", x, Pool::new(2))?;
    let y = graph.conv2d("conv2", x, Convolution::new(6, 3).padding(1).groups(2), LinearInit::pytorch(27))?;
    let y = graph.group_norm("norm2", y, 3, 1e-5)?;
    let x = graph.add("sum", x, y)?;
    let x = graph.avg_pool2d("pool2", x, Pool { kernel: 3, stride: 2, padding: 1 })?;
    let x = graph.channels_first_flat("flat", x)?;
    let logits = graph.linear("head", x, 5, LinearInit::pytorch(24))?;
    let loss = graph.cross_entropy("loss", logits, label, 0.1)?;
    let correct = graph.correct("correct", logits, label)?;
    Ok((graph, loss, correct))
}

#[test]
fn a_step_allocates_nothing_after_two_of_each_size() {
    let examples = |input: usize, example: usize, values: &mut [f32]| {
        for (i, value) in values.iter_mut().enumerate() {
            *value = if input == 0 { ((i * 7 + example * 13) % 11) as f32 * 0.1 } else { (example % 5) as f32 };
        }
    };
    let some_are_wide = WideRule { min_values: 300, min_values_per_activation: 0, min_fraction: 0.0 };
    let ways = [1, 2].into_iter().flat_map(|threads| {
        [WideRule::default(), some_are_wide]
            .into_iter()
            .flat_map(move |rule| [false, true].map(|is_timed| (threads, rule, is_timed)))
    });
    let clipped = Optimizer { clip: Some(1.0), ..Adam::default().into() };
    let builds = [(model as fn() -> _, clipped), (network, clipped), (model, Muon::default().into())];
    for ((threads, rule, is_timed), (build, optimizer)) in ways.flat_map(|way| builds.map(|build| (way, build))) {
        let (graph, loss, correct) = build().expect("the shapes fit");
        let parameters = Parameters::initialize(&graph, Key::new(1));
        let mut session = Session::new(graph, parameters, threads).expect("a model");
        session.set_wide_rule(rule);
        session.start_training(loss, &[correct], optimizer);
        if is_timed {
            session.set_clock(Some(Arc::new(Stopped)));
        }
        // 65 images make 16 parts, of which one is greater than the others; 23 are the rest of an epoch.
        let mut step = |images, only_finite| {
            session.train_step(&Step { only_finite, ..Step::new(images, &examples, 1e-3) });
        };
        for images in [65, 23, 65, 23] {
            step(images, false);
        }
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for (images, only_finite) in [(65, false), (65, true), (23, true), (65, true)] {
            step(images, only_finite);
        }
        let count = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!(count, 0, "allocations of four steps on {threads} threads, {rule:?}, timed: {is_timed}");
    }
}
