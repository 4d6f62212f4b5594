//! The memory of a step: what it is for, and where the most of it is in use.

use serde::{Deserialize, Serialize};
use vitreous_engine::Memory;
use vitreous_engine::profile::{ProgramFacts, ValueFacts};

/// Bytes of a step's memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryProfile {
    /// Values of the parameters.
    pub parameters: u64,
    /// Moments of the optimizer.
    pub moments: u64,
    /// Gradients, all copies of all threads.
    pub gradients: u64,
    /// Weights in packed form.
    pub packed: u64,
    /// Activations of chunks and other memory of threads.
    pub scratch: u64,
    /// Activations of all images of the step.
    pub batch: u64,
    /// The sum.
    pub total: u64,
    /// Activations in use where they are most; places that no value needs at that time are not counted.
    pub peak: u64,
    /// The layer and pass where they are most.
    pub peak_at: String,
}

impl MemoryProfile {
    /// Puts it together; `name` gives the layer and pass of a call.
    pub fn new(memory: &Memory, facts: &ProgramFacts, name: impl Fn(usize) -> String) -> MemoryProfile {
        let (at, peak) = (0..facts.calls.len())
            .map(|call| (call, in_use(facts, call)))
            .fold((0, 0), |most, next| if next.1 > most.1 { next } else { most });
        let Memory { parameters, optimizer: moments, gradients, packed, activations } = *memory;
        MemoryProfile {
            parameters,
            moments,
            gradients,
            packed,
            scratch: activations.saturating_sub(facts.batch_bytes),
            batch: facts.batch_bytes,
            total: memory.total(),
            peak,
            peak_at: name(at),
        }
    }
}

/// Bytes of the values that are in use during a call.
pub fn in_use(facts: &ProgramFacts, call: usize) -> u64 {
    let is_alive = |value: &&ValueFacts| (value.first..=value.last).contains(&call);
    facts.values.iter().filter(is_alive).map(|value| value.bytes).sum()
}
