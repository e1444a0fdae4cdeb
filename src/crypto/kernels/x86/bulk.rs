//! The modes over many blocks: the text of [`super::wide`] compiled for each level, and which of it a call takes.
#![allow(unsafe_code)]

use std::arch::x86_64::{__m128i, __m256i, __m512i};

use super::Level;
use super::schedule::Schedule;
use super::wide::{
    Units, WIDE, cbc_decrypt_kernel, cbc_encrypt_kernel, ctr_kernel, ecb_kernel, xts_kernel,
};
use crate::crypto::modes::{Data, Direction, IvBlock};

/// As many vectors as XTS takes at once where they are the longest: two groups then fit into what the processor looks ahead.
const HALF: usize = WIDE / 2;

/// Units of `unit` bytes, each with its vector.
pub(super) struct Job<'v, 'i, 'o> {
    pub(super) ivs: &'v [IvBlock],
    pub(super) data: Data<'i, 'o>,
    pub(super) unit: usize,
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
    match (level.divides(units.unit), level) {
        (true, Level::Four) => at_level!(level, xts::<HALF>, keys, direction, units),
        (true, _) => at_level!(level, xts::<WIDE>, keys, direction, units),
        (false, _) => block_by_block!(xts, keys, direction, units),
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
    let group = WIDE * level.blocks() * 16;
    let n = data.len() / group;
    let (whole, rest) = data.split_at(n * group);
    let (from, to) = whole.into_raw();
    at_level!(level, ecb::<WIDE>, keys, direction, (from, to, n));
    let n = rest.len() / 16;
    let (from, to) = rest.into_raw();
    block_by_block!(ecb, keys, direction, (from, to, n));
}
