//! What is asked of a device.

use super::buffer::{ReadBuf, WriteBuf};
use crate::unit::{Sector, Sectors};

/// One request: what, where, how much.
#[derive(Debug)]
pub struct Request<'a> {
    /// What to do.
    pub op: Op<'a>,
    /// The first sector, in the callee's own space. Zero for a flush.
    pub at: Sector,
    /// How many sectors. Zero for a flush, else at least one; for reads and writes the length of the buffer.
    pub len: Sectors,
    /// How to do it.
    pub flags: Flags,
}

/// The operations of a block device. Match on it without `_`, so that none can be forgotten.
#[derive(Debug)]
pub enum Op<'a> {
    /// Fill the buffer.
    Read(ReadBuf<'a>),
    /// Store the buffer.
    Write(WriteBuf<'a>),
    /// Make durable every write completed before this was submitted.
    Flush,
    /// The range is not needed any more; what it reads afterwards is the device's choice.
    Discard,
    /// The range reads as zeroes afterwards.
    WriteZeroes {
        /// The device may give the space back.
        may_unmap: bool,
    },
}

impl OpKind {
    /// The operations that change what the device holds.
    pub const CHANGES: [OpKind; 3] = [OpKind::Write, OpKind::Discard, OpKind::WriteZeroes];
}

/// The operations without their buffers, for counters and for asking what a device can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpKind {
    /// [`Op::Read`]
    Read,
    /// [`Op::Write`]
    Write,
    /// [`Op::Flush`]
    Flush,
    /// [`Op::Discard`]
    Discard,
    /// [`Op::WriteZeroes`]
    WriteZeroes,
}

/// How a request is to be carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Durable when it returns (writes, write-zeroes, discards).
    pub fua: bool,
    /// Answer [`super::IoError::WOULD_WAIT`] rather than wait on time or on a person.
    pub nowait: bool,
}

impl Op<'_> {
    /// Which operation this is.
    #[inline]
    pub fn kind(&self) -> OpKind {
        match self {
            Op::Read(_) => OpKind::Read,
            Op::Write(_) => OpKind::Write,
            Op::Flush => OpKind::Flush,
            Op::Discard => OpKind::Discard,
            Op::WriteZeroes { .. } => OpKind::WriteZeroes,
        }
    }
}

impl OpKind {
    /// True where the operation changes what the device holds.
    #[inline]
    pub fn changes_data(self) -> bool {
        match self {
            OpKind::Write | OpKind::Discard | OpKind::WriteZeroes => true,
            OpKind::Read | OpKind::Flush => false,
        }
    }
}

impl<'a> Request<'a> {
    /// A read of `buffer`'s length from `at`.
    pub fn read(at: Sector, buffer: ReadBuf<'a>) -> Request<'a> {
        Request {
            at,
            len: buffer.len().whole_sectors(),
            op: Op::Read(buffer),
            flags: Flags::default(),
        }
    }

    /// A write of `buffer` to `at`.
    pub fn write(at: Sector, buffer: WriteBuf<'a>) -> Request<'a> {
        Request {
            at,
            len: buffer.len().whole_sectors(),
            op: Op::Write(buffer),
            flags: Flags::default(),
        }
    }

    /// A flush of the whole device.
    pub fn flush() -> Request<'static> {
        Request {
            op: Op::Flush,
            at: Sector(0),
            len: Sectors::ZERO,
            flags: Flags::default(),
        }
    }

    /// A discard of `len` sectors from `at`.
    pub fn discard(at: Sector, len: Sectors) -> Request<'static> {
        Request {
            op: Op::Discard,
            at,
            len,
            flags: Flags::default(),
        }
    }

    /// Zeroes over `len` sectors from `at`.
    pub fn write_zeroes(at: Sector, len: Sectors, may_unmap: bool) -> Request<'static> {
        Request {
            op: Op::WriteZeroes { may_unmap },
            at,
            len,
            flags: Flags::default(),
        }
    }

    /// The same request with other flags.
    #[must_use]
    pub fn with_flags(self, flags: Flags) -> Request<'a> {
        Request { flags, ..self }
    }

    /// The same request, asked to be durable when it returns.
    #[must_use]
    pub fn durable(mut self) -> Request<'a> {
        self.flags.fua = true;
        self
    }

    /// The sector after the last one.
    #[inline]
    pub fn end(&self) -> Sector {
        self.at + self.len
    }

    /// The first `len` sectors and the rest, both with the same flags. `len` is less than `self.len`; a flush
    /// has nothing to split.
    pub fn split_at(self, len: Sectors) -> (Request<'a>, Request<'a>) {
        debug_assert!(len < self.len);
        let (first, rest) = match self.op {
            Op::Read(buffer) => {
                let (first, rest) = buffer.split_at(len.to_bytes());
                (Op::Read(first), Op::Read(rest))
            }
            Op::Write(buffer) => {
                let (first, rest) = buffer.split_at(len.to_bytes());
                (Op::Write(first), Op::Write(rest))
            }
            Op::Flush => (Op::Flush, Op::Flush),
            Op::Discard => (Op::Discard, Op::Discard),
            Op::WriteZeroes { may_unmap } => {
                (Op::WriteZeroes { may_unmap }, Op::WriteZeroes { may_unmap })
            }
        };
        (
            Request {
                op: first,
                at: self.at,
                len,
                flags: self.flags,
            },
            Request {
                op: rest,
                at: self.at + len,
                len: self.len - len,
                flags: self.flags,
            },
        )
    }

    /// A request for the same thing that borrows this one's buffer, for a try that may have to be repeated.
    pub fn reborrow(&mut self) -> Request<'_> {
        let op = match &mut self.op {
            Op::Read(buffer) => Op::Read(buffer.reborrow()),
            Op::Write(buffer) => Op::Write(buffer.reborrow()),
            Op::Flush => Op::Flush,
            Op::Discard => Op::Discard,
            Op::WriteZeroes { may_unmap } => Op::WriteZeroes {
                may_unmap: *may_unmap,
            },
        };
        Request {
            op,
            at: self.at,
            len: self.len,
            flags: self.flags,
        }
    }
}
