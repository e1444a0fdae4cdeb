//! A request taken apart into what it asks of files, so that it can be carried out without a thread that waits.
//!
//! [`BlockDev::plan`](super::BlockDev::plan) goes the way of a request down through the devices without carrying
//! anything out: at the bottom, files add pieces, each a stretch of the request's data and a place in a file. What a
//! device on the way would hold while a request is inside it, it leaves with the plan as a [`Watch`], which is
//! told when the plan has ended, on whatever thread that is.

use std::ops::Range;
use std::os::fd::BorrowedFd;

use super::{Errno, Flags, Hold, IoError, IoResult, OpKind};
use crate::sync::Arc;
use crate::unit::{Bytes, Sector, Sectors};

/// Requests in more pieces than this are better carried out by a thread, with one vectored call for each device.
const MOST_PIECES: usize = 64;
/// How often a transfer is tried that the kernel puts off again and again.
const TRIES: u32 = 100;

/// A request that has to be submitted, because something on its way must see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unplanned;

/// A part of a request on its way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The first sector, in the callee's own space.
    pub at: Sector,
    /// How many sectors.
    pub len: Sectors,
    /// Where in the request's data it begins.
    pub data: Bytes,
}

impl Part {
    /// All of a request for `len` sectors at `at`; a flush has neither.
    pub fn whole(at: Sector, len: Sectors) -> Part {
        Part {
            at,
            len,
            data: Bytes(0),
        }
    }

    /// The sector after the last one.
    pub fn end(&self) -> Sector {
        self.at + self.len
    }

    /// The first `len` sectors, which are not more than there are, and the rest.
    pub fn split_at(self, len: Sectors) -> (Part, Part) {
        let rest = Part {
            at: self.at + len,
            len: self.len - len,
            data: Bytes(self.data.0 + len.to_bytes().0),
        };
        (Part { len, ..self }, rest)
    }
}

/// What is told how a part of a plan ended.
pub trait Watch: Send {
    /// All pieces of the part are done: with the first error among them, if there is one. Must not wait.
    fn ended(self: Box<Self>, result: IoResult);

    /// The plan was given up before anything was done.
    fn put_off(self: Box<Self>);
}

/// A file that pieces of a plan lie in.
pub trait QueuedFile: Send + Sync {
    /// The descriptor for an operation, always the same one; `None` where the file does not do it.
    fn descriptor(&self, kind: OpKind) -> Option<BorrowedFd<'_>>;

    /// A transfer that stops early goes on from a multiple of this.
    fn block(&self) -> Bytes;

    /// True where nobody else waits for the file at present.
    fn is_idle(&self) -> bool;

    /// A piece is about to be handed to the kernel.
    fn started(&self);

    /// A piece that was started has ended. Notes what is to be noted of errors, and says what the request ends with.
    fn ended(&self, piece: PieceEnd) -> IoResult;
}

/// How a piece ended, for the file it lies in.
#[derive(Clone, Copy, Debug)]
pub struct PieceEnd {
    /// What was done.
    pub kind: OpKind,
    /// Where in the file.
    pub at: Bytes,
    /// How much was asked for.
    pub len: Bytes,
    /// What the kernel said in the end.
    pub result: Result<(), Errno>,
}

/// A request as pieces, with all that is held for it.
pub struct Plan {
    kind: OpKind,
    durable: bool,
    pieces: Vec<Piece>,
    /// Each with the pieces that it watches; those further down come first.
    watches: Vec<(Range<usize>, Box<dyn Watch>)>,
    /// Where it is held back before it begins, and for how many milliseconds; the last one comes first.
    holds: Vec<(Arc<Hold>, u32)>,
}

struct Piece {
    file: Arc<dyn QueuedFile>,
    at: Bytes,
    data: Range<usize>,
    done: usize,
    tries: u32,
    result: IoResult,
}

/// What the kernel is to do next for a piece.
#[derive(Debug)]
pub(super) struct Transfer<'p> {
    pub(super) file: BorrowedFd<'p>,
    pub(super) at: Bytes,
    /// Which of the request's data.
    pub(super) data: Range<usize>,
}

impl Plan {
    /// A plan for a read, a write or a flush, without pieces yet.
    pub fn new(kind: OpKind, flags: Flags) -> Plan {
        Plan {
            kind,
            durable: flags.fua && kind == OpKind::Write,
            pieces: Vec::new(),
            watches: Vec::new(),
            holds: Vec::new(),
        }
    }

    /// The operation.
    pub fn kind(&self) -> OpKind {
        self.kind
    }

    /// A write that is durable when it has ended.
    pub fn is_durable(&self) -> bool {
        self.durable
    }

    /// How many pieces there are so far.
    pub fn n_pieces(&self) -> usize {
        self.pieces.len()
    }

    /// Adds a piece: `part`'s data, at `at` in `file`. A flush has no data.
    ///
    /// # Errors
    /// Where there are too many pieces, or data that no memory holds.
    pub fn add(
        &mut self,
        file: Arc<dyn QueuedFile>,
        at: Bytes,
        part: Part,
    ) -> Result<(), Unplanned> {
        if self.pieces.len() >= MOST_PIECES {
            return Err(Unplanned);
        }
        let start = usize::try_from(part.data.0).map_err(|_| Unplanned)?;
        let len = part.len.checked_bytes().ok_or(Unplanned)?;
        let len = usize::try_from(len.0).map_err(|_| Unplanned)?;
        let end = start.checked_add(len).ok_or(Unplanned)?;
        self.pieces.push(Piece {
            file,
            at,
            data: start..end,
            done: 0,
            tries: 0,
            result: Ok(()),
        });
        Ok(())
    }

    /// Has `watch` told how the pieces from number `first` on ended.
    pub fn watch(&mut self, first: usize, watch: Box<dyn Watch>) {
        self.watches.push((first..self.pieces.len(), watch));
    }

    /// Has the plan held back by `hold` for `milliseconds` before it begins, and before whatever has held it back so
    /// far: the devices above come first.
    pub fn hold(&mut self, hold: Arc<Hold>, milliseconds: u32) {
        self.holds.push((hold, milliseconds));
    }

    /// True where the plan is held back before it begins.
    pub fn is_held(&self) -> bool {
        !self.holds.is_empty()
    }

    /// Where it is held back next.
    pub(super) fn next_hold(&mut self) -> Option<(Arc<Hold>, u32)> {
        self.holds.pop()
    }

    /// True where a thread that carries out the request by itself is as fast, as nobody else waits for the one
    /// file that it goes to.
    pub fn is_best_at_once(&self) -> bool {
        if self.is_held() {
            return false;
        }
        match &self.pieces[..] {
            [] => true,
            [only] => only.file.is_idle(),
            _ => false,
        }
    }

    /// The end of the data that the pieces lie in.
    pub(super) fn data_end(&self) -> usize {
        self.pieces
            .iter()
            .map(|piece| piece.data.end)
            .max()
            .unwrap_or(0)
    }

    /// Tells the files that their pieces are on the way.
    pub(super) fn start(&self) {
        self.pieces.iter().for_each(|piece| piece.file.started());
    }

    /// What is to be done next for piece `index`.
    ///
    /// # Errors
    /// EPERM where its file does not do this.
    pub(super) fn transfer(&self, index: usize) -> Result<Transfer<'_>, Errno> {
        let piece = self.pieces.get(index).ok_or(Errno::INVAL)?;
        Ok(Transfer {
            file: piece.file.descriptor(self.kind).ok_or(Errno::PERM)?,
            at: Bytes(piece.at.0 + piece.done as u64),
            data: piece.data.start + piece.done..piece.data.end,
        })
    }

    /// Notes what the kernel said of piece `index`: how much it moved, or an error. True where the piece is done;
    /// else it goes on with another [`Plan::transfer`].
    pub(super) fn advance(&mut self, index: usize, moved: Result<usize, Errno>) -> bool {
        let Some(piece) = self.pieces.get_mut(index) else {
            return true;
        };
        let result = match moved {
            Err(Errno::INTR | Errno::AGAIN) if piece.tries < TRIES => {
                piece.tries += 1;
                return false;
            }
            Err(errno) => Err(errno),
            Ok(_) if piece.data.is_empty() => Ok(()),
            Ok(n) => {
                let block = piece.file.block().0.max(1) as usize;
                let done = piece.done.saturating_add(n).min(piece.data.len());
                let whole = match done == piece.data.len() {
                    true => done,
                    false => done - done % block,
                };
                // Nothing more was moved: the file has ended early.
                match whole > piece.done {
                    false => Err(Errno::IO),
                    true => {
                        piece.done = whole;
                        if whole < piece.data.len() {
                            return false;
                        }
                        Ok(())
                    }
                }
            }
        };
        piece.result = piece.file.ended(PieceEnd {
            kind: self.kind,
            at: piece.at,
            len: Bytes(piece.data.len() as u64),
            result,
        });
        true
    }

    /// Tells all watches how their parts ended, and how the whole did: all pieces are done.
    pub(super) fn end(mut self) -> IoResult {
        let of = |range: Range<usize>| {
            let pieces = self.pieces.get(range).unwrap_or_default();
            let failed = pieces.iter().find_map(|piece| piece.result.err());
            failed.map_or(Ok(()), Err::<(), IoError>)
        };
        let whole = of(0..self.pieces.len());
        let results: Vec<_> = self
            .watches
            .iter()
            .map(|(range, _)| of(range.clone()))
            .collect();
        for ((_, watch), result) in self.watches.drain(..).zip(results) {
            watch.ended(result);
        }
        whole
    }
}

impl Drop for Plan {
    /// What was watched by a plan that nobody has carried out was never begun.
    fn drop(&mut self) {
        while let Some((_, watch)) = self.watches.pop() {
            watch.put_off();
        }
    }
}

#[cfg(test)]
mod tests;
