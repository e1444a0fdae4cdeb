//! A backing as the end of a plan: what of its requests io_uring can carry out, and with what care.
//!
//! The rules are those of a request that a thread carries out: memory and places as direct I/O wants them, durable
//! writes with RWF_DSYNC, flushes on their own descriptor and failing for good once one has, the file's errors counted
//! and told. What is not for the ring (a block written in part, the cut end of a file, a flush that has failed
//! before) is not planned, and then submitted.

use std::os::fd::BorrowedFd;

use super::Access;
use super::file::Kind;
use super::store::Backing;
use crate::io::{IoResult, OpKind, Part, Pass, PieceEnd, Plan, QueuedFile, Unplanned, Watch};
use crate::sync::Arc;
use crate::unit::Bytes;

/// Adds `part` to the plan.
pub(super) fn plan(backing: Arc<Backing>, part: Part, plan: &mut Plan) -> Result<(), Unplanned> {
    let file = backing.file();
    if plan.kind() == OpKind::Flush {
        return match file.kind() {
            Kind::Memory => Ok(()),
            _ if file.check_flushes().is_err() => Err(Unplanned),
            Kind::Regular(_) | Kind::Block(_) => plan.add(backing, Bytes(0), part),
        };
    }
    let refused = plan.kind().changes_data() && backing.access() == Access::ReadOnly;
    let end = part.at.checked_add(part.len).ok_or(Unplanned)?;
    // Memory answers at once.
    if refused || end.0 > file.capacity().0 || !file.waits() {
        return Err(Unplanned);
    }
    let (at, len) = (part.at.to_bytes(), part.len.to_bytes());
    if let Some(direct) = file.direct() {
        if !direct.takes(at, len, part.data) {
            return Err(Unplanned);
        }
        if plan.kind() == OpKind::Write && direct.guards_writes() {
            let pass = direct.try_enter(len).ok_or(Unplanned)?.hand_over();
            let watch = WholeBlocks {
                backing: backing.clone(),
                pass: Some(pass),
            };
            let first = plan.n_pieces();
            let added = plan.add(backing, at, part);
            plan.watch(first, Box::new(watch));
            return added;
        }
    }
    plan.add(backing, at, part)
}

impl QueuedFile for Backing {
    fn descriptor(&self, kind: OpKind) -> Option<BorrowedFd<'_>> {
        self.file().descriptor_for(kind)
    }

    fn block(&self) -> Bytes {
        self.file()
            .direct()
            .map_or(Bytes(1), |direct| direct.block())
    }

    fn is_idle(&self) -> bool {
        self.file().n_waiting() == 0
    }

    fn started(&self) {
        self.file().start_waiting();
    }

    fn ended(&self, piece: PieceEnd) -> IoResult {
        let file = self.file();
        file.end_waiting();
        piece.result.map_err(|errno| {
            if piece.kind == OpKind::Flush {
                file.note_failed_flush(errno);
            }
            let at = crate::unit::Sector(piece.at.whole_sectors().0);
            file.tell(piece.kind, at, piece.len.whole_sectors(), errno)
        })
    }
}

/// The place of a write among those of whole blocks, see [`super::direct`].
struct WholeBlocks {
    backing: Arc<Backing>,
    pass: Option<Pass>,
}

impl Watch for WholeBlocks {
    fn ended(self: Box<Self>, _result: IoResult) {}

    fn put_off(self: Box<Self>) {}
}

impl Drop for WholeBlocks {
    fn drop(&mut self) {
        if let (Some(pass), Some(direct)) = (self.pass.take(), self.backing.file().direct()) {
            drop(direct.take_over(pass));
        }
    }
}
