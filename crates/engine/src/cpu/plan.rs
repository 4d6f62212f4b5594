//! Gives each value of a program a place, so that values that are never alive together share memory.
//!
//! A value of a single region is in the scratch memory of a thread, with room for a chunk; it lives from the
//! first call that writes it to the last call that reads it. A value of several regions, or of a call for the whole
//! batch, is in the batch arena, with room for all images; it lives as long as all its regions, because a
//! thread may finish them for one part before another thread starts. A call that can work in place overwrites a
//! value that is not read later.
//!
//! What a call for the whole batch needs for itself (a fixed size, and no other call touches it) is scratch memory, too.

use super::program::{Program, Slot, SlotSize};
use super::region::{Region, region_of_calls};

/// Places start at multiples of this many numbers (a cache line).
const ALIGN: usize = 16;

/// The sizes that a plan has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Capacity {
    /// Images of a chunk.
    pub chunk: usize,
    /// Images of a step.
    pub images: usize,
    /// Micro-batches of a step.
    pub micro_batches: usize,
}

impl Capacity {
    /// Whether there is room for `other`.
    pub fn holds(self, other: Capacity) -> bool {
        self == self.and(other)
    }

    /// Room for either.
    pub fn and(self, other: Capacity) -> Capacity {
        Capacity {
            chunk: self.chunk.max(other.chunk),
            images: self.images.max(other.images),
            micro_batches: self.micro_batches.max(other.micro_batches),
        }
    }
}

/// Where a value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// From this number of a thread's scratch memory on, the chunk's images side by side.
    Scratch(usize),
    /// From number `start` of the batch arena on, the step's images side by side.
    Batch { start: usize, per_image: usize },
}

/// Where the values of a program are stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub capacity: Capacity,
    pub places: Vec<Place>,
    /// Numbers in a thread's scratch memory.
    pub len: usize,
    /// Numbers in the batch arena.
    pub batch_len: usize,
}

/// The lifetime of a value, in calls.
#[derive(Clone, Copy)]
pub(super) struct Life {
    pub first: usize,
    pub last: usize,
}

/// Where values live: for each value the one whose place it takes, its lifetime, and whether it is in the batch arena.
pub(super) struct Lives {
    home: Vec<Slot>,
    lives: Vec<Life>,
    in_batch: Vec<bool>,
}

impl Lives {
    /// The values that have a place of their own in one of the two memories.
    pub fn roots(&self, batch: bool) -> impl Iterator<Item = (Slot, Life)> {
        let Lives { home, lives, in_batch } = self;
        let is_root = move |&slot: &Slot| home[slot] == slot && is_used(lives[slot]) && in_batch[slot] == batch;
        (0..home.len()).filter(is_root).map(|slot| (slot, lives[slot]))
    }
}

fn is_used(life: Life) -> bool {
    life.first != usize::MAX
}

/// Numbers that a value takes in a plan for this much.
pub(super) fn room(size: SlotSize, capacity: Capacity, batch: bool) -> usize {
    match batch {
        true => sum(all(size.per_image, capacity.images), all(size.fixed, capacity.micro_batches)),
        false => sum(all(size.per_image, capacity.chunk), size.fixed),
    }
}

/// Finds the lifetimes of a program's values.
pub(super) fn lives(program: &Program, regions: &[Region]) -> Lives {
    let mut home: Vec<Slot> = (0..program.slots.len()).collect();
    let mut lives = vec![Life { first: usize::MAX, last: 0 }; home.len()];
    let mut seen_whole = vec![false; home.len()];
    for (at, call) in program.calls.iter().enumerate() {
        for slot in call.reads().into_iter().chain(call.writes()) {
            lives[slot].first = lives[slot].first.min(at);
            lives[slot].last = at;
            seen_whole[slot] |= call.whole();
        }
    }
    let region_of = region_of_calls(program, regions);
    let in_batch: Vec<bool> = (0..home.len())
        .map(|slot| {
            let Life { first, last } = lives[slot];
            let own = first == last && program.slots[slot].per_image == 0;
            is_used(lives[slot]) && (region_of[first] != region_of[last] || seen_whole[slot] && !own)
        })
        .collect();
    // A value that takes another's place prolongs the other's life.
    for (at, call) in program.calls.iter().enumerate() {
        let mut taken = Vec::new();
        for [old, new] in call.in_place() {
            let root = home[old];
            let same = program.slots[root] == program.slots[new] && in_batch[root] == in_batch[new];
            if lives[root].last == at && lives[old].last == at && home[new] == new && same && !taken.contains(&root) {
                home[new] = root;
                lives[root].last = lives[new].last;
                taken.push(root);
            }
        }
    }
    Lives { home, lives, in_batch }
}

/// Plans a program's memory.
pub(super) fn plan(program: &Program, regions: &[Region], capacity: Capacity) -> Plan {
    let all = lives(program, regions);
    let region_of = region_of_calls(program, regions);
    let mut places = vec![Place::Scratch(0); program.slots.len()];
    let roots = |batch: bool| {
        all.roots(batch).map(move |(slot, life)| (slot, room(program.slots[slot], capacity, batch), life))
    };
    let scratch: Vec<(Slot, usize, Life)> = roots(false).collect();
    let len = place(scratch, |slot, start| places[slot] = Place::Scratch(start));
    let batch: Vec<(Slot, usize, Life)> = roots(true)
        .map(|(slot, len, Life { first, last })| (slot, len, Life { first: region_of[first], last: region_of[last] }))
        .collect();
    let batch_len = place(batch, |slot, start| {
        places[slot] = Place::Batch { start, per_image: program.slots[slot].per_image };
    });
    for slot in 0..places.len() {
        places[slot] = places[all.home[slot]];
    }
    Plan { capacity, places, len, batch_len }
}

/// Numbers in `count` values of `len` numbers each. On overflow, this and [`sum`] return the largest integer: memory
/// estimates then refuse the model, and no such memory can be allocated. All sizes that can exceed a tensor's (packed
/// weights, attention scores, scratch memory) are computed with them, since they may overflow where addresses have 32
/// bits.
pub(super) fn all(len: usize, count: usize) -> usize {
    len.saturating_mul(count)
}

/// Numbers in two values.
pub(super) fn sum(a: usize, b: usize) -> usize {
    a.saturating_add(b)
}

/// Finds places for values of given lengths and lifetimes; returns the size of their memory.
fn place(mut values: Vec<(Slot, usize, Life)>, mut found: impl FnMut(Slot, usize)) -> usize {
    for (_, len, _) in &mut values {
        *len = len.checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX);
    }
    // Largest first: large values fit into gaps only when they come early.
    values.sort_by_key(|&(slot, len, _)| (std::cmp::Reverse(len), slot));
    // By their places, from the first to the last.
    let mut placed: Vec<(usize, usize, Life)> = Vec::with_capacity(values.len());
    let mut total = 0;
    for (slot, len, life) in values {
        let meets = |other: &Life| other.first <= life.last && life.first <= other.last;
        let mut start = 0;
        for (taken, end, _) in placed.iter().filter(|(.., other)| meets(other)) {
            if sum(start, len) <= *taken {
                break;
            }
            start = start.max(*end);
        }
        found(slot, start);
        total = total.max(sum(start, len));
        let at = placed.partition_point(|(other, ..)| *other <= start);
        placed.insert(at, (start, sum(start, len), life));
    }
    total
}

#[cfg(test)]
mod tests {
    use super::super::program::{Addend, Call, SlotSize, Wide};
    use super::super::region::regions;
    use super::*;

    fn chain(calls: Vec<Call>, sizes: &[usize]) -> Program {
        let slots = sizes.iter().map(|&per_image| SlotSize { per_image, fixed: 0 }).collect();
        Program { calls, slots, ..Program::default() }
    }

    fn plan_for(program: &Program, chunk: usize, images: usize) -> Plan {
        plan(program, &regions(program), Capacity { chunk, images, micro_batches: 1 })
    }

    fn start(plan: &Plan, slot: Slot) -> usize {
        match plan.places[slot] {
            Place::Scratch(start) | Place::Batch { start, .. } => start,
        }
    }

    fn add(a: Slot, b: Slot, out: Slot) -> Call {
        Call::Add { a, b: Addend::Value(b), out, len: 16 }
    }

    #[test]
    fn a_value_that_is_still_needed_keeps_its_place() {
        let input = |out| Call::Input { input: 0, out, len: 16 };
        let calls = vec![input(0), input(1), add(0, 1, 2), add(0, 2, 3), Call::Output { output: 0, x: 3, len: 16 }];
        let plan = plan_for(&chain(calls, &[16; 4]), 3, 29);
        assert_eq!(start(&plan, 2), start(&plan, 1), "the second input dies in the first sum");
        assert_ne!(start(&plan, 2), start(&plan, 0), "the first input lives on");
        assert_eq!((plan.len, plan.batch_len), (2 * 48, 0));
    }

    #[test]
    fn values_that_never_meet_share_memory() {
        let select = |x, out| Call::SelectToken { x, out, index: 0, size: [1, 16] };
        let calls = vec![
            Call::Input { input: 0, out: 0, len: 32 },
            select(0, 1),
            select(1, 2),
            select(2, 3),
            Call::Output { output: 0, x: 3, len: 16 },
        ];
        let plan = plan_for(&chain(calls, &[32, 16, 16, 16]), 1, 1);
        assert_eq!(plan.len, 48);
    }

    #[test]
    fn values_of_two_regions_have_room_for_all_images_and_live_as_long_as_the_regions() {
        let wide = |x, out| Call::Wide(Wide::Product { x, out, weight: 0, bias: None, rows: 1, size: [16, 16] });
        let calls = vec![
            Call::Input { input: 0, out: 0, len: 16 },
            add(0, 0, 1),
            wide(1, 2),
            add(2, 2, 3),
            add(3, 3, 4),
            wide(4, 5),
            Call::Output { output: 0, x: 5, len: 16 },
            Call::Output { output: 1, x: 1, len: 16 },
        ];
        let plan = plan_for(&chain(calls, &[16; 6]), 3, 29);
        let in_batch = |slot: Slot| matches!(plan.places[slot], Place::Batch { .. });
        assert_eq!([0, 1, 2, 3, 4, 5].map(in_batch), [false, true, true, false, true, true]);
        // 2 is read in the region in which 4 is written, by a part that may be ahead.
        assert_ne!(start(&plan, 2), start(&plan, 4));
        assert_eq!((plan.len, plan.batch_len), (48, 3 * 16 * 29));
    }
}
