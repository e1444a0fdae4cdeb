//! Reencryption of LUKS2 (LUKS2 On-Disk Format Specification 1.1, chapter 5): the data gets another key, cipher or sector
//! size, or its first or last encryption, zone by zone, and a power cut at any moment loses nothing.
//!
//! What the header says meanwhile: live segments that are done, being done (the hot one) and still to be done; backups of
//! the segment that was (`backup-previous`) and that will be (`backup-final`); a key slot of type `reencrypt`, whose area
//! holds what a zone can be saved with; and a digest over all of that, which only a holder of both keys can make.
//!
//! A zone goes like this, each step durable before the next:
//!
//! 1. its old ciphertext (`journal`), or the hash of each block of it (`checksum`), into the area,
//! 2. a header that calls it hot,
//! 3. the new ciphertext in its place,
//! 4. a header that calls it done.
//!
//! Whoever finds a hot zone ([`recover`](Reencryption::recover)) encrypts what is still old: all of the journal, or the
//! blocks whose hash is that of the old ones. That needs blocks that a power cut leaves old or new.

mod finish;
mod segments;
mod start;
mod verification;
mod zone;

use super::super::{CryptRow, Kind, Refused, Secret};
use super::two;
use crate::crypto::{Hash, SectorCipher, SectorSize};
use crate::format::luks2::{Decimal, Id, Keyslot, Luks2, Segment};
use crate::io::BlockDev;
use crate::unit::Sectors;

pub use start::{Wanted, begin};
pub use zone::Devices;

/// Requirements that say so, and the version of the digest that goes with each.
const REQUIREMENTS: [(&str, u8); 2] =
    [("online-reencrypt-v2", b'2'), ("online-reencrypt-v3", b'3')];

/// What becomes of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Other ciphertext of it.
    Reencrypt,
    /// Its first ciphertext.
    Encrypt,
    /// Plaintext.
    Decrypt,
}

/// What saves a zone in which the power fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resilience {
    /// Nothing: a cut loses the zone.
    None,
    /// Hashes of its blocks.
    Checksum {
        /// Hash.
        hash: String,
        /// Bytes of a block.
        block: u32,
    },
    /// A copy of it.
    Journal,
}

/// What the data is, or becomes.
#[derive(Clone, Debug, PartialEq)]
struct Side {
    /// All of it, as a segment without flags.
    segment: Segment,
    /// The digest of its key; none of plaintext.
    digest: Option<Id>,
}

/// The keys of both sides.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// What the data is still under.
    pub old: Option<Secret>,
    /// What it gets under.
    pub new: Option<Secret>,
}

/// A reencryption under way.
#[derive(Clone, Debug, PartialEq)]
pub struct Reencryption {
    /// Its key slot.
    slot: Id,
    mode: Mode,
    resilience: Resilience,
    /// First byte and bytes of its area.
    area: (u64, u64),
    version: u8,
    old: Side,
    new: Side,
}

impl Mode {
    const NAMES: [(&str, Mode); 3] = [
        ("reencrypt", Mode::Reencrypt),
        ("encrypt", Mode::Encrypt),
        ("decrypt", Mode::Decrypt),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let found = Mode::NAMES.iter().find(|(_, mode)| *mode == self);
        found.map_or("", |(name, _)| name)
    }
}

impl Resilience {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Resilience::None => "none",
            Resilience::Checksum { .. } => "checksum",
            Resilience::Journal => "journal",
        }
    }
}

fn has_flag(segment: &Segment, flag: &str) -> bool {
    segment.flags.iter().flatten().any(|found| found == flag)
}

fn text<'k>(rest: &'k serde_json::Map<String, serde_json::Value>, member: &str) -> &'k str {
    rest.get(member)
        .and_then(|value| value.as_str())
        .unwrap_or_default()
}

impl Reencryption {
    /// The reencryption that the header tells of, if it does.
    ///
    /// # Errors
    /// One that is none of ours, or makes no sense.
    pub fn of(luks: &Luks2) -> Result<Option<Reencryption>, Refused> {
        let metadata = &luks.metadata;
        let named = metadata.mandatory();
        let version = REQUIREMENTS
            .iter()
            .find(|(name, _)| named.iter().any(|named| named == name));
        let slot = metadata
            .keyslots
            .iter()
            .find(|(_, slot)| slot.kind == "reencrypt");
        let (&(requirement, version), (&slot, keyslot)) = match (version, slot) {
            (Some(version), Some(slot)) => (version, slot),
            (None, None) if !named.iter().any(|name| name.contains("reencrypt")) => {
                return Ok(None);
            }
            (None, None) => {
                return Err(Refused::invalid(format!(
                    "Reencryption of this form is not supported: {}.",
                    named.join(", ")
                )));
            }
            _ => return Err(invalid("requirement and key slot do not go together")),
        };
        if let Some(other) = named.iter().find(|name| *name != requirement) {
            return Err(Refused::invalid(format!(
                "Unmet LUKS2 requirements detected: {other}."
            )));
        }
        let mode = Mode::NAMES
            .iter()
            .find(|(name, _)| *name == text(&keyslot.rest, "mode"));
        let &(_, mode) =
            mode.ok_or_else(|| invalid("expected the mode reencrypt, encrypt or decrypt"))?;
        let moved = metadata
            .segments
            .values()
            .any(|segment| has_flag(segment, "backup-moved-segment"));
        if text(&keyslot.rest, "direction") != "forward" || moved {
            return Err(Refused::invalid(
                "Reencryption that moves data (with a data shift) is not supported: let cryptsetup finish it.",
            ));
        }
        let side = |flag: &str| {
            let mut found = metadata
                .segments
                .iter()
                .filter(|(_, segment)| has_flag(segment, flag));
            let (Some((&id, segment)), None) = (found.next(), found.next()) else {
                return Err(invalid(&format!(
                    "expected one segment with the flag {flag}"
                )));
            };
            let digest = metadata.digest_of_segment(id).map(|(digest, _)| digest);
            if (segment.kind == "crypt") != digest.is_some() {
                return Err(invalid(&format!(
                    "the segment with the flag {flag} has no digest"
                )));
            }
            let segment = Segment {
                flags: None,
                ..segment.clone()
            };
            Ok(Side { segment, digest })
        };
        let (old, new) = (side("backup-previous")?, side("backup-final")?);
        let fits = match mode {
            Mode::Reencrypt => old.digest.is_some() && new.digest.is_some(),
            Mode::Encrypt => old.digest.is_none() && new.digest.is_some(),
            Mode::Decrypt => old.digest.is_some() && new.digest.is_none(),
        };
        if !fits || old.segment.offset != new.segment.offset {
            return Err(invalid("its segments are not those of its mode"));
        }
        Ok(Some(Reencryption {
            slot,
            mode,
            resilience: resilience_of(keyslot)?,
            area: (keyslot.area.offset.0, keyslot.area.size.0),
            version,
            old,
            new,
        }))
    }

    /// What becomes of the data.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What saves a zone in which the power fails.
    pub fn resilience(&self) -> &Resilience {
        &self.resilience
    }

    /// Both keys, by a passphrase that opens a slot of each, once the digest over the reencryption has been checked.
    ///
    /// # Errors
    /// A passphrase that does not open both; metadata that somebody else has changed.
    pub fn unlock(
        &self,
        device: &dyn BlockDev,
        luks: &Luks2,
        passphrase: &[u8],
    ) -> Result<Keys, Refused> {
        let key_of = |digest: Option<Id>| {
            let Some(digest) = digest else {
                return Ok(None);
            };
            let slots = luks
                .metadata
                .digests
                .get(&digest)
                .map(|digest| digest.keyslots.as_slice());
            for &slot in slots.unwrap_or_default() {
                if let Some(key) = two::open_slot(device, luks, slot, passphrase)? {
                    return Ok(Some(key));
                }
            }
            Err(Refused::passphrase())
        };
        let old = key_of(self.old.digest)?;
        let new = match self.new.digest == self.old.digest {
            true => old.clone(),
            false => key_of(self.new.digest)?,
        };
        let keys = Keys { old, new };
        self.verify(luks, &keys)?;
        Ok(keys)
    }

    /// Whether a zone was hot when the power failed: [`Self::recover`] has to come before anything else.
    pub fn needs_recovery(&self, luks: &Luks2) -> bool {
        luks.metadata
            .live_segments()
            .any(|(_, segment)| segment.is_in_reencryption())
    }

    /// The rows that map the volume as far as the reencryption has come.
    ///
    /// # Errors
    /// A hot zone; what cannot be mapped here; a device that is too small.
    pub fn rows(
        &self,
        luks: &Luks2,
        keys: &Keys,
        data: Sectors,
        options: &[String],
    ) -> Result<Vec<CryptRow>, Refused> {
        if self.needs_recovery(luks) {
            return Err(Refused::invalid(
                "The reencryption was cut off: it needs recovery before the volume can be opened.",
            ));
        }
        let key_of = |id: Id| {
            let digest = luks
                .metadata
                .digest_of_segment(id)
                .map(|(digest, _)| digest);
            let side = if digest == self.new.digest {
                &keys.new
            } else {
                &keys.old
            };
            side.clone().unwrap_or_default()
        };
        super::rows_of_segments(luks, data, &key_of, options)
    }
}

fn invalid(why: &str) -> Refused {
    Refused::invalid(format!("LUKS2 reencryption metadata is invalid: {why}."))
}

fn resilience_of(keyslot: &Keyslot) -> Result<Resilience, Refused> {
    let rest = &keyslot.area.rest;
    match keyslot.area.kind.as_str() {
        "none" => Ok(Resilience::None),
        "journal" => Ok(Resilience::Journal),
        "checksum" => {
            let block = rest.get("sector_size").and_then(|value| value.as_u64());
            let block = block.and_then(|block| u32::try_from(block).ok());
            let block =
                block.filter(|block| block.is_power_of_two() && (512..=1 << 20).contains(block));
            Ok(Resilience::Checksum {
                hash: text(rest, "hash").to_owned(),
                block: block.ok_or_else(|| invalid("expected blocks of 512 bytes or more"))?,
            })
        }
        other => Err(Refused::invalid(format!(
            "Reencryption with resilience {other} is not supported: let cryptsetup finish it."
        ))),
    }
}

/// The hash of checksums.
fn hash_of(name: &str) -> Result<Hash, Refused> {
    Hash::named(name)
        .ok_or_else(|| Refused::invalid(format!("Requested hash {name} is not supported.")))
}

impl Side {
    /// Bytes of an encrypted unit.
    fn unit(&self) -> u32 {
        self.segment.sector_size.unwrap_or(512)
    }

    /// The cipher under `key`; none of plaintext.
    fn cipher(&self, key: Option<&Secret>) -> Result<Option<SectorCipher>, Refused> {
        let (Some(cipher), Some(_)) = (&self.segment.encryption, self.digest) else {
            return Ok(None);
        };
        if self.segment.integrity.is_some() {
            return Err(Refused::invalid(
                "Reencryption of authenticated volumes is not supported.",
            ));
        }
        let size = SectorSize {
            bytes: self.unit(),
            counts_large: false,
        };
        let key = key.ok_or_else(|| {
            Refused::new(Kind::Passphrase, "A key of the reencryption is missing.")
        })?;
        let made = SectorCipher::new(cipher, key, size);
        let named =
            |error| Refused::invalid(format!("Cipher {cipher} is not available ({error})."));
        made.map(Some).map_err(named)
    }

    /// What the vectors of byte `at` of the data count.
    fn vector(&self, at: u64) -> u64 {
        self.segment
            .iv_tweak
            .map_or(0, |tweak| tweak.0)
            .wrapping_add(at / 512)
    }

    /// A part of it, `len` bytes from byte `at` of the data on; all of the rest if no length is given.
    fn part(&self, at: u64, len: Option<u64>) -> Segment {
        Segment {
            offset: Decimal(self.segment.offset.0 + at),
            size: len.map_or("dynamic".into(), |len| len.to_string()),
            iv_tweak: self.segment.iv_tweak.map(|_| Decimal(self.vector(at))),
            ..self.segment.clone()
        }
    }
}

#[cfg(test)]
mod tests;
