//! The end: one header that knows the new side alone.

use std::collections::BTreeMap;

use super::Reencryption;
use crate::encrypted::luks::store::save;
use crate::encrypted::{Refused, flush, wipe};
use crate::format::luks2::{Id, Luks2};
use crate::io::BlockDev;

impl Reencryption {
    /// Has the header know the new side alone, in one change of it; then what the old key slots hold is overwritten.
    pub(super) fn finish(&self, header: &dyn BlockDev, luks: &mut Luks2) -> Result<(), Refused> {
        let mut next = luks.clone();
        let metadata = &mut next.metadata;
        metadata.segments = BTreeMap::from([(Id(0), self.new.part(0, None))]);
        let old = self
            .old
            .digest
            .filter(|digest| Some(*digest) != self.new.digest);
        let old_slots = old
            .and_then(|digest| metadata.digests.get(&digest))
            .map(|digest| digest.keyslots.clone());
        let mut gone = old_slots.unwrap_or_default();
        gone.push(self.slot);
        let areas: Vec<_> = gone
            .iter()
            .filter_map(|slot| metadata.keyslots.remove(slot))
            .map(|slot| (slot.area.offset.0, slot.area.size.0))
            .collect();
        for (id, digest) in &mut metadata.digests {
            digest.segments = match Some(*id) == self.new.digest {
                true => vec![Id(0)],
                false => Vec::new(),
            };
            digest.keyslots.retain(|slot| !gone.contains(slot));
        }
        metadata
            .digests
            .retain(|_, digest| !digest.keyslots.is_empty() || !digest.segments.is_empty());
        for token in metadata.tokens.values_mut() {
            token.keyslots.retain(|slot| !gone.contains(slot));
        }
        if let Some(requirements) = &mut metadata.config.requirements {
            requirements
                .mandatory
                .retain(|name| !name.contains("reencrypt"));
            if requirements.mandatory.is_empty() && requirements.rest.is_empty() {
                metadata.config.requirements = None;
            }
        }
        save(header, &mut next)?;
        *luks = next;
        // Nobody names them any more: a power cut here leaves what nobody can find, of a key that opens nothing.
        for (at, len) in areas {
            wipe(header, at, len, true)?;
        }
        flush(header)
    }
}
