//! Vectors of one, two and four blocks of 16 bytes, and what the modes do with them.
#![allow(unsafe_code)]
// Half a hundred instructions, each of which says by its name where it comes from.
#![allow(clippy::wildcard_imports)]

use std::arch::x86_64::*;

/// Blocks side by side in a register of the processor.
///
/// # Safety
/// Every function needs the instructions of the type's level: it has to be called, inlined, from code that is compiled
/// for them, on a processor that has them. Pointers are to [`Self::BLOCKS`] blocks, of any alignment.
pub(super) trait Vector: Copy {
    /// How many blocks.
    const BLOCKS: usize;

    unsafe fn load(from: *const u8) -> Self;
    unsafe fn store(self, to: *mut u8);
    /// One block, repeated.
    unsafe fn repeat(block: *const u8) -> Self;
    unsafe fn xor(self, other: Self) -> Self;
    unsafe fn xor3(self, b: Self, c: Self) -> Self;
    unsafe fn round<const DECRYPT: bool>(self, key: Self) -> Self;
    unsafe fn last_round<const DECRYPT: bool>(self, key: Self) -> Self;
    /// Each block times x^n, n at most 32, in GF(2^128) as XTS has it.
    #[inline(always)]
    unsafe fn times_power(self, n: u32) -> Self {
        // Whole bytes are shifted by other units of the processor than AES and shifts by bits take.
        // SAFETY: as the trait says.
        unsafe {
            match n {
                8 => self.times_power_of_bytes::<1, 15>(),
                16 => self.times_power_of_bytes::<2, 14>(),
                24 => self.times_power_of_bytes::<3, 13>(),
                32 => self.times_power_of_bytes::<4, 12>(),
                _ => self.times_power_of_bits(n),
            }
        }
    }
    unsafe fn times_power_of_bits(self, n: u32) -> Self;
    /// Each block times x^(8 * LEFT), RIGHT being 16 - LEFT.
    unsafe fn times_power_of_bytes<const LEFT: i32, const RIGHT: i32>(self) -> Self;
    /// The first block times x^n, the second times x^(n + 1), and so on, none above x^7.
    unsafe fn powers(self, n: u32) -> Self;
    /// The blocks one place further on, the first being the last of `before`.
    unsafe fn after(self, before: Self) -> Self;
    /// Adds to the low 64 bits of each block.
    unsafe fn add(self, number: u64) -> Self;
    /// Adds 0 to the low 64 bits of the first block, 1 to those of the second, and so on.
    unsafe fn count(self) -> Self;
    /// The bytes of each block in the opposite order.
    unsafe fn reverse(self) -> Self;
    /// Block j of the i-th of [`Self::BLOCKS`] vectors becomes block i of the j-th; the others stay.
    unsafe fn transpose(rows: [Self; 4]) -> [Self; 4];
}

/// What x^128 is in GF(2^128).
const POLYNOMIAL: i64 = 0x87;

impl Vector for __m128i {
    const BLOCKS: usize = 1;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm_loadu_si128(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: as the trait says.
        unsafe { _mm_storeu_si128(to.cast(), self) }
    }

    #[inline(always)]
    unsafe fn repeat(block: *const u8) -> Self {
        // SAFETY: as the trait says.
        unsafe { Self::load(block) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm_xor_si128(self, other) }
    }

    #[inline(always)]
    unsafe fn xor3(self, b: Self, c: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { self.xor(b).xor(c) }
    }

    #[inline(always)]
    unsafe fn round<const DECRYPT: bool>(self, key: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            match DECRYPT {
                false => _mm_aesenc_si128(self, key),
                true => _mm_aesdec_si128(self, key),
            }
        }
    }

    #[inline(always)]
    unsafe fn last_round<const DECRYPT: bool>(self, key: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            match DECRYPT {
                false => _mm_aesenclast_si128(self, key),
                true => _mm_aesdeclast_si128(self, key),
            }
        }
    }

    #[inline(always)]
    unsafe fn times_power_of_bits(self, n: u32) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let (left, right) = (shift(n), shift(64 - n));
            let over = _mm_srl_epi64(self, right);
            let shifted = _mm_sll_epi64(self, left);
            let reduced = _mm_clmulepi64_si128::<0x01>(over, _mm_set_epi64x(0, POLYNOMIAL));
            shifted.xor3(_mm_bslli_si128::<8>(over), reduced)
        }
    }

    #[inline(always)]
    unsafe fn times_power_of_bytes<const LEFT: i32, const RIGHT: i32>(self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let reduced = _mm_clmulepi64_si128::<0x00>(
                _mm_bsrli_si128::<RIGHT>(self),
                _mm_set_epi64x(0, POLYNOMIAL),
            );
            _mm_bslli_si128::<LEFT>(self).xor(reduced)
        }
    }

    #[inline(always)]
    unsafe fn powers(self, n: u32) -> Self {
        // SAFETY: as the trait says.
        unsafe { self.times_power_of_bits(n) }
    }

    #[inline(always)]
    unsafe fn after(self, before: Self) -> Self {
        before
    }

    #[inline(always)]
    unsafe fn add(self, number: u64) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm_add_epi64(self, _mm_set_epi64x(0, number.cast_signed())) }
    }

    #[inline(always)]
    unsafe fn count(self) -> Self {
        self
    }

    #[inline(always)]
    unsafe fn reverse(self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm_shuffle_epi8(self, reversed()) }
    }

    #[inline(always)]
    unsafe fn transpose(rows: [Self; 4]) -> [Self; 4] {
        rows
    }
}

impl Vector for __m256i {
    const BLOCKS: usize = 2;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: as the trait says.
        unsafe { _mm256_storeu_si256(to.cast(), self) }
    }

    #[inline(always)]
    unsafe fn repeat(block: *const u8) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm256_broadcastsi128_si256(__m128i::load(block)) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm256_xor_si256(self, other) }
    }

    #[inline(always)]
    unsafe fn xor3(self, b: Self, c: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { self.xor(b).xor(c) }
    }

    #[inline(always)]
    unsafe fn round<const DECRYPT: bool>(self, key: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            match DECRYPT {
                false => _mm256_aesenc_epi128(self, key),
                true => _mm256_aesdec_epi128(self, key),
            }
        }
    }

    #[inline(always)]
    unsafe fn last_round<const DECRYPT: bool>(self, key: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            match DECRYPT {
                false => _mm256_aesenclast_epi128(self, key),
                true => _mm256_aesdeclast_epi128(self, key),
            }
        }
    }

    #[inline(always)]
    unsafe fn times_power_of_bits(self, n: u32) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let (left, right) = (shift(n), shift(64 - n));
            let over = _mm256_srl_epi64(self, right);
            let shifted = _mm256_sll_epi64(self, left);
            let polynomial = _mm256_set_epi64x(0, POLYNOMIAL, 0, POLYNOMIAL);
            let reduced = _mm256_clmulepi64_epi128::<0x01>(over, polynomial);
            shifted.xor3(_mm256_bslli_epi128::<8>(over), reduced)
        }
    }

    #[inline(always)]
    unsafe fn times_power_of_bytes<const LEFT: i32, const RIGHT: i32>(self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let reduced = _mm256_clmulepi64_epi128::<0x00>(
                _mm256_bsrli_epi128::<RIGHT>(self),
                _mm256_set_epi64x(0, POLYNOMIAL, 0, POLYNOMIAL),
            );
            _mm256_bslli_epi128::<LEFT>(self).xor(reduced)
        }
    }

    #[inline(always)]
    unsafe fn powers(self, n: u32) -> Self {
        // SAFETY: as the trait says. A shift by 64 leaves nothing.
        unsafe {
            let n = i64::from(n);
            let left = _mm256_set_epi64x(n + 1, n + 1, n, n);
            let over = _mm256_srlv_epi64(self, _mm256_sub_epi64(_mm256_set1_epi64x(64), left));
            let shifted = _mm256_sllv_epi64(self, left);
            let polynomial = _mm256_set_epi64x(0, POLYNOMIAL, 0, POLYNOMIAL);
            let reduced = _mm256_clmulepi64_epi128::<0x01>(over, polynomial);
            shifted.xor3(_mm256_bslli_epi128::<8>(over), reduced)
        }
    }

    #[inline(always)]
    unsafe fn after(self, before: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm256_permute2x128_si256::<0x21>(before, self) }
    }

    #[inline(always)]
    unsafe fn add(self, number: u64) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let number = number.cast_signed();
            _mm256_add_epi64(self, _mm256_set_epi64x(0, number, 0, number))
        }
    }

    #[inline(always)]
    unsafe fn count(self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm256_add_epi64(self, _mm256_set_epi64x(0, 1, 0, 0)) }
    }

    #[inline(always)]
    unsafe fn reverse(self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm256_shuffle_epi8(self, _mm256_broadcastsi128_si256(reversed())) }
    }

    #[inline(always)]
    unsafe fn transpose(rows: [Self; 4]) -> [Self; 4] {
        // SAFETY: as the trait says.
        unsafe {
            [
                _mm256_permute2x128_si256::<0x20>(rows[0], rows[1]),
                _mm256_permute2x128_si256::<0x31>(rows[0], rows[1]),
                rows[2],
                rows[3],
            ]
        }
    }
}

impl Vector for __m512i {
    const BLOCKS: usize = 4;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: as the trait says.
        unsafe { _mm512_storeu_si512(to.cast(), self) }
    }

    #[inline(always)]
    unsafe fn repeat(block: *const u8) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_broadcast_i32x4(__m128i::load(block)) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_xor_si512(self, other) }
    }

    #[inline(always)]
    unsafe fn xor3(self, b: Self, c: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_ternarylogic_epi64::<0x96>(self, b, c) }
    }

    #[inline(always)]
    unsafe fn round<const DECRYPT: bool>(self, key: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            match DECRYPT {
                false => _mm512_aesenc_epi128(self, key),
                true => _mm512_aesdec_epi128(self, key),
            }
        }
    }

    #[inline(always)]
    unsafe fn last_round<const DECRYPT: bool>(self, key: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            match DECRYPT {
                false => _mm512_aesenclast_epi128(self, key),
                true => _mm512_aesdeclast_epi128(self, key),
            }
        }
    }

    #[inline(always)]
    unsafe fn times_power_of_bits(self, n: u32) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let (left, right) = (shift(n), shift(64 - n));
            let over = _mm512_srl_epi64(self, right);
            let shifted = _mm512_sll_epi64(self, left);
            let polynomial = _mm512_set4_epi64(0, POLYNOMIAL, 0, POLYNOMIAL);
            let reduced = _mm512_clmulepi64_epi128::<0x01>(over, polynomial);
            shifted.xor3(_mm512_bslli_epi128::<8>(over), reduced)
        }
    }

    #[inline(always)]
    unsafe fn times_power_of_bytes<const LEFT: i32, const RIGHT: i32>(self) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let reduced = _mm512_clmulepi64_epi128::<0x00>(
                _mm512_bsrli_epi128::<RIGHT>(self),
                _mm512_set4_epi64(0, POLYNOMIAL, 0, POLYNOMIAL),
            );
            _mm512_bslli_epi128::<LEFT>(self).xor(reduced)
        }
    }

    #[inline(always)]
    unsafe fn powers(self, n: u32) -> Self {
        // SAFETY: as the trait says. A shift by 64 leaves nothing.
        unsafe {
            let n = i64::from(n);
            let left = _mm512_set_epi64(n + 3, n + 3, n + 2, n + 2, n + 1, n + 1, n, n);
            let over = _mm512_srlv_epi64(self, _mm512_sub_epi64(_mm512_set1_epi64(64), left));
            let shifted = _mm512_sllv_epi64(self, left);
            let polynomial = _mm512_set4_epi64(0, POLYNOMIAL, 0, POLYNOMIAL);
            let reduced = _mm512_clmulepi64_epi128::<0x01>(over, polynomial);
            shifted.xor3(_mm512_bslli_epi128::<8>(over), reduced)
        }
    }

    #[inline(always)]
    unsafe fn after(self, before: Self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_alignr_epi64::<6>(self, before) }
    }

    #[inline(always)]
    unsafe fn add(self, number: u64) -> Self {
        // SAFETY: as the trait says.
        unsafe {
            let number = number.cast_signed();
            _mm512_add_epi64(self, _mm512_set4_epi64(0, number, 0, number))
        }
    }

    #[inline(always)]
    unsafe fn count(self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_add_epi64(self, _mm512_set_epi64(0, 3, 0, 2, 0, 1, 0, 0)) }
    }

    #[inline(always)]
    unsafe fn reverse(self) -> Self {
        // SAFETY: as the trait says.
        unsafe { _mm512_shuffle_epi8(self, _mm512_broadcast_i32x4(reversed())) }
    }

    #[inline(always)]
    unsafe fn transpose(rows: [Self; 4]) -> [Self; 4] {
        let [a, b, c, d] = rows;
        // SAFETY: as the trait says.
        unsafe {
            let ab_even = _mm512_shuffle_i64x2::<0x88>(a, b);
            let ab_odd = _mm512_shuffle_i64x2::<0xdd>(a, b);
            let cd_even = _mm512_shuffle_i64x2::<0x88>(c, d);
            let cd_odd = _mm512_shuffle_i64x2::<0xdd>(c, d);
            [
                _mm512_shuffle_i64x2::<0x88>(ab_even, cd_even),
                _mm512_shuffle_i64x2::<0x88>(ab_odd, cd_odd),
                _mm512_shuffle_i64x2::<0xdd>(ab_even, cd_even),
                _mm512_shuffle_i64x2::<0xdd>(ab_odd, cd_odd),
            ]
        }
    }
}

/// A count of bits for a shift of all lanes.
#[inline(always)]
unsafe fn shift(bits: u32) -> __m128i {
    // SAFETY: SSE2 is part of x86-64.
    unsafe { _mm_cvtsi32_si128(bits.cast_signed()) }
}

/// Where the bytes of a block come from when they are reversed.
#[inline(always)]
unsafe fn reversed() -> __m128i {
    // SAFETY: SSE2 is part of x86-64.
    unsafe { _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) }
}
