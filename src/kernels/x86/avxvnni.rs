//! AVX-VNNI: `vpdpbusd` on 256 bits. It multiplies unsigned weight bytes by signed activation bytes, so 8-bit
//! weights are stored with 128 added.

use super::avx::{Avx, Dot, broadcast};
use crate::kernels::simd::Simd;
use std::arch::x86_64::*;
use std::marker::PhantomData;

/// How the instruction is encoded, of which the processor may know one alone.
pub(crate) trait Encoding: Copy {
    /// The instruction set's name.
    const NAME: &str;

    /// Whether the processor knows it.
    fn is_available() -> bool;

    /// Adds to each dword of `sums` the products of its unsigned `codes` and signed `acts`.
    ///
    /// # Safety
    /// The encoding is available.
    unsafe fn dpbusd(sums: __m256i, codes: __m256i, acts: __m256i) -> __m256i;
}

/// The encoding of AVX-VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Vex;

impl Encoding for Vex {
    const NAME: &str = "avxvnni";

    fn is_available() -> bool {
        is_x86_feature_detected!("avxvnni")
    }

    #[inline(always)]
    unsafe fn dpbusd(sums: __m256i, codes: __m256i, acts: __m256i) -> __m256i {
        // SAFETY: the caller's contract.
        unsafe { _mm256_dpbusd_avx_epi32(sums, codes, acts) }
    }
}

/// The dot product by `vpdpbusd`.
#[derive(Clone, Copy)]
pub(crate) struct Dpbusd<E>(PhantomData<E>);

/// AVX-VNNI with AVX2, FMA and F16C.
pub(crate) type AvxVnni = Avx<Dpbusd<Vex>>;

crate::kernels::entries!(AvxVnni, "avx2,fma,f16c,avxvnni");

#[inline(always)]
unsafe fn dot<E: Encoding, const N: usize>(codes: &[__m256i; N], acts: *const i8, start: i32) -> __m256i {
    // SAFETY: the contract of `Simd`: the encoding is available, and `acts` has `4 * N` codes.
    unsafe {
        let mut sum = _mm256_set1_epi32(start);
        for (i, codes) in codes.iter().enumerate() {
            sum = E::dpbusd(sum, *codes, broadcast(acts.add(4 * i)));
        }
        sum
    }
}

impl<E: Encoding> Dot for Dpbusd<E> {
    const NAME: &str = E::NAME;
    const BYTE_OFFSET: i32 = 128;

    fn is_available() -> bool {
        E::is_available()
    }

    #[inline(always)]
    unsafe fn dot<const BITS: u32, const N: usize>(
        codes: &[__m256i; N],
        acts: *const i8,
        start: i32,
    ) -> __m256i {
        // SAFETY: the caller's contract.
        unsafe { dot::<E, N>(codes, acts, start) }
    }

    #[inline(always)]
    unsafe fn dot_bytes<const N: usize>(codes: &[__m256i; N], acts: *const i8, start: i32) -> __m256i {
        // SAFETY: the caller's contract.
        unsafe { dot::<E, N>(codes, acts, start) }
    }
}

/// The same kernels by the instruction of AVX-512, so that processors which have that alone test them.
#[cfg(test)]
pub(crate) mod stand_in {
    use super::*;

    /// The encoding of AVX-512 VNNI with VL.
    #[derive(Clone, Copy)]
    pub(crate) struct Evex;

    impl Encoding for Evex {
        const NAME: &str = "avxvnni as encoded in avx512vl";

        fn is_available() -> bool {
            is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512vnni")
        }

        #[inline(always)]
        unsafe fn dpbusd(sums: __m256i, codes: __m256i, acts: __m256i) -> __m256i {
            // SAFETY: the caller's contract.
            unsafe { _mm256_dpbusd_epi32(sums, codes, acts) }
        }
    }

    /// AVX-512 VNNI on 256 bits.
    pub(crate) type AvxEvex = Avx<Dpbusd<Evex>>;

    crate::kernels::entries!(AvxEvex, "avx2,fma,f16c,avx512vl,avx512vnni");
}
