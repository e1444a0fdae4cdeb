//! The modes over many blocks, for vectors of any width.
//!
//! Eight vectors are under way at once, enough to keep the AES units busy. CBC enciphers as many units side by side, a
//! vector's width of each at a time: units of 4096 bytes lie in the same places of the first-level cache, and would
//! push each other out block by block.
#![allow(unsafe_code)]
// The vectors of one step are the same places of several arrays; iterators over all of them would hide that.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::{__m128i, __m256i, __m512i, _MM_HINT_T0, _mm_prefetch};

use super::Level;
use super::schedule::{MOST_KEYS, Schedule};
use super::vector::Vector;
use crate::crypto::modes::{Data, Direction, IvBlock};

/// Vectors under way at once.
const WIDE: usize = 8;
/// How far ahead the source is fetched, bytes.
const AHEAD: usize = 4096;
const LINE: usize = 64;

/// Units of `unit` bytes, each with its vector.
pub(super) struct Job<'v, 'i, 'o> {
    pub(super) ivs: &'v [IvBlock],
    pub(super) data: Data<'i, 'o>,
    pub(super) unit: usize,
}

/// The same as the kernels take it: `n` units from `from` to `to`, which are the same place or two that do not overlap.
#[derive(Clone, Copy)]
struct Units<'v> {
    ivs: &'v [IvBlock],
    from: *const u8,
    to: *mut u8,
    unit: usize,
}

impl<'v> Job<'v, '_, '_> {
    /// # Panics
    /// Where data and vectors are not of as many units.
    fn into_units(self) -> Units<'v> {
        let Job { ivs, data, unit } = self;
        assert!(
            unit.is_multiple_of(16) && data.len() == ivs.len() * unit,
            "whole units"
        );
        let (from, to) = data.into_raw();
        Units {
            ivs,
            from,
            to,
            unit,
        }
    }
}

/// The round keys of a schedule, each in all blocks of a vector.
#[inline(always)]
unsafe fn round_keys<V: Vector>(keys: &[[u8; 16]; MOST_KEYS]) -> [V; MOST_KEYS] {
    // SAFETY: each round key is a block.
    std::array::from_fn(|i| unsafe { V::repeat(keys[i].as_ptr()) })
}

/// All rounds but the first key's and the last.
#[inline(always)]
unsafe fn middle_rounds<V: Vector, const ROUNDS: usize, const DECRYPT: bool, const N: usize>(
    blocks: &mut [V; N],
    keys: &[V; MOST_KEYS],
) {
    for key in &keys[1..ROUNDS] {
        for block in blocks.iter_mut() {
            // SAFETY: as the caller.
            *block = unsafe { block.round::<DECRYPT>(*key) };
        }
    }
}

#[inline(always)]
unsafe fn fetch<V: Vector, const N: usize>(from: *const u8) {
    for line in (0..N * V::BLOCKS * 16).step_by(LINE) {
        // SAFETY: fetching ahead touches nothing, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD + line).cast()) };
    }
}

#[inline(always)]
unsafe fn xts_kernel<V: Vector, const ROUNDS: usize, const DECRYPT: bool, const N: usize>(
    keys: &[[u8; 16]; MOST_KEYS],
    units: Units<'_>,
) {
    // SAFETY: the units are there, as `Job::into_units` has checked; each is of whole groups of N vectors.
    unsafe {
        let keys = round_keys::<V>(keys);
        let last = keys[ROUNDS];
        let (mut from, mut to) = (units.from, units.to);
        let group = N * V::BLOCKS * 16;
        for iv in units.ivs {
            let mut masks = [V::repeat(iv.as_ptr()).powers(); N];
            let mut known = 1;
            while known < N {
                for i in known..(2 * known).min(N) {
                    masks[i] = masks[i - known].times_power((known * V::BLOCKS) as u32);
                }
                known *= 2;
            }
            for i in 0..units.unit / group {
                if i > 0 {
                    for mask in &mut masks {
                        *mask = mask.times_power((N * V::BLOCKS) as u32);
                    }
                }
                fetch::<V, N>(from);
                let mut blocks: [V; N] = std::array::from_fn(|j| {
                    V::load(from.add(j * V::BLOCKS * 16)).xor3(masks[j], keys[0])
                });
                middle_rounds::<V, ROUNDS, DECRYPT, N>(&mut blocks, &keys);
                for j in 0..N {
                    // The mask of the result goes in with the last key.
                    let block = blocks[j].last_round::<DECRYPT>(last.xor(masks[j]));
                    block.store(to.add(j * V::BLOCKS * 16));
                }
                from = from.add(group);
                to = to.add(group);
            }
        }
    }
}

#[inline(always)]
unsafe fn cbc_decrypt_kernel<V: Vector, const ROUNDS: usize, const N: usize>(
    keys: &[[u8; 16]; MOST_KEYS],
    units: Units<'_>,
) {
    // SAFETY: as above.
    unsafe {
        let keys = round_keys::<V>(keys);
        let (mut from, mut to) = (units.from, units.to);
        let group = N * V::BLOCKS * 16;
        for iv in units.ivs {
            let mut before = V::repeat(iv.as_ptr());
            for _ in 0..units.unit / group {
                fetch::<V, N>(from);
                let read: [V; N] = std::array::from_fn(|j| V::load(from.add(j * V::BLOCKS * 16)));
                let mut blocks = read.map(|block| block.xor(keys[0]));
                middle_rounds::<V, ROUNDS, true, N>(&mut blocks, &keys);
                for j in 0..N {
                    let chained = read[j].after(before);
                    before = read[j];
                    let block = blocks[j].last_round::<true>(keys[ROUNDS].xor(chained));
                    block.store(to.add(j * V::BLOCKS * 16));
                }
                from = from.add(group);
                to = to.add(group);
            }
        }
    }
}

#[inline(always)]
unsafe fn ctr_kernel<V: Vector, const ROUNDS: usize, const N: usize>(
    keys: &[[u8; 16]; MOST_KEYS],
    units: Units<'_>,
) {
    // SAFETY: as above.
    unsafe {
        let keys = round_keys::<V>(keys);
        let (mut from, mut to) = (units.from, units.to);
        let group = N * V::BLOCKS * 16;
        for iv in units.ivs {
            // Little-endian, so that the low half can be counted up: it does not run over, see `counts_over`.
            let mut counter = V::repeat(iv.as_ptr()).reverse().count();
            for _ in 0..units.unit / group {
                fetch::<V, N>(from);
                let mut blocks: [V; N] = std::array::from_fn(|j| {
                    counter.add((j * V::BLOCKS) as u64).reverse().xor(keys[0])
                });
                counter = counter.add((N * V::BLOCKS) as u64);
                middle_rounds::<V, ROUNDS, false, N>(&mut blocks, &keys);
                for j in 0..N {
                    let at = j * V::BLOCKS * 16;
                    let key = keys[ROUNDS].xor(V::load(from.add(at)));
                    blocks[j].last_round::<false>(key).store(to.add(at));
                }
                from = from.add(group);
                to = to.add(group);
            }
        }
    }
}

/// Whole groups of N vectors, `n` of them.
#[inline(always)]
unsafe fn ecb_kernel<V: Vector, const ROUNDS: usize, const DECRYPT: bool, const N: usize>(
    keys: &[[u8; 16]; MOST_KEYS],
    (mut from, mut to, n): (*const u8, *mut u8, usize),
) {
    // SAFETY: as the caller.
    unsafe {
        let keys = round_keys::<V>(keys);
        let group = N * V::BLOCKS * 16;
        for _ in 0..n {
            let mut blocks: [V; N] =
                std::array::from_fn(|j| V::load(from.add(j * V::BLOCKS * 16)).xor(keys[0]));
            middle_rounds::<V, ROUNDS, DECRYPT, N>(&mut blocks, &keys);
            for j in 0..N {
                let block = blocks[j].last_round::<DECRYPT>(keys[ROUNDS]);
                block.store(to.add(j * V::BLOCKS * 16));
            }
            from = from.add(group);
            to = to.add(group);
        }
    }
}

/// Enciphers up to N * BLOCKS units side by side; those that are missing are done as if they were the first, and not
/// written.
#[inline(always)]
unsafe fn cbc_encrypt_kernel<V: Vector, const ROUNDS: usize, const N: usize>(
    keys: &[[u8; 16]; MOST_KEYS],
    units: Units<'_>,
) {
    // SAFETY: as above.
    unsafe {
        let keys = round_keys::<V>(keys);
        let n = units.ivs.len().min(N * V::BLOCKS);
        let lane = |i: usize| if i < n { i } else { 0 };
        let mut chains: [V; N] = std::array::from_fn(|i| {
            let mut ivs = [[0; 16]; 4];
            for j in 0..V::BLOCKS {
                ivs[j] = units.ivs[lane(i * V::BLOCKS + j)].0;
            }
            V::load(ivs.as_ptr().cast())
        });
        for at in (0..units.unit).step_by(V::BLOCKS * 16) {
            // One row a unit, then one row a block.
            let place = |i: usize| units.from.add(lane(i) * units.unit + at);
            let mut rows: [[V; 4]; N] = std::array::from_fn(|i| {
                let first = V::load(place(i * V::BLOCKS));
                let mut rows = [first; 4];
                for j in 1..V::BLOCKS {
                    rows[j] = V::load(place(i * V::BLOCKS + j));
                }
                V::transpose(rows)
            });
            for block in 0..V::BLOCKS {
                for (chain, rows) in chains.iter_mut().zip(&rows) {
                    *chain = chain.xor3(rows[block], keys[0]);
                }
                middle_rounds::<V, ROUNDS, false, N>(&mut chains, &keys);
                for (chain, rows) in chains.iter_mut().zip(&mut rows) {
                    *chain = chain.last_round::<false>(keys[ROUNDS]);
                    rows[block] = *chain;
                }
            }
            for (i, rows) in rows.into_iter().enumerate() {
                let rows = V::transpose(rows);
                for j in 0..V::BLOCKS {
                    let unit = i * V::BLOCKS + j;
                    if unit < n {
                        rows[j].store(units.to.add(unit * units.unit + at));
                    }
                }
            }
        }
    }
}

/// Makes functions of a level out of the kernels.
macro_rules! level {
    ($name:ident, $vector:ty, $features:literal) => {
        mod $name {
            use super::*;

            #[target_feature(enable = $features)]
            pub(super) unsafe fn xts<const ROUNDS: usize, const N: usize>(
                keys: &Schedule,
                direction: Direction,
                units: Units<'_>,
            ) {
                // SAFETY: compiled for the features that the caller has found.
                unsafe {
                    match direction {
                        Direction::Encrypt => {
                            xts_kernel::<$vector, ROUNDS, false, N>(&keys.encrypt, units)
                        }
                        Direction::Decrypt => {
                            xts_kernel::<$vector, ROUNDS, true, N>(&keys.decrypt, units)
                        }
                    }
                }
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn cbc_decrypt<const ROUNDS: usize, const N: usize>(
                keys: &Schedule,
                units: Units<'_>,
            ) {
                // SAFETY: as above.
                unsafe { cbc_decrypt_kernel::<$vector, ROUNDS, N>(&keys.decrypt, units) }
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn ctr<const ROUNDS: usize, const N: usize>(
                keys: &Schedule,
                units: Units<'_>,
            ) {
                // SAFETY: as above.
                unsafe { ctr_kernel::<$vector, ROUNDS, N>(&keys.encrypt, units) }
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn cbc_encrypt<const ROUNDS: usize, const N: usize>(
                keys: &Schedule,
                units: Units<'_>,
            ) {
                // SAFETY: as above.
                unsafe { cbc_encrypt_kernel::<$vector, ROUNDS, N>(&keys.encrypt, units) }
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn ecb<const ROUNDS: usize, const N: usize>(
                keys: &Schedule,
                direction: Direction,
                blocks: (*const u8, *mut u8, usize),
            ) {
                // SAFETY: as above.
                unsafe {
                    match direction {
                        Direction::Encrypt => {
                            ecb_kernel::<$vector, ROUNDS, false, N>(&keys.encrypt, blocks)
                        }
                        Direction::Decrypt => {
                            ecb_kernel::<$vector, ROUNDS, true, N>(&keys.decrypt, blocks)
                        }
                    }
                }
            }
        }
    };
}

level!(one, __m128i, "aes,pclmulqdq,avx");
level!(two, __m256i, "aes,pclmulqdq,avx2,vaes,vpclmulqdq");
level!(
    four,
    __m512i,
    "aes,pclmulqdq,avx512f,avx512bw,vaes,vpclmulqdq"
);

/// Calls the function of a level, N vectors at once, for the rounds of a key.
macro_rules! at_level {
    ($level:expr, $function:ident::<$n:tt>, $keys:expr, $($argument:expr),*) => {{
        let keys: &Schedule = $keys;
        // SAFETY: a level is used only where the processor has its instructions.
        unsafe {
            match ($level, keys.rounds) {
                (Level::One, 10) => one::$function::<10, $n>(keys, $($argument),*),
                (Level::One, 12) => one::$function::<12, $n>(keys, $($argument),*),
                (Level::One, _) => one::$function::<14, $n>(keys, $($argument),*),
                (Level::Two, 10) => two::$function::<10, $n>(keys, $($argument),*),
                (Level::Two, 12) => two::$function::<12, $n>(keys, $($argument),*),
                (Level::Two, _) => two::$function::<14, $n>(keys, $($argument),*),
                (Level::Four, 10) => four::$function::<10, $n>(keys, $($argument),*),
                (Level::Four, 12) => four::$function::<12, $n>(keys, $($argument),*),
                (Level::Four, _) => four::$function::<14, $n>(keys, $($argument),*),
            }
        }
    }};
}

/// The same one block at a time, for units that are shorter than a sector.
macro_rules! block_by_block {
    ($function:ident, $keys:expr, $($argument:expr),*) => {{
        let keys: &Schedule = $keys;
        // SAFETY: every level includes this one.
        unsafe {
            match keys.rounds {
                10 => one::$function::<10, 1>(keys, $($argument),*),
                12 => one::$function::<12, 1>(keys, $($argument),*),
                _ => one::$function::<14, 1>(keys, $($argument),*),
            }
        }
    }};
}

impl Level {
    /// Blocks of a vector.
    fn blocks(self) -> usize {
        match self {
            Level::One => 1,
            Level::Two => 2,
            Level::Four => 4,
        }
    }

    /// Whether units of `unit` bytes are whole groups of vectors.
    fn divides(self, unit: usize) -> bool {
        unit.is_multiple_of(WIDE * self.blocks() * 16)
    }
}

/// XTS; the vectors are enciphered already.
pub(super) fn xts(level: Level, keys: &Schedule, direction: Direction, job: Job<'_, '_, '_>) {
    let units = job.into_units();
    match level.divides(units.unit) {
        true => at_level!(level, xts::<WIDE>, keys, direction, units),
        false => block_by_block!(xts, keys, direction, units),
    }
}

/// CBC, deciphering.
pub(super) fn cbc_decrypt(level: Level, keys: &Schedule, job: Job<'_, '_, '_>) {
    let units = job.into_units();
    match level.divides(units.unit) {
        true => at_level!(level, cbc_decrypt::<WIDE>, keys, units),
        false => block_by_block!(cbc_decrypt, keys, units),
    }
}

/// CBC, enciphering.
pub(super) fn cbc_encrypt(level: Level, keys: &Schedule, job: Job<'_, '_, '_>) {
    let units = job.into_units();
    let level = match units.unit.is_multiple_of(level.blocks() * 16) {
        true => level,
        false => Level::One,
    };
    let at_once = level.blocks() * if level == Level::Four { 4 } else { WIDE };
    for (i, ivs) in units.ivs.chunks(at_once).enumerate() {
        let place = i * at_once * units.unit;
        let units = Units {
            ivs,
            from: units.from.wrapping_add(place),
            to: units.to.wrapping_add(place),
            unit: units.unit,
        };
        match ivs.len().div_ceil(level.blocks()) {
            0..=1 => at_level!(level, cbc_encrypt::<1>, keys, units),
            2 => at_level!(level, cbc_encrypt::<2>, keys, units),
            3..=4 => at_level!(level, cbc_encrypt::<4>, keys, units),
            _ => at_level!(level, cbc_encrypt::<8>, keys, units),
        }
    }
}

/// CTR, in both directions.
pub(super) fn ctr(level: Level, keys: &Schedule, job: Job<'_, '_, '_>) {
    let units = job.into_units();
    match units.ivs.iter().any(|iv| counts_over(iv, units.unit)) {
        true => ctr_one_by_one(level, keys, units),
        false => ctr_units(level, keys, units),
    }
}

fn ctr_units(level: Level, keys: &Schedule, units: Units<'_>) {
    match level.divides(units.unit) {
        true => at_level!(level, ctr::<WIDE>, keys, units),
        false => block_by_block!(ctr, keys, units),
    }
}

/// Whether the low half of the counter overflows within a unit.
fn counts_over(iv: &IvBlock, unit: usize) -> bool {
    let low = u128::from_be_bytes(iv.0) as u64;
    low.checked_add(unit as u64 / 16).is_none()
}

/// Unit after unit; in one whose counter overflows, block after block.
fn ctr_one_by_one(level: Level, keys: &Schedule, units: Units<'_>) {
    for (i, iv) in units.ivs.iter().enumerate() {
        let place = i * units.unit;
        let (from, to) = (units.from.wrapping_add(place), units.to.wrapping_add(place));
        if !counts_over(iv, units.unit) {
            let ivs = std::slice::from_ref(iv);
            ctr_units(
                level,
                keys,
                Units {
                    ivs,
                    from,
                    to,
                    ..units
                },
            );
            continue;
        }
        for at in (0..units.unit).step_by(16) {
            let counter = u128::from_be_bytes(iv.0).wrapping_add(at as u128 / 16);
            let ivs = &[counter.to_be_bytes().into()];
            let (from, to, unit) = (from.wrapping_add(at), to.wrapping_add(at), 16);
            block_by_block!(
                ctr,
                keys,
                Units {
                    ivs,
                    from,
                    to,
                    unit
                }
            );
        }
    }
}

/// ECB over whole blocks.
pub(super) fn ecb(level: Level, keys: &Schedule, direction: Direction, data: Data<'_, '_>) {
    assert!(data.len().is_multiple_of(16), "whole blocks");
    let vector = level.blocks() * 16;
    let len = data.len() / (WIDE * vector) * (WIDE * vector);
    let (whole, mut rest) = data.split_at(len);
    let (from, to) = whole.into_raw();
    let n = len / (WIDE * vector);
    at_level!(level, ecb::<WIDE>, keys, direction, (from, to, n));
    if rest.is_empty() {
        return;
    }
    // As few vectors as hold the rest, from memory that has room for all of them.
    let mut padded = [0; WIDE * 64];
    padded[..rest.len()].copy_from_slice(rest.get_in());
    let memory = padded.as_mut_ptr();
    let blocks = (memory.cast_const(), memory, 1);
    match rest.len().div_ceil(vector) {
        0..=1 => at_level!(level, ecb::<1>, keys, direction, blocks),
        2 => at_level!(level, ecb::<2>, keys, direction, blocks),
        3..=4 => at_level!(level, ecb::<4>, keys, direction, blocks),
        _ => at_level!(level, ecb::<8>, keys, direction, blocks),
    }
    let len = rest.len();
    rest.get_out().copy_from_slice(&padded[..len]);
}
