//! Loops compiled once for each width of the processor's vectors, and the one to run chosen at run time.
//!
//! The baseline of `x86_64` has vectors of 16 bytes only, and not all of their instructions, but what one machine builds must
//! run on another. A plain loop over integers, compiled for AVX2 or AVX-512, keeps up with the memory: nothing need be written
//! by hand. Other architectures get the loop as it is (the baseline of aarch64 has NEON). What a compiler does not find in a plain
//! loop, as conversions of fp16, is written with [`Lanes`].

mod instructions;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(test, not(target_arch = "aarch64")))]
mod plain;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use lanes::{LANES, Lanes};
#[cfg(any(test, not(target_arch = "aarch64")))]
pub use plain::Plain;

/// A loop that gains from wide vectors.
pub trait Kernel {
    /// What it returns.
    type Output;

    /// Does the work. Implementations must be `#[inline(always)]`, as must everything that their loops call: only what is
    /// inlined is compiled anew for each width. One that is not gives the same result, slower.
    fn run(self) -> Self::Output;
}

/// A loop written with operations on several numbers.
pub trait Wide {
    /// What it returns.
    type Output;

    /// Does the work. As for [`Kernel::run`], everything must be `#[inline(always)]`.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
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
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c"),
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

    /// Runs a loop with the operations of these vectors. What it returns does not depend on them.
    pub fn run_wide<W: Wide>(self, wide: W) -> W::Output {
        match self.0 {
            // The baseline of aarch64 has NEON; that of x86_64 does not convert fp16.
            #[cfg(target_arch = "aarch64")]
            Width::Baseline => wide.run(neon::Neon(())),
            #[cfg(not(target_arch = "aarch64"))]
            Width::Baseline => wide.run(Plain),
            #[cfg(target_arch = "x86_64")]
            Width::Avx2 => self.run(With(x86::Avx2(()), wide)),
            #[cfg(target_arch = "x86_64")]
            Width::Avx512 => self.run(With(x86::Avx512(()), wide)),
        }
    }

    /// Runs a loop compiled for these vectors. The result does not depend on them.
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

/// A loop and its operations, to be compiled for their vectors.
#[cfg(target_arch = "x86_64")]
struct With<L, W>(L, W);

#[cfg(target_arch = "x86_64")]
impl<L: Lanes, W: Wide> Kernel for With<L, W> {
    type Output = W::Output;

    #[expect(clippy::inline_always, reason = "only what is inlined is compiled for the processor's vectors")]
    #[inline(always)]
    fn run(self) -> W::Output {
        self.1.run(self.0)
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(test)]
mod tests;
