//! The data path through a table: find the row, cut where needed, write zeroes where a target cannot.

use super::{Row, Table};
use crate::io::{IoError, IoResult, Op, OpKind, Request, WriteBuf};
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
        let mut result = Ok(());
        let mut rest = Some(request);
        while let Some(request) = rest.take() {
            let Some(row) = self.row_at(request.at) else {
                return Err(IoError::IO);
            };
            let piece = row.piece_len(&request);
            let first = if piece < request.len {
                let (first, after) = request.split_at(piece);
                rest = Some(after);
                first
            } else {
                request
            };
            result = more_telling(result, row.submit(first));
        }
        result
    }

    /// Flushes every device below once, and every target that flushes by itself.
    fn flush(&self, request: Request<'_>) -> IoResult {
        let mut result = Ok(());
        for &index in &self.flushing_rows {
            let flush = Request::flush().with_flags(request.flags);
            result = more_telling(result, self.rows[index].target.submit(flush));
        }
        for device in &self.flushed {
            let flush = Request::flush().with_flags(request.flags);
            result = more_telling(result, device.dev.submit(flush));
        }
        result
    }
}

/// Of the results of two pieces the one that counts: the first real error, before being put off, before success.
fn more_telling(first: IoResult, second: IoResult) -> IoResult {
    match (first, second) {
        (Ok(()), second) => second,
        (Err(put_off), Err(error)) if put_off.is_put_off() && !error.is_put_off() => Err(error),
        (first, _) => first,
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
        let to_end = self.end() - request.at;
        let to_boundary = self.max_io_len.map_or(Sectors(u64::MAX), |boundary| {
            Sectors(boundary.0 - (request.at - self.start).0 % boundary.0)
        });
        let most = match request.op.kind() {
            OpKind::Discard if self.limits.discards() => self.limits.max_discard,
            OpKind::WriteZeroes if self.limits.writes_zeroes() => self.limits.max_write_zeroes,
            OpKind::WriteZeroes => ZEROES_LEN,
            OpKind::Read | OpKind::Write | OpKind::Flush | OpKind::Discard => Sectors(u64::MAX),
        };
        request.len.min(to_end).min(to_boundary).min(most)
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
