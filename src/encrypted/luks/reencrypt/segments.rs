//! What the header's segments are while data is on its way from one side to the other.

use std::collections::BTreeMap;

use super::{Mode, Reencryption};
use crate::format::luks2::{Id, Luks2, Segment};

/// A zone: bytes of the data, from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Zone {
    pub at: u64,
    pub len: u64,
}

impl Zone {
    pub fn end(self) -> u64 {
        self.at + self.len
    }
}

/// Of which sides a live segment is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Old,
    New,
    Both,
}

impl Reencryption {
    /// How far the data is done, bytes; all of `size` where nothing of the old is left.
    pub(super) fn done(&self, luks: &Luks2, size: u64) -> u64 {
        let start = self.old.segment.offset.0;
        let is_new = |segment: &Segment| {
            // Offsets and vectors of a part differ from those of the whole.
            let whole = &self.new.segment;
            segment.kind == whole.kind
                && segment.encryption == whole.encryption
                && segment.sector_size == whole.sector_size
        };
        let mut live = luks.metadata.live_segments();
        let Some((first, segment)) = live.next() else {
            return size;
        };
        let by_digest = luks
            .metadata
            .digest_of_segment(first)
            .map(|(digest, _)| digest);
        let first_is_new = match self.mode {
            Mode::Reencrypt if self.old.digest != self.new.digest => by_digest == self.new.digest,
            _ => is_new(segment),
        };
        if segment.is_in_reencryption() || !first_is_new {
            return 0;
        }
        match live.next() {
            None => size,
            Some((_, next)) => next.offset.0.saturating_sub(start).min(size),
        }
    }

    /// The zone that is hot, of `size` bytes of data.
    pub(super) fn hot(&self, luks: &Luks2, size: u64) -> Option<Zone> {
        let mut live = luks.metadata.live_segments();
        let (_, segment) = live.find(|(_, segment)| segment.is_in_reencryption())?;
        let at = segment.offset.0.checked_sub(self.old.segment.offset.0)?;
        let rest = size.checked_sub(at)?;
        let len = segment.bytes().unwrap_or(rest);
        (len <= rest).then_some(Zone { at, len })
    }

    /// Has the header call `zone` hot, everything before it new, everything behind it old.
    pub(super) fn set_hot(&self, luks: &mut Luks2, zone: Zone, size: u64) {
        let mut parts = Vec::new();
        if zone.at > 0 {
            parts.push((Of::New, self.new.part(0, Some(zone.at))));
        }
        let hot = Segment {
            flags: Some(vec!["in-reencryption".into()]),
            ..self.new.part(zone.at, Some(zone.len))
        };
        parts.push((Of::Both, hot));
        if zone.end() < size {
            parts.push((Of::Old, self.old.part(zone.end(), None)));
        }
        self.set(luks, parts);
    }

    /// Has the header call everything before `done` new, the rest old.
    pub(super) fn set_done(&self, luks: &mut Luks2, done: u64) {
        let parts = match done {
            0 => vec![(Of::Old, self.old.part(0, None))],
            _ => vec![
                (Of::New, self.new.part(0, Some(done))),
                (Of::Old, self.old.part(done, None)),
            ],
        };
        self.set(luks, parts);
    }

    /// Puts live segments and the two backups in place, and each of them under the digest of its key.
    fn set(&self, luks: &mut Luks2, live: Vec<(Of, Segment)>) {
        let backup = |segment: &Segment, flag: &str| Segment {
            flags: Some(vec![flag.into()]),
            ..segment.clone()
        };
        let mut all = live;
        all.push((Of::Old, backup(&self.old.segment, "backup-previous")));
        all.push((Of::New, backup(&self.new.segment, "backup-final")));
        for digest in luks.metadata.digests.values_mut() {
            digest.segments.clear();
        }
        let mut segments = BTreeMap::new();
        for (id, (of, segment)) in (0..).map(Id).zip(all) {
            let digests = match of {
                Of::Old => [self.old.digest, None],
                Of::New => [self.new.digest, None],
                Of::Both => [self.old.digest, self.new.digest],
            };
            // What is plain has no key, even on its way.
            let digests = digests
                .into_iter()
                .flatten()
                .filter(|_| segment.kind == "crypt");
            for digest in digests {
                if let Some(digest) = luks.metadata.digests.get_mut(&digest)
                    && !digest.segments.contains(&id)
                {
                    digest.segments.push(id);
                }
            }
            segments.insert(id, segment);
        }
        luks.metadata.segments = segments;
    }
}
