//! The kernels for x86-64, and which of them the processor can run.

mod bulk;
mod schedule;
mod vector;
mod wide;

use std::sync::OnceLock;

use super::Arithmetic;
use crate::crypto::algorithm::Chaining;
use crate::crypto::modes::{Data, Direction, IvBlock, Mode};
use bulk::Job;
use schedule::Schedule;

/// How wide the vectors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    One,
    Two,
    Four,
}

impl Level {
    /// The level of `arithmetic`, where there is one and the processor has it.
    pub(super) fn of(arithmetic: Arithmetic) -> Option<Level> {
        let level = match arithmetic {
            Arithmetic::Best => *Level::available().last()?,
            Arithmetic::Portable => return None,
            Arithmetic::Vectors1 => Level::One,
            Arithmetic::Vectors2 => Level::Two,
            Arithmetic::Vectors4 => Level::Four,
        };
        Level::available().contains(&level).then_some(level)
    }

    /// Every level that this processor has, the widest last.
    pub(super) fn available() -> &'static [Level] {
        static AVAILABLE: OnceLock<Vec<Level>> = OnceLock::new();
        AVAILABLE.get_or_init(|| {
            let mut levels = Vec::new();
            if is_x86_feature_detected!("aes")
                && is_x86_feature_detected!("pclmulqdq")
                && is_x86_feature_detected!("avx")
            {
                levels.push(Level::One);
                if is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("vaes")
                    && is_x86_feature_detected!("vpclmulqdq")
                {
                    levels.push(Level::Two);
                    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
                        levels.push(Level::Four);
                    }
                }
            }
            levels
        })
    }
}

/// AES under a key in a mode, at one level.
pub(super) struct Aes {
    level: Level,
    data: Schedule,
    kind: Kind,
}

// One for each key of a device: what the smaller ones waste is less than another step to the schedule.
#[allow(clippy::large_enum_variant)]
enum Kind {
    Xts { tweak: Schedule },
    Cbc,
    Ctr,
    Ecb,
}

impl Aes {
    /// AES in `chaining` under a key of a length that it takes; `None` for modes that are not here.
    pub(super) fn new(level: Level, chaining: Chaining, key: &[u8]) -> Option<Aes> {
        let (data, kind) = match chaining {
            Chaining::Xts => {
                let (data, tweak) = key.split_at(key.len() / 2);
                let tweak = Schedule::new(tweak)?;
                (data, Kind::Xts { tweak })
            }
            Chaining::Cbc => (key, Kind::Cbc),
            Chaining::Ctr => (key, Kind::Ctr),
            Chaining::Ecb => (key, Kind::Ecb),
            Chaining::Lrw => return None,
        };
        let data = Schedule::new(data)?;
        Some(Aes { level, data, kind })
    }
}

impl Mode for Aes {
    fn block_size(&self) -> usize {
        match self.kind {
            Kind::Ctr => 1,
            Kind::Xts { .. } | Kind::Cbc | Kind::Ecb => 16,
        }
    }

    fn iv_size(&self) -> usize {
        match self.kind {
            Kind::Ecb => 0,
            Kind::Xts { .. } | Kind::Cbc | Kind::Ctr => 16,
        }
    }

    fn speed(&self) -> usize {
        match self.level {
            Level::One => 5000,
            Level::Two | Level::Four => 10_000,
        }
    }

    fn transform(
        &self,
        direction: Direction,
        ivs: &mut [IvBlock],
        data: Data<'_, '_>,
        unit: usize,
    ) {
        let keys = &self.data;
        match (&self.kind, direction) {
            (Kind::Xts { tweak }, _) => {
                let tweaks = IvBlock::slice_as_flattened_mut(ivs);
                bulk::ecb(self.level, tweak, Direction::Encrypt, tweaks.into());
                bulk::xts(self.level, keys, direction, Job { ivs, data, unit });
            }
            (Kind::Cbc, Direction::Encrypt) => {
                bulk::cbc_encrypt(self.level, keys, Job { ivs, data, unit });
            }
            (Kind::Cbc, Direction::Decrypt) => {
                bulk::cbc_decrypt(self.level, keys, Job { ivs, data, unit });
            }
            (Kind::Ctr, _) => bulk::ctr(self.level, keys, Job { ivs, data, unit }),
            (Kind::Ecb, _) => bulk::ecb(self.level, keys, direction, data),
        }
    }
}

#[cfg(test)]
mod tests;
