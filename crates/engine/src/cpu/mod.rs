//! Everything that computes: kernels by family, compiled for each instruction set and chosen at run time, and the
//! executor that takes the parts of a step through them.
//!
//! This is the only place with `unsafe` code. The rules that make it sound:
//! - All memory comes from [`memory::Buffer`], which hands out pointers from `&mut` only and is always initialised.
//! - Kernels take raw pointers, because input and output may be the same values; the planner gives two values
//!   the same place only where a kernel says that it can work in place.
//! - Kernels may read up to 63 values beyond a matrix (never use them), so every buffer ends in that much slack.
//! - Threads write to disjoint memory: each has its own scratch and gradients, and outputs are divided by image.

mod activation;
mod attention;
mod chunk;
mod compiled;
mod dropout;
mod elementwise;
mod execute;
mod layer_norm;
mod linear;
mod lower;
mod memory;
mod optimizer;
mod parameters;
mod plan;
mod pool;
mod program;
mod scalar;
mod sequence;
mod simd;
mod split;
#[cfg(test)]
mod testing;
mod tile;
mod training;
mod update;

pub use execute::{Session, training_memory};
pub use parameters::Parameters;

/// An instruction set that the kernels were compiled for and this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// AVX-512 F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What every processor of the target has.
    Portable,
}

impl Isa {
    /// Returns what this processor has, the fastest first.
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

    /// Returns the fastest that this processor has.
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
