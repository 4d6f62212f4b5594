//! How a step's images are cut into parts, and how the parts' gradients are summed: along one binary tree over
//! part numbers, for any number of threads.

use std::ops::Range;

/// Maximum number of parts of a step.
const MOST_PARTS: usize = 16;
/// Minimum number of images of a part, where a step has enough.
const FEWEST_IMAGES: usize = 4;

/// Number of parts for this many images: a power of two that depends on nothing else.
pub(super) fn parts(images: usize) -> usize {
    let most = (images / FEWEST_IMAGES).clamp(1, MOST_PARTS);
    1 << most.ilog2()
}

/// Divides `0..n` into `count` ranges that differ by at most one; returns range `i`.
pub(super) fn share(n: usize, count: usize, i: usize) -> Range<usize> {
    i * n / count..(i + 1) * n / count
}

/// The parts that a thread takes; where there are more threads than parts, the last threads take none, so that the
/// tree's root is always the work of thread 0 and in its first buffer.
pub(super) fn parts_of(count: usize, threads: usize, thread: usize) -> Range<usize> {
    let busy = threads.min(count);
    if thread < busy { share(count, busy, thread) } else { count..count }
}

/// A complete subtree: the sum over parts `first .. first + 2^level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subtree {
    pub first: usize,
    pub level: u32,
    /// The gradient buffer that holds the sum.
    pub buffer: usize,
}

impl Subtree {
    /// Whether `right` is the other half of the same tree.
    fn is_left_of(&self, right: &Subtree) -> bool {
        self.level == right.level && self.first.is_multiple_of(2 << self.level)
    }
}

/// Adds the subtree on top to the one below it while the two are halves of one; `add(into, from)` adds buffers.
pub(super) fn merge(pending: &mut Vec<Subtree>, mut add: impl FnMut(usize, usize)) {
    while let [.., left, right] = pending.as_mut_slice() {
        if !left.is_left_of(right) {
            break;
        }
        add(left.buffer, right.buffer);
        left.level += 1;
        pending.pop();
    }
}

/// Returns a buffer of a thread that none of its pending subtrees uses.
pub(super) fn free_buffer(pending: &[Subtree], buffers: Range<usize>) -> usize {
    buffers.into_iter().find(|b| pending.iter().all(|tree| tree.buffer != *b)).expect("buffers_needed counted them")
}

/// Returns how many gradient buffers a thread needs for these parts at most: one for the part at work, and one for
/// each complete subtree before it.
pub(super) fn buffers_needed(parts: Range<usize>) -> usize {
    parts.clone().map(|part| 1 + subtrees(parts.start..part)).max().unwrap_or(0)
}

/// Number of largest complete subtrees in a range of parts.
fn subtrees(mut parts: Range<usize>) -> usize {
    let mut count = 0;
    while !parts.is_empty() {
        // As great as the first part's place and the range's length allow.
        let level = parts.start.trailing_zeros().min(parts.len().ilog2());
        parts.start += 1 << level;
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds up part numbers as text, so that the order and nesting of additions show.
    fn tree(count: usize, threads: usize) -> String {
        let mut buffers = vec![String::new(); 23 * 8];
        let mut all: Vec<Subtree> = Vec::new();
        for thread in 0..threads {
            let mut pending = Vec::new();
            let own = thread * 8..(thread + 1) * 8;
            for part in parts_of(count, threads, thread) {
                let buffer = free_buffer(&pending, own.clone());
                buffers[buffer] = part.to_string();
                pending.push(Subtree { first: part, level: 0, buffer });
                merge(&mut pending, |into, from| buffers[into] = format!("({}+{})", buffers[into], buffers[from]));
            }
            assert!(buffers_needed(parts_of(count, threads, thread)) <= 8);
            for subtree in pending {
                all.push(subtree);
                merge(&mut all, |into, from| buffers[into] = format!("({}+{})", buffers[into], buffers[from]));
            }
        }
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].buffer, 0, "the sum is taken from the first buffer");
        buffers[all[0].buffer].clone()
    }

    #[test]
    fn any_number_of_threads_adds_along_the_same_tree() {
        let expected = "(((0+1)+(2+3))+((4+5)+(6+7)))";
        for threads in 1..=23 {
            assert_eq!(tree(8, threads), expected, "{threads} threads");
        }
        for threads in 1..=7 {
            assert_eq!(tree(16, threads), tree(16, 1), "{threads} threads");
        }
    }

    #[test]
    fn buffers_are_counted_as_they_are_used() {
        for start in 0..16 {
            for end in start..=16 {
                let (mut pending, mut most) = (Vec::new(), 0);
                for part in start..end {
                    pending.push(Subtree { first: part, level: 0, buffer: 0 });
                    most = most.max(pending.len());
                    merge(&mut pending, |_, _| {});
                }
                assert_eq!(buffers_needed(start..end), most, "{start}..{end}");
            }
        }
        assert_eq!(buffers_needed(0..16), 5);
    }

    #[test]
    fn parts_are_a_power_of_two_of_at_least_four_images() {
        assert_eq!([1, 7, 8, 16, 32, 100, 128, 5000].map(parts), [1, 1, 2, 4, 8, 16, 16, 16]);
    }

    #[test]
    fn shares_cover_everything_once() {
        let ends: Vec<_> = (0..16).map(|i| share(100, 16, i)).collect();
        assert!(ends.windows(2).all(|w| w[0].end == w[1].start));
        assert_eq!((ends[0].start, ends[15].end), (0, 100));
        assert!(ends.iter().all(|r| r.len() == 6 || r.len() == 7));
    }
}
