//! Gives each value of a program a place in one arena, so that values that are never alive together share memory.
//!
//! A value lives from the call that writes it first to the call that reads it last. A call that can work in place
//! writes over a value that dies with it.

use super::program::{Program, Slot};

/// Places start at multiples of this many numbers (a cache line).
const ALIGN: usize = 16;

/// Where the values of a program lie, for chunks of up to so many images.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// Images of a chunk at most.
    pub chunk: usize,
    /// The first number of each value.
    pub offsets: Vec<usize>,
    /// Numbers in the arena.
    pub len: usize,
}

/// Plans a program's memory.
pub(super) fn plan(program: &Program, chunk: usize) -> Plan {
    let mut home: Vec<Slot> = (0..program.slots.len()).collect();
    let (mut first, mut last) = (vec![usize::MAX; home.len()], vec![0; home.len()]);
    for (at, call) in program.calls.iter().enumerate() {
        for slot in call.reads().into_iter().chain(call.writes()) {
            first[slot] = first[slot].min(at);
            last[slot] = at;
        }
    }
    // A value that takes another's place prolongs the other's life.
    for (at, call) in program.calls.iter().enumerate() {
        let mut taken = Vec::new();
        for [old, new] in call.in_place() {
            let root = home[old];
            let same_size = program.slots[root] == program.slots[new];
            if last[root] == at && last[old] == at && home[new] == new && same_size && !taken.contains(&root) {
                home[new] = root;
                last[root] = last[new];
                taken.push(root);
            }
        }
    }
    let size = |slot: Slot| {
        let size = program.slots[slot];
        (size.per_image * chunk + size.fixed).next_multiple_of(ALIGN)
    };
    let mut offsets = vec![0; home.len()];
    let mut placed: Vec<Slot> = Vec::new();
    let mut order: Vec<Slot> =
        (0..home.len()).filter(|&slot| home[slot] == slot && first[slot] != usize::MAX).collect();
    // Greatest first: what is long fits into gaps only when it comes early.
    order.sort_by_key(|&slot| (std::cmp::Reverse(size(slot)), slot));
    let mut len = 0;
    for slot in order {
        let mut beside: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&other| first[other] <= last[slot] && first[slot] <= last[other])
            .map(|&other| (offsets[other], offsets[other] + size(other)))
            .collect();
        beside.sort_unstable();
        let mut offset = 0;
        for (start, end) in beside {
            if offset + size(slot) <= start {
                break;
            }
            offset = offset.max(end);
        }
        offsets[slot] = offset;
        len = len.max(offset + size(slot));
        placed.push(slot);
    }
    for slot in 0..home.len() {
        offsets[slot] = offsets[home[slot]];
    }
    Plan { chunk, offsets, len }
}

#[cfg(test)]
mod tests {
    use super::super::program::{Addend, Call, SlotSize};
    use super::*;

    fn chain(calls: Vec<Call>, sizes: &[usize]) -> Program {
        let slots = sizes.iter().map(|&per_image| SlotSize { per_image, fixed: 0 }).collect();
        Program { calls, slots, ..Program::default() }
    }

    fn add(a: Slot, b: Slot, out: Slot) -> Call {
        Call::Add { a, b: Addend::Value(b), out, len: 16 }
    }

    #[test]
    fn a_value_that_is_still_needed_keeps_its_place() {
        let input = |out| Call::Input { input: 0, out, len: 16 };
        let calls = vec![input(0), input(1), add(0, 1, 2), add(0, 2, 3), Call::Output { output: 0, x: 3, len: 16 }];
        let plan = plan(&chain(calls, &[16; 4]), 3);
        assert_eq!(plan.offsets[2], plan.offsets[1], "the second input dies in the first sum");
        assert_ne!(plan.offsets[2], plan.offsets[0], "the first input lives on");
        assert_eq!(plan.len, 2 * 48);
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
        let plan = plan(&chain(calls, &[32, 16, 16, 16]), 1);
        assert_eq!(plan.len, 48);
    }
}
