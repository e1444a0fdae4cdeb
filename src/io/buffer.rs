//! Borrowed data of a request: contiguous most of the time, in pieces where a target hands one vectored
//! request to each of several devices.

use std::io::{IoSlice, IoSliceMut};

use crate::unit::Bytes;

/// Memory of a request, in one or several pieces.
#[derive(Debug)]
pub struct Buffer<P>(Pieces<P>);

/// Memory that a read fills.
pub type ReadBuf<'a> = Buffer<&'a mut [u8]>;

/// Memory that a write stores.
pub type WriteBuf<'a> = Buffer<&'a [u8]>;

#[derive(Debug)]
enum Pieces<P> {
    One(P),
    Many(Vec<P>),
}

/// One contiguous piece of a buffer: a slice, shared or not.
pub trait Piece: AsRef<[u8]> + Default {
    /// The first `len` bytes and the rest; `len` is not more than the length.
    fn cut(self, len: usize) -> (Self, Self);
}

impl Piece for &mut [u8] {
    #[inline]
    fn cut(self, len: usize) -> (Self, Self) {
        self.split_at_mut(len)
    }
}

impl Piece for &[u8] {
    #[inline]
    fn cut(self, len: usize) -> (Self, Self) {
        self.split_at(len)
    }
}

impl<P: Piece> Buffer<P> {
    /// One contiguous piece.
    #[inline]
    pub fn new(bytes: P) -> Buffer<P> {
        Buffer(Pieces::One(bytes))
    }

    /// Several pieces, in order.
    pub fn from_pieces(pieces: Vec<P>) -> Buffer<P> {
        Buffer(Pieces::Many(pieces))
    }

    /// How much there is.
    #[inline]
    pub fn len(&self) -> Bytes {
        match &self.0 {
            Pieces::One(bytes) => Bytes(bytes.as_ref().len() as u64),
            Pieces::Many(pieces) => {
                Bytes(pieces.iter().map(|piece| piece.as_ref().len() as u64).sum())
            }
        }
    }

    /// True where there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len().0 == 0
    }

    /// The first `len` bytes and the rest; all and nothing where `len` is not less than the length.
    pub fn split_at(self, len: Bytes) -> (Buffer<P>, Buffer<P>) {
        match self.0 {
            Pieces::One(bytes) => {
                let middle = bytes.as_ref().len().min(len.0 as usize);
                let (first, rest) = bytes.cut(middle);
                (Buffer::new(first), Buffer::new(rest))
            }
            Pieces::Many(pieces) => {
                let (first, rest) = cut_pieces(pieces, len);
                (Buffer::from_pieces(first), Buffer::from_pieces(rest))
            }
        }
    }

    /// The pieces themselves.
    pub fn into_pieces(self) -> Vec<P> {
        match self.0 {
            Pieces::One(bytes) => vec![bytes],
            Pieces::Many(pieces) => pieces,
        }
    }
}

impl<P: Piece> Default for Buffer<P> {
    /// Nothing.
    fn default() -> Buffer<P> {
        Buffer::new(P::default())
    }
}

impl ReadBuf<'_> {
    /// The same memory, borrowed for a shorter time.
    #[inline]
    pub fn reborrow(&mut self) -> ReadBuf<'_> {
        match &mut self.0 {
            Pieces::One(bytes) => ReadBuf::new(bytes),
            Pieces::Many(pieces) => {
                ReadBuf::from_pieces(pieces.iter_mut().map(|piece| &mut **piece).collect())
            }
        }
    }

    /// The memory in one piece, if it is.
    #[inline]
    pub fn as_contiguous(&mut self) -> Option<&mut [u8]> {
        match &mut self.0 {
            Pieces::One(bytes) => Some(bytes),
            Pieces::Many(_) => None,
        }
    }

    /// Hands each contiguous piece to `visit`, in order.
    pub fn for_each_piece(&mut self, mut visit: impl FnMut(&mut [u8])) {
        match &mut self.0 {
            Pieces::One(bytes) => visit(bytes),
            Pieces::Many(pieces) => pieces.iter_mut().for_each(|piece| visit(piece)),
        }
    }

    /// Fills the memory with zeroes.
    pub fn fill_zero(&mut self) {
        self.for_each_piece(|piece| piece.fill(0));
    }

    /// The pieces as a system call takes them.
    pub fn io_slices(&mut self) -> Vec<IoSliceMut<'_>> {
        match &mut self.0 {
            Pieces::One(bytes) => vec![IoSliceMut::new(bytes)],
            Pieces::Many(pieces) => pieces
                .iter_mut()
                .map(|piece| IoSliceMut::new(piece))
                .collect(),
        }
    }
}

impl<'a> WriteBuf<'a> {
    /// The same data, borrowed for a shorter time.
    #[inline]
    pub fn reborrow(&self) -> WriteBuf<'_> {
        match &self.0 {
            Pieces::One(bytes) => WriteBuf::new(bytes),
            Pieces::Many(pieces) => WriteBuf::from_pieces(pieces.clone()),
        }
    }

    /// The data in one piece, if it is.
    #[inline]
    pub fn as_contiguous(&self) -> Option<&'a [u8]> {
        match &self.0 {
            Pieces::One(bytes) => Some(bytes),
            Pieces::Many(_) => None,
        }
    }

    /// Hands each contiguous piece to `visit`, in order.
    pub fn for_each_piece(&self, mut visit: impl FnMut(&'a [u8])) {
        match &self.0 {
            Pieces::One(bytes) => visit(bytes),
            Pieces::Many(pieces) => pieces.iter().for_each(|piece| visit(piece)),
        }
    }

    /// The pieces as a system call takes them.
    pub fn io_slices(&self) -> Vec<IoSlice<'_>> {
        match &self.0 {
            Pieces::One(bytes) => vec![IoSlice::new(bytes)],
            Pieces::Many(pieces) => pieces.iter().map(|piece| IoSlice::new(piece)).collect(),
        }
    }
}

fn cut_pieces<P: Piece>(pieces: Vec<P>, len: Bytes) -> (Vec<P>, Vec<P>) {
    let mut left = len.0 as usize;
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for piece in pieces {
        let piece_len = piece.as_ref().len();
        if left >= piece_len {
            left -= piece_len;
            first.push(piece);
        } else if left == 0 {
            rest.push(piece);
        } else {
            let (head, tail) = piece.cut(left);
            left = 0;
            first.push(head);
            rest.push(tail);
        }
    }
    (first, rest)
}

#[cfg(test)]
mod tests {
    use super::{ReadBuf, WriteBuf};
    use crate::unit::Bytes;

    #[test]
    fn pieces_split_anywhere() {
        let (a, b) = ([1u8, 2, 3], [4u8, 5]);
        for cut in 0..=6 {
            let (first, rest) = WriteBuf::from_pieces(vec![&a, &b]).split_at(Bytes(cut));
            let mut seen = Vec::new();
            first.for_each_piece(|piece| seen.extend_from_slice(piece));
            assert_eq!(seen.len() as u64, cut.min(5));
            rest.for_each_piece(|piece| seen.extend_from_slice(piece));
            assert_eq!(seen, [1, 2, 3, 4, 5]);
        }
    }

    #[test]
    fn read_pieces_fill_what_they_borrow() {
        let (mut a, mut b) = ([1u8; 3], [1u8; 2]);
        let (_, mut rest) = ReadBuf::from_pieces(vec![&mut a, &mut b]).split_at(Bytes(2));
        rest.fill_zero();
        assert_eq!((a, b), ([1, 1, 0], [0, 0]));
    }
}
