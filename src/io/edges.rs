//! Keeps apart writes that share a logical block.
//!
//! A write that does not cover its first or last block whole reads that block, changes its part and writes the
//! block back; a write by somebody else to the same block in between would be lost. Whole blocks are the usual
//! case, so they take no lock at first: they are only counted in and out. The first write with an unaligned edge
//! closes that way in, waits until those counted have left, and from then on every write holds the range of its
//! blocks, until the file is closed by its last opener.

use std::ops::Range;

use super::{InFlight, Inside, IoError, IoResult, OpKind, Pass, RangeGuard, RangeLock, Watch};
use crate::sync::Arc;
use crate::unit::Sectors;

/// The writes of one device, by the logical blocks that they touch.
pub struct Edges {
    /// Aligned writes that hold no range. Closed from the first unaligned write on.
    aligned: InFlight,
    blocks: RangeLock<u64>,
}

/// A write that may go on; dropped when it is done.
#[must_use = "other writes may change the same blocks when this is dropped"]
pub enum EdgeGuard<'a> {
    /// It covers whole blocks, as every other write in flight does.
    Aligned(Inside<'a>),
    /// It holds its blocks.
    Held(RangeGuard<'a, u64>),
}

/// A write of whole blocks on its way as a [plan](super::Plan), until that has ended or is given up.
pub struct AlignedWrite {
    edges: Arc<Edges>,
    /// Taken when it ends.
    pass: Option<Pass>,
}

impl Default for Edges {
    fn default() -> Edges {
        Edges::new()
    }
}

impl Edges {
    /// No writes yet.
    pub fn new() -> Edges {
        Edges {
            aligned: InFlight::new(),
            blocks: RangeLock::new(),
        }
    }

    /// Waits until no other write in flight gets in the way of one that touches `blocks` (numbers of logical blocks;
    /// those that it covers in part included). `unaligned`: it covers a block in part.
    ///
    /// # Errors
    /// [`IoError::WOULD_WAIT`] where it would have to wait and `nowait` is set.
    #[inline]
    pub fn enter_write(
        &self,
        blocks: Range<u64>,
        unaligned: bool,
        nowait: bool,
    ) -> Result<EdgeGuard<'_>, IoError> {
        if !unaligned && let Some(inside) = self.aligned.try_enter(OpKind::Write, Sectors::ZERO) {
            return Ok(EdgeGuard::Aligned(inside));
        }
        self.hold(blocks, unaligned, nowait)
    }

    /// Enters a write of whole blocks that may end on another thread; `None` where it would have to hold a range.
    pub fn pass_aligned(self: &Arc<Edges>) -> Option<AlignedWrite> {
        let inside = self.aligned.try_enter(OpKind::Write, Sectors::ZERO)?;
        Some(AlignedWrite {
            edges: self.clone(),
            pass: Some(inside.hand_over()),
        })
    }

    #[cold]
    fn hold(
        &self,
        blocks: Range<u64>,
        unaligned: bool,
        nowait: bool,
    ) -> Result<EdgeGuard<'_>, IoError> {
        // The range comes first: while it is held, `reset_if_idle` cannot open the way for aligned writes again.
        let held = if nowait {
            self.blocks.try_lock(blocks).ok_or(IoError::WOULD_WAIT)?
        } else {
            self.blocks.lock(blocks)
        };
        if unaligned {
            self.aligned.close();
            if nowait && !self.aligned.is_empty() {
                return Err(IoError::WOULD_WAIT);
            }
            self.aligned.drain(&mut || true);
        }
        Ok(EdgeGuard::Held(held))
    }

    /// Back to counting alone, if no write holds a range: for when the last opener has closed the file.
    pub fn reset_if_idle(&self) {
        self.blocks.if_idle(|| self.aligned.open());
    }
}

impl Watch for AlignedWrite {
    fn ended(self: Box<Self>, _result: IoResult) {}

    fn put_off(self: Box<Self>) {}
}

impl Drop for AlignedWrite {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            drop(self.edges.aligned.take_over(pass));
        }
    }
}

#[cfg(all(test, schedules))]
mod schedules;
#[cfg(test)]
mod tests;
