//! The data path through a table: find the row, cut where needed, write zeroes where a target cannot.

use super::{Row, Table};
use crate::io::{IoError, IoResult, Op, OpKind, Part, Plan, Request, Unplanned, WriteBuf, fan_out};
use crate::target::Target;
use crate::unit::{SECTOR_SIZE, Sector, Sectors};

/// What is written where a target cannot write zeroes by itself.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];
const ZEROES_LEN: Sectors = Sectors(ZEROES.len() as u64 / SECTOR_SIZE);

impl Table {
    /// Carries out a request on the device under this table.
    ///
    /// # Errors
    /// EIO outside the table, EOPNOTSUPP for a discard that a row cannot pass on, else what the targets
    /// answer: of a request in pieces all are tried, and the first error counts.
    #[inline]
    pub fn submit(&self, request: Request<'_>) -> IoResult {
        match request.at.checked_add(request.len) {
            Some(end) if end.0 <= self.len.0 => {}
            _ => return Err(IoError::IO),
        }
        if request.op.kind() == OpKind::Flush {
            return self.flush(request);
        }
        match self.row_at(request.at) {
            Some(row) if row.takes_whole(&request) => row.submit(request),
            Some(_) => self.submit_pieces(request),
            None => Err(IoError::IO),
        }
    }

    #[cold]
    fn submit_pieces(&self, request: Request<'_>) -> IoResult {
        let mut rest = Some(request);
        let pieces = std::iter::from_fn(|| {
            let request = rest.take()?;
            let row = self.row_at(request.at)?;
            let len = row.piece_len(&request);
            if len >= request.len {
                return Some((row, request));
            }
            let (first, after) = request.split_at(len);
            rest = Some(after);
            Some((row, first))
        });
        fan_out(pieces, self.limits.waits, |(row, piece)| row.submit(piece))
    }

    /// Plans `part` of a read, a write or a flush.
    ///
    /// # Errors
    /// Outside the table, for other operations, where a row has to see the request, and where it would come to very
    /// many pieces.
    pub fn plan(&self, part: Part, plan: &mut Plan) -> Result<(), Unplanned> {
        match plan.kind() {
            OpKind::Read | OpKind::Write => self.plan_pieces(part, plan),
            OpKind::Flush => {
                let mut targets = self.flushing_rows.iter();
                targets.try_for_each(|&row| self.rows[row].target.plan(part, plan))?;
                let mut devices = self.flushed.iter();
                devices.try_for_each(|device| device.dev.clone().plan(part, plan))
            }
            OpKind::Discard | OpKind::WriteZeroes => Err(Unplanned),
        }
    }

    fn plan_pieces(&self, part: Part, plan: &mut Plan) -> Result<(), Unplanned> {
        let end = part.at.checked_add(part.len).ok_or(Unplanned)?;
        let mut rest = part;
        while rest.at < end {
            let row = self.row_at(rest.at).ok_or(Unplanned)?;
            let len = row.most_at(plan.kind(), rest.at).min(rest.len);
            let (first, after) = rest.split_at(len);
            let at = Sector(first.at.0 - row.start.0);
            row.target.plan(Part { at, ..first }, plan)?;
            rest = after;
        }
        Ok(())
    }

    fn flush(&self, request: Request<'_>) -> IoResult {
        let flush = || Request::flush().with_flags(request.flags);
        self.flush_all(flush, |target| target.submit(flush()))
    }

    /// Makes durable what was written, for the core's own sake.
    ///
    /// # Errors
    /// The first of the targets and devices below that failed; all are tried.
    pub fn settle(&self) -> IoResult {
        self.flush_all(Request::flush, |target| target.settle())
    }

    /// Flushes every target that flushes by itself, then every device below once.
    fn flush_all<'f>(
        &self,
        flush: impl Fn() -> Request<'f> + Sync,
        flush_target: impl Fn(&dyn Target) -> IoResult + Sync,
    ) -> IoResult {
        let waits = self.limits.waits;
        let targets = fan_out(&self.flushing_rows, waits, |&row| {
            flush_target(self.rows[row].target())
        });
        // A device that fails is told of even where a target failed before, as in the kernel.
        let devices = fan_out(&self.flushed, waits, |device| device.dev.submit(flush()));
        targets.and(devices)
    }
}

impl Row {
    /// True where the target can have the request in one piece.
    #[inline]
    fn takes_whole(&self, request: &Request<'_>) -> bool {
        match request.op.kind() {
            OpKind::Read | OpKind::Write => {
                request.end().0 <= self.start.0 + self.len.0
                    && match self.max_io_len {
                        None => true,
                        Some(boundary) => {
                            (request.at.0 - self.start.0) % boundary.0 + request.len.0 <= boundary.0
                        }
                    }
            }
            OpKind::Flush | OpKind::Discard | OpKind::WriteZeroes => {
                self.piece_len(request) == request.len
            }
        }
    }

    /// How much of the request, which begins in this row, the target can have in one piece.
    fn piece_len(&self, request: &Request<'_>) -> Sectors {
        request.len.min(self.most_at(request.op.kind(), request.at))
    }

    /// The longest request from `at` on, in this row, that the target can have in one piece.
    pub(super) fn most_at(&self, kind: OpKind, at: Sector) -> Sectors {
        let to_end = self.end() - at;
        let to_boundary = self.max_io_len.map_or(Sectors(u64::MAX), |boundary| {
            Sectors(boundary.0 - (at - self.start).0 % boundary.0)
        });
        let most = match kind {
            OpKind::Discard if self.limits.discards() => self.limits.max_discard,
            OpKind::WriteZeroes if self.limits.writes_zeroes() => self.limits.max_write_zeroes,
            OpKind::WriteZeroes => ZEROES_LEN,
            OpKind::Read | OpKind::Write | OpKind::Flush | OpKind::Discard => Sectors(u64::MAX),
        };
        to_end.min(to_boundary).min(most)
    }

    /// Hands a piece to the target.
    #[inline]
    fn submit(&self, mut request: Request<'_>) -> IoResult {
        request.at = Sector(request.at.0 - self.start.0);
        match request.op {
            Op::Read(_) | Op::Write(_) | Op::Flush => self.target.submit(request),
            Op::Discard if self.limits.discards() => self.target.submit(request),
            Op::Discard => Err(IoError::UNSUPPORTED),
            Op::WriteZeroes { .. } => self.write_zeroes(request),
        }
    }

    #[cold]
    fn write_zeroes(&self, mut request: Request<'_>) -> IoResult {
        if self.limits.writes_zeroes() {
            match self.target.submit(request.reborrow()) {
                Err(IoError::UNSUPPORTED) => {}
                result => return result,
            }
        }
        let (mut at, mut left) = (request.at, request.len);
        while !left.is_zero() {
            let len = left.min(ZEROES_LEN);
            let zeroes = WriteBuf::new(&ZEROES[..len.to_bytes().0 as usize]);
            self.target
                .submit(Request::write(at, zeroes).with_flags(request.flags))?;
            at = at + len;
            left = left - len;
        }
        Ok(())
    }
}
