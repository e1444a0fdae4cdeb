//! What must hold between the parts of the JSON area.

use std::collections::BTreeSet;

use super::Malformed;
use super::header::HEADER_BYTES;
use super::json::{Digest, Kdf, Keyslot, Metadata, Segment};
use super::values::Id;
use crate::format::luks1::{MAX_KEY_BYTES, STRIPES};
use crate::unit::SECTOR_SIZE;

/// Key slots that a header has room for, by number.
pub const MAX_KEYSLOTS: u32 = 32;
/// Tokens that a header has room for, by number.
pub const MAX_TOKENS: u32 = 32;

/// Most memory of argon2, KiB, and most lanes: what cryptsetup makes at most.
const MAX_MEMORY: u32 = 4 << 20;
const MAX_LANES: u32 = 4;
/// Most bytes for key slots.
const MAX_KEYSLOTS_SIZE: u64 = 128 << 20;
/// What areas and the room for key slots are aligned to.
const ALIGNMENT: u64 = 4096;
/// Longest digest and salt, bytes.
const MAX_BLOB: usize = 512;

/// What is wrong, and where in the tree.
type Checked = Result<(), Malformed>;

fn ensure(holds: bool, field: impl Fn() -> String, message: &str) -> Checked {
    match holds {
        true => Ok(()),
        false => Err(Malformed::new(field(), message)),
    }
}

impl Metadata {
    /// Whether everything that the metadata says makes sense, in a header of `size` bytes.
    ///
    /// # Errors
    /// The first object that does not.
    pub fn validate(&self, size: u64) -> Checked {
        self.config(size)?;
        for (&id, keyslot) in &self.keyslots {
            ensure(
                id.0 < MAX_KEYSLOTS,
                || format!("keyslots.{id}"),
                "its number is too high",
            )?;
            keyslot.validate(&format!("keyslots.{id}"))?;
        }
        self.areas(size)?;
        self.segments()?;
        for (&id, digest) in &self.digests {
            let name = format!("digests.{id}");
            digest.validate(&name)?;
            self.references(&name, &digest.keyslots)?;
            let there = |segment| self.segments.contains_key(segment);
            ensure(
                digest.segments.iter().all(there),
                || name.clone(),
                "it names a segment that is not there",
            )?;
        }
        for (&id, token) in &self.tokens {
            let name = format!("tokens.{id}");
            ensure(id.0 < MAX_TOKENS, || name.clone(), "its number is too high")?;
            ensure(!token.kind.is_empty(), || name.clone(), "its type is empty")?;
            self.references(&name, &token.keyslots)?;
        }
        Ok(())
    }

    fn references(&self, name: &str, keyslots: &[Id]) -> Checked {
        let there = keyslots.iter().all(|slot| self.keyslots.contains_key(slot));
        ensure(
            there,
            || name.to_owned(),
            "it names a key slot that is not there",
        )?;
        let once: BTreeSet<_> = keyslots.iter().collect();
        ensure(
            once.len() == keyslots.len(),
            || name.to_owned(),
            "it names a key slot twice",
        )
    }

    fn config(&self, size: u64) -> Checked {
        let json = self.config.json_size.0;
        ensure(
            json.checked_add(HEADER_BYTES as u64) == Some(size),
            || "config.json_size".into(),
            "it is not that of the header",
        )?;
        let keyslots = self.config.keyslots_size.0;
        ensure(
            keyslots <= MAX_KEYSLOTS_SIZE && keyslots.is_multiple_of(ALIGNMENT),
            || "config.keyslots_size".into(),
            "expected a multiple of 4096, at most 128 MiB",
        )
    }

    /// Areas lie in the room for key slots and beside one another.
    fn areas(&self, size: u64) -> Checked {
        // Neither can overflow: `size` is a header's, and the room was checked.
        let begin = 2 * size;
        let end = begin + self.config.keyslots_size.0;
        let mut areas = Vec::new();
        for (&id, keyslot) in &self.keyslots {
            let (at, len) = (keyslot.area.offset.0, keyslot.area.size.0);
            let inside = at >= begin && at.checked_add(len).is_some_and(|stop| stop <= end);
            let name = || format!("keyslots.{id}.area");
            ensure(inside, name, "it lies outside the room for key slots")?;
            areas.push((at, at + len, id));
        }
        areas.sort_unstable();
        for pair in areas.windows(2) {
            if let [(_, stop, one), (start, _, other)] = pair {
                let name = || format!("keyslots.{other}.area");
                ensure(
                    stop <= start,
                    name,
                    &format!("it overlaps that of key slot {one}"),
                )?;
            }
        }
        Ok(())
    }

    /// The live segments follow one another; only the last may reach to the device's end.
    fn segments(&self) -> Checked {
        let mut next: Option<(u32, u64)> = None;
        let mut is_first = true;
        for (id, segment) in self.live_segments() {
            let name = || format!("segments.{id}");
            segment.validate(&name())?;
            match next {
                Some((number, at)) => {
                    ensure(id.0 == number, name, "one before it is missing")?;
                    let moves = segment.is_in_reencryption() || self.is_being_reencrypted();
                    ensure(
                        moves || segment.offset.0 == at,
                        name,
                        "a gap lies before it",
                    )?;
                }
                None => ensure(
                    is_first && id.0 == 0,
                    name,
                    "only the last segment may be dynamic, and the first is 0",
                )?,
            }
            is_first = false;
            next = match segment.bytes() {
                Some(bytes) => {
                    let end = segment.offset.0.checked_add(bytes);
                    let end = end.ok_or_else(|| Malformed::new(name(), "it is too long"))?;
                    Some((id.0.saturating_add(1), end))
                }
                None => None,
            };
        }
        for (id, segment) in self
            .segments
            .iter()
            .filter(|(_, segment)| segment.is_backup())
        {
            segment.validate(&format!("segments.{id}"))?;
        }
        Ok(())
    }

    fn is_being_reencrypted(&self) -> bool {
        self.keyslots
            .values()
            .any(|keyslot| keyslot.kind == "reencrypt")
    }
}

impl Keyslot {
    fn validate(&self, name: &str) -> Checked {
        let field = |member: &str| format!("{name}.{member}");
        let key = self.key_size;
        ensure(
            (1..=MAX_KEY_BYTES).contains(&key),
            || field("key_size"),
            "expected 1 to 512",
        )?;
        ensure(
            self.priority() <= 2,
            || field("priority"),
            "expected 0, 1 or 2",
        )?;
        if self.kind != "luks2" {
            return Ok(());
        }
        let missing = |member: &str| Malformed::new(field(member), "it is missing");
        let kdf = self.kdf.as_ref().ok_or_else(|| missing("kdf"))?;
        kdf.validate(&field("kdf"))?;
        let af = self.af.as_ref().ok_or_else(|| missing("af"))?;
        ensure(af.kind == "luks1", || field("af.type"), "expected luks1")?;
        ensure(
            af.stripes == STRIPES,
            || field("af.stripes"),
            "expected 4000",
        )?;
        ensure(!af.hash.is_empty(), || field("af.hash"), "it is empty")?;
        ensure(
            self.area.kind == "raw",
            || field("area.type"),
            "expected raw",
        )?;
        let cipher = self.area.encryption.as_deref().unwrap_or_default();
        ensure(
            !cipher.is_empty(),
            || field("area.encryption"),
            "it is missing",
        )?;
        let area_key = self.area.key_size.unwrap_or_default();
        ensure(
            (1..=MAX_KEY_BYTES).contains(&area_key),
            || field("area.key_size"),
            "expected 1 to 512",
        )?;
        let material = u64::from(key) * u64::from(af.stripes);
        let material = material.next_multiple_of(SECTOR_SIZE);
        ensure(
            self.area.size.0 >= material,
            || field("area.size"),
            "the key does not fit",
        )
    }
}

impl Kdf {
    fn validate(&self, name: &str) -> Checked {
        let field = |member: &str| format!("{name}.{member}");
        ensure(
            (1..=MAX_BLOB).contains(&self.salt.0.len()),
            || field("salt"),
            "expected 1 to 512 bytes",
        )?;
        let at_least = |number: Option<u32>, least: u32, member: &str| {
            let fine = number.is_some_and(|number| number >= least);
            ensure(
                fine,
                || field(member),
                &format!("expected at least {least}"),
            )
        };
        match self.kind.as_str() {
            "pbkdf2" => {
                let hash = self.hash.as_deref().unwrap_or_default();
                ensure(!hash.is_empty(), || field("hash"), "it is missing")?;
                at_least(self.iterations, 1, "iterations")
            }
            "argon2i" | "argon2id" => {
                at_least(self.time, 1, "time")?;
                at_least(self.cpus, 1, "cpus")?;
                at_least(self.memory, 8, "memory")?;
                let lanes = self.cpus.is_some_and(|cpus| cpus <= MAX_LANES);
                ensure(lanes, || field("cpus"), "expected at most 4")?;
                let memory = self.memory.is_some_and(|memory| memory <= MAX_MEMORY);
                ensure(
                    memory,
                    || field("memory"),
                    "expected at most 4194304 (4 GiB)",
                )?;
                // Eight blocks for each lane: less is none of argon2's.
                let enough = self.memory.unwrap_or_default() >= 8 * self.cpus.unwrap_or_default();
                ensure(
                    enough,
                    || field("memory"),
                    "expected at least 8 for each of the cpus",
                )?;
                let salt = self.salt.0.len() >= 8;
                ensure(salt, || field("salt"), "expected at least 8 bytes")
            }
            other => Err(Malformed::new(
                field("type"),
                format!("expected pbkdf2, argon2i or argon2id, found {other:?}"),
            )),
        }
    }
}

impl Digest {
    fn validate(&self, name: &str) -> Checked {
        let field = |member: &str| format!("{name}.{member}");
        let fits = |bytes: &[u8]| (1..=MAX_BLOB).contains(&bytes.len());
        ensure(self.kind == "pbkdf2", || field("type"), "expected pbkdf2")?;
        ensure(
            fits(&self.salt.0),
            || field("salt"),
            "expected 1 to 512 bytes",
        )?;
        // A digest of few bytes would take wrong keys for right ones.
        let enough = fits(&self.digest.0) && self.digest.0.len() >= 16;
        ensure(enough, || field("digest"), "expected 16 to 512 bytes")?;
        let hash = self.hash.as_deref().unwrap_or_default();
        ensure(!hash.is_empty(), || field("hash"), "it is missing")?;
        let iterations = self.iterations.unwrap_or_default();
        ensure(
            iterations > 0,
            || field("iterations"),
            "expected more than 0",
        )
    }
}

impl Segment {
    fn validate(&self, name: &str) -> Checked {
        let field = |member: &str| format!("{name}.{member}");
        let whole = |bytes: u64| bytes.is_multiple_of(SECTOR_SIZE);
        ensure(
            whole(self.offset.0),
            || field("offset"),
            "expected a multiple of 512",
        )?;
        let size =
            self.size == "dynamic" || self.bytes().is_some_and(|bytes| bytes > 0 && whole(bytes));
        ensure(
            size,
            || field("size"),
            "expected dynamic or a multiple of 512",
        )?;
        if self.kind != "crypt" {
            return Ok(());
        }
        let cipher = self.encryption.as_deref().unwrap_or_default();
        ensure(!cipher.is_empty(), || field("encryption"), "it is missing")?;
        ensure(
            self.iv_tweak.is_some(),
            || field("iv_tweak"),
            "it is missing",
        )?;
        let sector = self.sector_size.unwrap_or_default();
        ensure(
            matches!(sector, 512 | 1024 | 2048 | 4096),
            || field("sector_size"),
            "expected 512, 1024, 2048 or 4096",
        )
    }
}
