//! Everything that computes: kernels, compiled for each instruction set and chosen at run time, and the
//! executor that runs the parts of a step.
//!
//! This is the only place with `unsafe` code. The rules that make it sound:
//! - Memory comes from [`memory::Buffer`], which hands out pointers from `&mut` only and is always initialized; results
//!   and dropout keys are plain `Vec`s.
//! - A session's parameters have the layout of its graph, and its instruction set is one that the processor has: both
//!   are checked when it is created and cannot be replaced.
//! - Kernels take raw pointers, because input and output may be the same values; the planner gives two values
//!   the same place only where a kernel says that it can work in place.
//! - Kernels read and write the values that their arguments name, and none beyond: what lies there may be another
//!   thread's. Only memory of a thread's own and packed weights have rows that are filled up to whole vectors.
//! - Threads write to disjoint memory: each has its own scratch and gradients; outputs and values of the whole batch
//!   are divided by image, inside a call for the whole batch by column.

mod activation;
mod attention;
mod blocks;
mod chunk;
mod compiled;
mod convolution;
mod dropout;
mod elementwise;
mod execute;
mod facts;
mod late;
mod layer_norm;
mod linear;
mod lower;
mod memory;
pub mod optimizer;
mod parameters;
mod plan;
mod pool;
mod program;
mod recorder;
mod region;
pub mod roof;
mod run;
mod scalar;
mod sequence;
mod simd;
mod split;
mod sum;
#[cfg(test)]
mod testing;
mod tile;
mod training;

pub use execute::{Inference, Session, inference_memory, training_memory};
pub use parameters::Parameters;
pub use simd::LANES;
pub use tile::TILE_ROWS;

/// An instruction set that the kernels were compiled for. A [`Session`] takes only those that the processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// AVX-512 F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Works on every processor of the target.
    Portable,
}

impl Isa {
    /// Returns the instruction sets of this processor, the fastest first.
    pub fn available() -> Vec<Isa> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx512 && avx2 {
                all.push(Isa::Avx512);
            }
            if avx2 {
                all.push(Isa::Avx2);
            }
        }
        all.push(Isa::Portable);
        all
    }

    /// Returns the fastest instruction set of this processor.
    pub fn best() -> Isa {
        Isa::available()[0]
    }

    /// The name in manifests: `avx512`, `avx2` or `portable`.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "avx2",
            Isa::Portable => "portable",
        }
    }

    /// Columns of a panel of packed weights.
    fn panel(self) -> usize {
        let vectors = match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => <simd::avx512::Avx512 as simd::Simd>::TILE_VECTORS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => <simd::avx2::Avx2 as simd::Simd>::TILE_VECTORS,
            Isa::Portable => <simd::portable::Portable as simd::Simd>::TILE_VECTORS,
        };
        vectors * simd::LANES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Graph, Init};
    use crate::random::Key;

    #[test]
    fn a_changed_parameter_changes_the_next_result() {
        let mut graph = Graph::new();
        let x = graph.input("x", [3]).unwrap();
        let y = graph.linear("y", x, 5, crate::ops::LinearInit::pytorch(3)).unwrap();
        let parameters = Parameters::initialize(&graph, Key::new(7));
        let mut session = Session::new(graph, parameters, 2).unwrap();
        let ones = |_: usize, _: usize, values: &mut [f32]| values.fill(1.0);
        session.infer(&[y], 1, &ones);
        for (name, value) in [("y.weight", 2.0), ("y.bias", 0.5)] {
            let id = session.graph().find_parameter(name).unwrap();
            session.parameter_mut(id).fill(value);
        }
        assert_eq!(session.infer(&[y], 1, &ones), [[6.5; 5]]);
    }

    #[test]
    fn inference_takes_less_than_training_and_more_than_the_parameters() {
        let mut graph = Graph::new();
        let x = graph.input("x", [3]).unwrap();
        let y = graph.linear("y", x, 5, crate::ops::LinearInit::pytorch(3)).unwrap();
        graph.new_parameter("unused", [1000], Init::Constant(0.0)).unwrap();
        let memory = inference_memory(&graph, &[y], 100, 2);
        assert!(memory.parameters >= 4 * 1020 && memory.activations >= 4 * 100 * 5, "{memory:?}");
        assert_eq!((memory.optimizer, memory.gradients), (0, 0));
    }
}
