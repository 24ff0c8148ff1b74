//! x86-64 instruction sets.

pub(super) mod avx2;
pub(super) mod avx512vnni;
