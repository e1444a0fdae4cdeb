//! The modes over units, for vectors of any width: what [`super::bulk`] compiles for each of them.
//!
//! Eight vectors are under way at once, enough to keep the AES units busy. CBC enciphers as many units side by side, a
//! vector's width of each at a time: units of 4096 bytes lie in the same places of the first-level cache, and would
//! push each other out block by block.
//!
//! Nothing here is a closure: one that is not inlined is compiled without the instructions that it is about, and every one of
//! them becomes a call.
#![allow(unsafe_code)]
// The vectors of one step are the same places of several arrays; iterators over all of them would hide that.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use super::schedule::MOST_KEYS;
use super::vector::Vector;
use crate::crypto::modes::IvBlock;

/// Vectors under way at once.
pub(super) const WIDE: usize = 8;
/// How far ahead the source is fetched, bytes.
const AHEAD: usize = 4096;
const LINE: usize = 64;
/// Most units that are enciphered side by side.
const MOST_LANES: usize = WIDE * 4;

/// Units of `unit` bytes, each with its vector, from `from` to `to`, which are the same place or two that do not overlap.
#[derive(Clone, Copy)]
pub(super) struct Units<'v> {
    pub(super) ivs: &'v [IvBlock],
    pub(super) from: *const u8,
    pub(super) to: *mut u8,
    pub(super) unit: usize,
}

/// The round keys of a schedule, each in all blocks of a vector.
#[inline(always)]
unsafe fn round_keys<V: Vector>(keys: &[[u8; 16]; MOST_KEYS]) -> [V; MOST_KEYS] {
    // SAFETY: each round key is a block.
    unsafe {
        let mut repeated = [V::repeat(keys[0].as_ptr()); MOST_KEYS];
        for i in 1..MOST_KEYS {
            repeated[i] = V::repeat(keys[i].as_ptr());
        }
        repeated
    }
}

/// The N vectors at `from`.
#[inline(always)]
unsafe fn load<V: Vector, const N: usize>(from: *const u8) -> [V; N] {
    // SAFETY: as the caller.
    unsafe {
        let mut vectors = [V::load(from); N];
        for j in 1..N {
            vectors[j] = V::load(from.add(j * V::BLOCKS * 16));
        }
        vectors
    }
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
pub(super) unsafe fn xts_kernel<
    V: Vector,
    const ROUNDS: usize,
    const DECRYPT: bool,
    const N: usize,
>(
    keys: &[[u8; 16]; MOST_KEYS],
    units: Units<'_>,
) {
    // SAFETY: the units are there, as `Job::into_units` has checked; each is of whole groups of N vectors.
    unsafe {
        let keys = round_keys::<V>(keys);
        let last = keys[ROUNDS];
        let (mut from, mut to) = (units.from, units.to);
        let group = N * V::BLOCKS * 16;
        let Some(mut iv) = units.ivs.first() else {
            return;
        };
        let mut masks = masks::<V, N>(iv);
        for i in 0..units.ivs.len() {
            iv = units.ivs.get(i + 1).unwrap_or(iv);
            let mut left = units.unit;
            while left > 0 {
                left -= group;
                fetch::<V, N>(from);
                let mut blocks = load::<V, N>(from);
                for j in 0..N {
                    blocks[j] = blocks[j].xor3(masks[j], keys[0]);
                }
                // Those of the next group, while the AES units are busy with this one.
                let mut next = masks;
                match left {
                    0 => next = self::masks::<V, N>(iv),
                    _ => {
                        for mask in &mut next {
                            *mask = mask.times_power((N * V::BLOCKS) as u32);
                        }
                    }
                }
                middle_rounds::<V, ROUNDS, DECRYPT, N>(&mut blocks, &keys);
                for j in 0..N {
                    // The mask of the result goes in with the last key.
                    let block = blocks[j].last_round::<DECRYPT>(last.xor(masks[j]));
                    block.store(to.add(j * V::BLOCKS * 16));
                }
                masks = next;
                from = from.add(group);
                to = to.add(group);
            }
        }
    }
}

/// The masks of the first N vectors of a unit, all within two steps of its vector.
#[inline(always)]
unsafe fn masks<V: Vector, const N: usize>(iv: &IvBlock) -> [V; N] {
    // SAFETY: as the caller.
    unsafe {
        let first = V::repeat(iv.as_ptr());
        let mut masks = [first; N];
        let by_bits = 8 / V::BLOCKS;
        for i in 0..N {
            masks[i] = match i < by_bits {
                true => first.powers((i * V::BLOCKS) as u32),
                false => masks[i % by_bits].times_power((i / by_bits * 8) as u32),
            };
        }
        masks
    }
}

#[inline(always)]
pub(super) unsafe fn cbc_decrypt_kernel<V: Vector, const ROUNDS: usize, const N: usize>(
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
                let read = load::<V, N>(from);
                let mut blocks = read;
                for block in &mut blocks {
                    *block = block.xor(keys[0]);
                }
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
pub(super) unsafe fn ctr_kernel<V: Vector, const ROUNDS: usize, const N: usize>(
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
                let mut blocks = [counter; N];
                for j in 0..N {
                    let counter = counter.add((j * V::BLOCKS) as u64);
                    blocks[j] = counter.reverse().xor(keys[0]);
                }
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
pub(super) unsafe fn ecb_kernel<
    V: Vector,
    const ROUNDS: usize,
    const DECRYPT: bool,
    const N: usize,
>(
    keys: &[[u8; 16]; MOST_KEYS],
    (mut from, mut to, n): (*const u8, *mut u8, usize),
) {
    // SAFETY: as the caller.
    unsafe {
        let keys = round_keys::<V>(keys);
        let group = N * V::BLOCKS * 16;
        for _ in 0..n {
            let mut blocks = load::<V, N>(from);
            for block in &mut blocks {
                *block = block.xor(keys[0]);
            }
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

/// Enciphers up to N * BLOCKS units side by side. In place of those that are missing the first is done again, which writes
/// the same bytes to the same place.
#[inline(always)]
pub(super) unsafe fn cbc_encrypt_kernel<V: Vector, const ROUNDS: usize, const N: usize>(
    keys: &[[u8; 16]; MOST_KEYS],
    units: Units<'_>,
) {
    // SAFETY: as above; the places are of units that are there.
    unsafe {
        let keys = round_keys::<V>(keys);
        let mut places = [0; MOST_LANES];
        let mut ivs = [units.ivs[0]; MOST_LANES];
        let there = units.ivs.iter().take(N * V::BLOCKS).enumerate();
        for (i, &iv) in there {
            places[i] = i * units.unit;
            ivs[i] = iv;
        }
        let mut chains = [V::load(ivs.as_ptr().cast()); N];
        for i in 1..N {
            chains[i] = V::load(ivs.as_ptr().add(i * V::BLOCKS).cast());
        }
        for at in (0..units.unit).step_by(V::BLOCKS * 16) {
            let (from, to) = (units.from.add(at), units.to.add(at));
            // One row a unit, then one row a block.
            let mut rows = [[chains[0]; 4]; N];
            for i in 0..N {
                for j in 0..V::BLOCKS {
                    rows[i][j] = V::load(from.add(places[i * V::BLOCKS + j]));
                }
                rows[i] = V::transpose(rows[i]);
            }
            chain::<V, ROUNDS, N, 0>(&mut chains, &mut rows, &keys);
            if V::BLOCKS > 1 {
                chain::<V, ROUNDS, N, 1>(&mut chains, &mut rows, &keys);
            }
            if V::BLOCKS > 2 {
                chain::<V, ROUNDS, N, 2>(&mut chains, &mut rows, &keys);
                chain::<V, ROUNDS, N, 3>(&mut chains, &mut rows, &keys);
            }
            for i in 0..N {
                let rows = V::transpose(rows[i]);
                for j in 0..V::BLOCKS {
                    rows[j].store(to.add(places[i * V::BLOCKS + j]));
                }
            }
        }
    }
}

/// The next block of every unit: what is in the rows is enciphered there. A function of each place, so that the rows stay
/// in registers.
#[inline(always)]
unsafe fn chain<V: Vector, const ROUNDS: usize, const N: usize, const BLOCK: usize>(
    chains: &mut [V; N],
    rows: &mut [[V; 4]; N],
    keys: &[V; MOST_KEYS],
) {
    // SAFETY: as the caller.
    unsafe {
        for i in 0..N {
            chains[i] = chains[i].xor3(rows[i][BLOCK], keys[0]);
        }
        middle_rounds::<V, ROUNDS, false, N>(chains, keys);
        for i in 0..N {
            chains[i] = chains[i].last_round::<false>(keys[ROUNDS]);
            rows[i][BLOCK] = chains[i];
        }
    }
}
