//! Loops compiled once for each width of the processor's vectors, and the one to run chosen at run time.
//!
//! The baseline of `x86_64` has vectors of 16 bytes only, and not all of their instructions, but what one machine builds must
//! run on another. A plain loop over integers, compiled for AVX2 or AVX-512, keeps up with the memory: nothing need be written
//! by hand. Other architectures get the loop as it is (the baseline of aarch64 has NEON).

/// A loop that gains from wide vectors.
pub trait Kernel {
    /// What it answers.
    type Output;

    /// Does the work. Implementations must be `#[inline(always)]`, as must everything that their loops call: only what is
    /// inlined is compiled anew for each width. One that is not gives the same answer, slower.
    fn run(self) -> Self::Output;
}

/// Vectors that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vectors(Width);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Width {
    const ALL: &[Self] = &[
        #[cfg(target_arch = "x86_64")]
        Self::Avx512,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        Self::Baseline,
    ];

    fn is_here(self) -> bool {
        match self {
            Self::Baseline => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
        }
    }
}

impl Vectors {
    /// All that this processor has, widest first.
    pub fn all() -> impl Iterator<Item = Self> {
        Width::ALL.iter().copied().filter(|width| width.is_here()).map(Self)
    }

    /// The widest.
    pub fn widest() -> Self {
        Self::all().next().unwrap_or(Self(Width::Baseline))
    }

    /// Runs a loop compiled for these vectors. The answer does not depend on them.
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Width::Baseline => kernel.run(),
            // SAFETY: `avx2` may be called only where the processor has AVX2. A `Vectors` is made in `all` alone, of widths
            // that `is_here` has found, and a processor does not lose a feature.
            #[cfg(target_arch = "x86_64")]
            Width::Avx2 => unsafe { avx2(kernel) },
            // SAFETY: as above; `is_here` looks for each of the four features that `avx512` is compiled for.
            #[cfg(target_arch = "x86_64")]
            Width::Avx512 => unsafe { avx512(kernel) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}
