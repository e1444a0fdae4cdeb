//! The digest over a reencryption: what it says cannot be changed by who does not know the keys.

use super::super::two;
use super::{Keys, Reencryption, Resilience, invalid};
use crate::encrypted::{Refused, Secret};
use crate::format::luks2::{Luks2, Segment};

impl Reencryption {
    /// Whether the digest is that of these keys and this reencryption.
    pub(super) fn verify(&self, luks: &Luks2, keys: &Keys) -> Result<(), Refused> {
        let digest = luks.metadata.digest_of_keyslot(self.slot);
        let (_, digest) = digest.ok_or_else(|| invalid("its digest is missing"))?;
        match two::is_key(digest, &self.verification_data(keys)?)? {
            true => Ok(()),
            false => Err(invalid("its digest is not that of its keys and segments")),
        }
    }

    /// What the digest is made of: version, keys, key slot, segments; numbers big-endian.
    pub(super) fn verification_data(&self, keys: &Keys) -> Result<Secret, Refused> {
        let mut data = Secret::from(vec![b'v', self.version]);
        let mut add = |bytes: &[u8]| {
            // Nothing of the keys stays behind where the data outgrows its place.
            let mut longer = Secret::zeroed(data.len() + bytes.len());
            let (before, after) = longer.split_at_mut(data.len());
            before.copy_from_slice(&data);
            after.copy_from_slice(bytes);
            data = longer;
        };
        let new = keys
            .new
            .as_ref()
            .filter(|_| self.new.digest != self.old.digest);
        for key in [keys.old.as_ref(), new].into_iter().flatten() {
            add(key);
        }
        add(self.mode.name().as_bytes());
        add(b"forward");
        add(self.resilience.name().as_bytes());
        add(&self.area.0.to_be_bytes());
        add(&self.area.1.to_be_bytes());
        if let Resilience::Checksum { hash, block } = &self.resilience {
            add(hash.as_bytes());
            add(&block.to_be_bytes());
        }
        for side in [&self.old, &self.new] {
            add(&segment_data(&side.segment)?);
        }
        Ok(data)
    }
}

fn segment_data(segment: &Segment) -> Result<Vec<u8>, Refused> {
    let mut data = segment.kind.as_bytes().to_vec();
    data.extend(segment.offset.0.to_be_bytes());
    match segment.bytes() {
        Some(bytes) => data.extend(bytes.to_be_bytes()),
        None => data.extend(b"dynamic"),
    }
    if segment.kind == "crypt" {
        let missing = || invalid("a segment of it lacks something");
        let (cipher, unit) = (segment.encryption.as_ref(), segment.sector_size);
        data.extend(segment.iv_tweak.ok_or_else(missing)?.0.to_be_bytes());
        data.extend(cipher.ok_or_else(missing)?.as_bytes());
        data.extend(unit.ok_or_else(missing)?.to_be_bytes());
    }
    Ok(data)
}
