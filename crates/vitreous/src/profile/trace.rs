//! A step as a trace in Chrome's JSON format, which Perfetto and speedscope open: a track for each thread, in it parts, in
//! these chunks, in these calls; and counters of the memory in use.
//!
//! # Source
//! Trace Event Format, <https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU>.

use serde_json::{Value, json};
use vitreous_engine::profile::{CallFacts, Pass, ProgramFacts, Slice, Work};

use super::memory::in_use;
use crate::models::Model;

/// By how much slices of each depth are shortened, in µs: viewers add start and duration, and a sum that is rounded up
/// would reach into the next slice, or beyond the one around it.
const SHORTER: [f64; 3] = [0.000_5, 0.001, 0.002];

/// Writes a step.
pub(super) fn chrome(threads: &[Vec<Slice>], facts: &ProgramFacts, model: &Model, batch: usize, title: &str) -> String {
    let mut pieces = vec![0; facts.calls.len()];
    for slice in threads.iter().flatten() {
        if let Work::Call(call) = slice.work {
            pieces[call as usize] += 1;
        }
    }
    let origin = threads.iter().filter_map(|slices| slices.first()).map(|slice| slice.start).min().unwrap_or(0);
    // Microseconds.
    let at = |time: u64| (time - origin) as f64 / 1e3;
    let mut events = vec![json!({"ph": "M", "pid": 1, "name": "process_name", "args": {"name": title}})];
    let memory: Vec<f64> = (0..facts.calls.len()).map(|call| in_use(facts, call) as f64 / 1e6).collect();
    for (thread, slices) in threads.iter().enumerate() {
        let name = json!({"name": format!("thread {thread}")});
        events.push(json!({"ph": "M", "pid": 1, "tid": thread, "name": "thread_name", "args": name}));
        let mut slice_of = |depth: usize, name: String, kind: &str, slices: &[Slice], args: Value| {
            let [Some(first), Some(last)] = [slices.first(), slices.last()] else { return };
            let (ts, dur) = (at(first.start), ((last.end - first.start) as f64 / 1e3 - SHORTER[depth]).max(0.0));
            events.push(json!({
                "ph": "X", "pid": 1, "tid": thread, "name": name, "cat": kind, "ts": ts, "dur": dur, "args": args
            }));
        };
        let has_images = |slice: &Slice| slice.images > 0 && slice.work != Work::Wait;
        for part in slices.chunk_by(|a, b| has_images(a) && has_images(b) && a.part == b.part && a.end == b.start) {
            if part.first().is_some_and(has_images) {
                slice_of(0, format!("part {}", part[0].part), "part", part, json!({}));
                for chunk in part.chunk_by(|a, b| a.chunk == b.chunk) {
                    slice_of(
                        1,
                        format!("chunk {}", chunk[0].chunk),
                        "chunk",
                        chunk,
                        json!({"images": chunk[0].images}),
                    );
                }
            }
            for slice in part {
                let (name, kind, args) = described(slice, facts, model, batch, &pieces);
                slice_of(2, name, kind, std::slice::from_ref(slice), args);
            }
        }
        for slice in slices.iter().filter(|_| thread == 0) {
            if let Work::Call(call) = slice.work {
                let args = json!({"MB": memory[call as usize]});
                events.push(
                    json!({"ph": "C", "pid": 1, "name": "activations in use", "ts": at(slice.start), "args": args}),
                );
            }
        }
    }
    json!({"traceEvents": events, "displayTimeUnit": "ms"}).to_string()
}

/// The name, the kind and the facts of a slice, of a step of so many images; calls have so many slices.
fn described(
    slice: &Slice,
    facts: &ProgramFacts,
    model: &Model,
    batch: usize,
    pieces: &[u64],
) -> (String, &'static str, Value) {
    let plain = |name: &str, kind| (name.to_string(), kind, json!({}));
    match slice.work {
        Work::Call(number) => {
            let call = &facts.calls[number as usize];
            let names: Vec<&str> = call.layers.iter().map(|&id| model.graph.node(id).name.as_str()).collect();
            let kind = if call.pass == Pass::Forward { "forward" } else { "backward" };
            let [flops, bytes] = amounts(call, u64::from(slice.images), [batch as u64, pieces[number as usize]]);
            (names.join(" + "), kind, json!({"operations": call.ops.join(", "), "flops": flops, "bytes": bytes}))
        }
        Work::Pack => plain("packing weights", "pack"),
        Work::Keys => plain("dropout keys", "forward"),
        Work::Tree => plain("gradient tree", "tree"),
        Work::Update => plain("optimizer", "update"),
        Work::Wait => plain("waiting", "wait"),
    }
}

/// Floating-point operations and bytes of a slice. The slices of a call for the whole batch are pieces of one run.
fn amounts(call: &CallFacts, images: u64, [batch, pieces]: [u64; 2]) -> [u64; 2] {
    match call.is_whole {
        true => [call.flops * batch, call.bytes * batch + call.bytes_fixed].map(|all| all / pieces.max(1)),
        false => [call.flops * images, call.bytes * images + call.bytes_fixed],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_call_for_the_whole_batch_share_its_operations_and_bytes() {
        let call = |is_whole: bool| CallFacts {
            layers: Vec::new(),
            ops: Vec::new(),
            pass: Pass::Forward,
            is_whole,
            is_copy: false,
            flops: 30,
            bytes: 7,
            bytes_fixed: 500,
        };
        assert_eq!(amounts(&call(false), 4, [12, 3]), [120, 528]);
        assert_eq!(amounts(&call(true), 0, [12, 3]), [120, (7 * 12 + 500) / 3]);
    }
}
