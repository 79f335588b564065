//! What the implementations of [`super::lanes::Lanes`] for each processor have in common.

/// Implements [`super::lanes::Lanes`] for a type whose values exist only where the processor has the features. The bodies are compiled for
/// those, so that they may use their instructions.
macro_rules! instructions {
    ($lanes:ident, $numbers:ty, $features:literal, $(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty $body:block)*) => {
        impl super::lanes::Lanes for $lanes {
            type Numbers = $numbers;

            $(
                #[inline(always)]
                fn $name(self, $($arg: $type),*) -> $result {
                    #[inline]
                    #[target_feature(enable = $features)]
                    fn compiled($($arg: $type),*) -> $result $body
                    // SAFETY: the function may be called only where the processor has the features. `self` is proof of that: it is
                    // made in `Vectors` alone, which looks.
                    unsafe { compiled($($arg),*) }
                }
            )*
        }
    };
}

pub(super) use instructions;
