//! How costly a key derivation shall be: as said, or as measured here for a time that it shall take.

use std::time::{Duration, Instant};

use super::Refused;
use crate::crypto::{KeyDerivation, Variant};

/// Fewest iterations of PBKDF2, and of the digest of a volume key.
pub const MIN_ITERATIONS: u32 = 1000;
/// Fewest passes of argon2, least memory (KiB), most memory, most lanes.
const MIN_TIME: u32 = 4;
const MIN_MEMORY: u32 = 32;
const MAX_MEMORY: u32 = 4 << 20;
const MAX_LANES: u32 = 4;
/// Memory that argon2 may use where nobody says how much, KiB.
pub const DEFAULT_MEMORY: u32 = 1 << 20;
/// A run shorter than this tells too little.
const LONG_ENOUGH: Duration = Duration::from_millis(250);
/// Passphrase and salt of measurements: what they are does not matter.
const PASSPHRASE: &[u8] = b"foobarfo";
const SALT: &[u8] = b"0123456789abcdef0123456789abcdef";

/// Which derivation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PbkdfKind {
    /// PBKDF2.
    Pbkdf2,
    /// One of argon2's.
    Argon2(Variant),
}

/// A key derivation whose cost is to be settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pbkdf {
    /// Which.
    pub kind: PbkdfKind,
    /// Hash of PBKDF2, and of the digest.
    pub hash: String,
    /// How long it shall take.
    pub time: Duration,
    /// Iterations or passes, instead of measuring.
    pub force_iterations: Option<u32>,
    /// Most memory of argon2, KiB; no more than half of the machine's is taken.
    pub memory: u32,
    /// Most lanes of argon2; no more than there are processors.
    pub lanes: u32,
}

impl PbkdfKind {
    /// The kind of that name.
    pub fn named(name: &str) -> Option<PbkdfKind> {
        match name {
            "pbkdf2" => Some(PbkdfKind::Pbkdf2),
            "argon2i" => Some(PbkdfKind::Argon2(Variant::Argon2i)),
            "argon2id" => Some(PbkdfKind::Argon2(Variant::Argon2id)),
            _ => None,
        }
    }
}

impl Pbkdf {
    /// Whether what was asked for can be had.
    ///
    /// # Errors
    /// What is too little or too much.
    pub fn check(&self) -> Result<(), Refused> {
        let refuse = |message: &str| Err(Refused::invalid(message));
        if !crate::crypto::has_pbkdf2(&self.hash) {
            return Err(Refused::invalid(format!(
                "Requested PBKDF hash {} is not supported.",
                self.hash
            )));
        }
        match (self.kind, self.force_iterations) {
            (PbkdfKind::Pbkdf2, Some(n)) if n < MIN_ITERATIONS => {
                refuse("PBKDF forced iteration count is too low (minimum is 1000).")
            }
            (PbkdfKind::Argon2(_), Some(n)) if n < MIN_TIME => {
                refuse("Forced iteration count is too low for argon2 (minimum is 4).")
            }
            (PbkdfKind::Argon2(_), _) if self.memory < MIN_MEMORY => {
                refuse("Requested PBKDF memory cost is too low (minimum is 32 kilobytes).")
            }
            (PbkdfKind::Argon2(_), _) if self.memory > MAX_MEMORY => refuse(
                "Requested maximum PBKDF memory cost is too high (maximum is 4194304 kilobytes).",
            ),
            (PbkdfKind::Argon2(_), _) if self.lanes == 0 || self.lanes > MAX_LANES => {
                refuse("Requested maximum PBKDF parallel cost is too high (maximum is 4) or zero.")
            }
            _ => Ok(()),
        }
    }

    /// The derivation of a key of `key_bytes`, its cost said or measured.
    ///
    /// # Errors
    /// As [`Self::check`]; no memory to measure with.
    pub fn settle(&self, key_bytes: usize) -> Result<KeyDerivation, Refused> {
        self.check()?;
        match self.kind {
            PbkdfKind::Pbkdf2 => Ok(KeyDerivation::Pbkdf2 {
                hash: self.hash.clone(),
                iterations: match self.force_iterations {
                    Some(iterations) => iterations,
                    None => self.iterations_in(self.time, key_bytes)?,
                },
            }),
            PbkdfKind::Argon2(variant) => {
                let lanes = self.lanes.min(processors());
                let memory = self.memory.min(half_of_memory()).max(MIN_MEMORY);
                match self.force_iterations {
                    Some(time) => Ok(KeyDerivation::Argon2 {
                        variant,
                        time,
                        memory,
                        lanes,
                    }),
                    None => measure_argon2(variant, self.time, memory, lanes, key_bytes),
                }
            }
        }
    }

    /// Iterations of a PBKDF2 that makes the digest of a volume key, for a share of [`Self::time`].
    ///
    /// # Errors
    /// An unknown hash.
    pub fn digest_iterations(&self, time: Duration, digest_bytes: usize) -> Result<u32, Refused> {
        match self.force_iterations {
            Some(_) => Ok(MIN_ITERATIONS),
            None => self.iterations_in(time, digest_bytes),
        }
    }

    /// How many iterations of PBKDF2 fit into `time`.
    fn iterations_in(&self, time: Duration, key_bytes: usize) -> Result<u32, Refused> {
        let mut key = vec![0; key_bytes];
        let mut iterations = 1 << 15;
        loop {
            let kdf = KeyDerivation::Pbkdf2 {
                hash: self.hash.clone(),
                iterations,
            };
            let begun = Instant::now();
            kdf.derive(PASSPHRASE, SALT, &mut key)?;
            let took = begun.elapsed();
            if took >= LONG_ENOUGH || iterations >= 1 << 30 {
                let fit = f64::from(iterations) * time.as_secs_f64() / took.as_secs_f64();
                // A cast of a float stays in range.
                return Ok((fit as u32).max(MIN_ITERATIONS));
            }
            iterations = iterations.saturating_mul(2);
        }
    }
}

/// Passes and memory for `time`: as much memory as there may be first, then passes.
fn measure_argon2(
    variant: Variant,
    time: Duration,
    max_memory: u32,
    lanes: u32,
    key_bytes: usize,
) -> Result<KeyDerivation, Refused> {
    let mut key = vec![0; key_bytes];
    let mut memory = max_memory.min(64 << 10);
    loop {
        let kdf = KeyDerivation::Argon2 {
            variant,
            time: MIN_TIME,
            memory,
            lanes,
        };
        let begun = Instant::now();
        kdf.derive(PASSPHRASE, SALT, &mut key)?;
        let took = begun.elapsed();
        if took < LONG_ENOUGH && memory < max_memory {
            memory = memory.saturating_mul(2).min(max_memory);
            continue;
        }
        // Time goes with passes times memory.
        let cost = f64::from(MIN_TIME) * f64::from(memory) * time.as_secs_f64()
            / took.as_secs_f64().max(1e-6);
        let memory = (cost / f64::from(MIN_TIME)) as u32;
        let memory = memory.clamp(MIN_MEMORY, max_memory);
        return Ok(KeyDerivation::Argon2 {
            variant,
            time: ((cost / f64::from(memory)) as u32).max(MIN_TIME),
            memory,
            lanes,
        });
    }
}

/// Processors that this process may use.
pub fn processors() -> u32 {
    let n = std::thread::available_parallelism().map_or(1, |n| n.get());
    u32::try_from(n).unwrap_or(1)
}

/// Half of the machine's memory, KiB.
fn half_of_memory() -> u32 {
    let info = rustix::system::sysinfo();
    let bytes = info
        .totalram
        .saturating_mul(u64::from(info.mem_unit.max(1)));
    u32::try_from(bytes / 2048).unwrap_or(MAX_MEMORY)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{MIN_ITERATIONS, Pbkdf, PbkdfKind};
    use crate::crypto::{KeyDerivation, Variant};
    use std::time::Duration;

    fn pbkdf(kind: PbkdfKind) -> Pbkdf {
        Pbkdf {
            kind,
            hash: "sha256".into(),
            time: Duration::from_millis(1),
            force_iterations: None,
            memory: 1024,
            lanes: 4,
        }
    }

    #[test]
    fn what_is_measured_is_in_its_bounds() {
        let KeyDerivation::Pbkdf2 { iterations, .. } = pbkdf(PbkdfKind::Pbkdf2).settle(32).unwrap()
        else {
            panic!("another kind");
        };
        assert!(iterations >= MIN_ITERATIONS);
        let argon = pbkdf(PbkdfKind::Argon2(Variant::Argon2id));
        let KeyDerivation::Argon2 {
            time,
            memory,
            lanes,
            ..
        } = argon.settle(32).unwrap()
        else {
            panic!("another kind");
        };
        assert!(time >= 4 && (32..=1024).contains(&memory) && (1..=4).contains(&lanes));
    }

    #[test]
    fn what_cannot_be_had_is_named() {
        let argon = PbkdfKind::Argon2(Variant::Argon2i);
        for (kind, change) in [
            (
                PbkdfKind::Pbkdf2,
                (|pbkdf: &mut Pbkdf| pbkdf.force_iterations = Some(999)) as fn(&mut Pbkdf),
            ),
            (PbkdfKind::Pbkdf2, |pbkdf| pbkdf.hash = "md4".into()),
            (argon, |pbkdf| pbkdf.force_iterations = Some(3)),
            (argon, |pbkdf| pbkdf.memory = 31),
            (argon, |pbkdf| pbkdf.memory = 5 << 20),
            (argon, |pbkdf| pbkdf.lanes = 5),
        ] {
            let mut asked = pbkdf(kind);
            change(&mut asked);
            assert!(asked.settle(32).is_err(), "{asked:?}");
        }
    }
}
