//! Borrowed data of a request: contiguous most of the time, in pieces where a target hands one vectored
//! request to each of several devices.

use std::io::{IoSlice, IoSliceMut};

use crate::unit::Bytes;

/// Memory that a read fills.
#[derive(Debug)]
pub struct ReadBuf<'a>(Pieces<&'a mut [u8]>);

/// Memory that a write stores.
#[derive(Debug)]
pub struct WriteBuf<'a>(Pieces<&'a [u8]>);

#[derive(Debug)]
enum Pieces<T> {
    One(T),
    Many(Vec<T>),
}

impl<'a> ReadBuf<'a> {
    /// One contiguous piece.
    #[inline]
    pub fn new(bytes: &'a mut [u8]) -> ReadBuf<'a> {
        ReadBuf(Pieces::One(bytes))
    }

    /// Several pieces, filled in order.
    pub fn from_pieces(pieces: Vec<&'a mut [u8]>) -> ReadBuf<'a> {
        ReadBuf(Pieces::Many(pieces))
    }

    /// How much fits.
    #[inline]
    pub fn len(&self) -> Bytes {
        match &self.0 {
            Pieces::One(bytes) => Bytes(bytes.len() as u64),
            Pieces::Many(pieces) => Bytes(pieces.iter().map(|piece| piece.len() as u64).sum()),
        }
    }

    /// True where nothing fits.
    pub fn is_empty(&self) -> bool {
        self.len().0 == 0
    }

    /// The first `len` bytes and the rest; all and nothing where `len` is not less than the length.
    pub fn split_at(self, len: Bytes) -> (ReadBuf<'a>, ReadBuf<'a>) {
        match self.0 {
            Pieces::One(bytes) => {
                let middle = bytes.len().min(len.0 as usize);
                let (first, rest) = bytes.split_at_mut(middle);
                (ReadBuf::new(first), ReadBuf::new(rest))
            }
            Pieces::Many(pieces) => {
                let (first, rest) =
                    split_pieces(pieces, len, |piece, middle| piece.split_at_mut(middle));
                (ReadBuf::from_pieces(first), ReadBuf::from_pieces(rest))
            }
        }
    }

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

    /// The pieces themselves.
    pub fn into_pieces(self) -> Vec<&'a mut [u8]> {
        match self.0 {
            Pieces::One(bytes) => vec![bytes],
            Pieces::Many(pieces) => pieces,
        }
    }
}

impl Default for ReadBuf<'_> {
    fn default() -> Self {
        ReadBuf::new(&mut [])
    }
}

impl Default for WriteBuf<'_> {
    fn default() -> Self {
        WriteBuf::new(&[])
    }
}

impl<'a> WriteBuf<'a> {
    /// One contiguous piece.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> WriteBuf<'a> {
        WriteBuf(Pieces::One(bytes))
    }

    /// Several pieces, stored in order.
    pub fn from_pieces(pieces: Vec<&'a [u8]>) -> WriteBuf<'a> {
        WriteBuf(Pieces::Many(pieces))
    }

    /// How much there is.
    #[inline]
    pub fn len(&self) -> Bytes {
        match &self.0 {
            Pieces::One(bytes) => Bytes(bytes.len() as u64),
            Pieces::Many(pieces) => Bytes(pieces.iter().map(|piece| piece.len() as u64).sum()),
        }
    }

    /// True where there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len().0 == 0
    }

    /// The first `len` bytes and the rest; all and nothing where `len` is not less than the length.
    pub fn split_at(self, len: Bytes) -> (WriteBuf<'a>, WriteBuf<'a>) {
        match self.0 {
            Pieces::One(bytes) => {
                let (first, rest) = bytes.split_at(bytes.len().min(len.0 as usize));
                (WriteBuf::new(first), WriteBuf::new(rest))
            }
            Pieces::Many(pieces) => {
                let (first, rest) =
                    split_pieces(pieces, len, |piece, middle| piece.split_at(middle));
                (WriteBuf::from_pieces(first), WriteBuf::from_pieces(rest))
            }
        }
    }

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

    /// The pieces themselves.
    pub fn into_pieces(self) -> Vec<&'a [u8]> {
        match self.0 {
            Pieces::One(bytes) => vec![bytes],
            Pieces::Many(pieces) => pieces,
        }
    }
}

fn split_pieces<T: AsRef<[u8]>>(
    pieces: Vec<T>,
    len: Bytes,
    split: impl Fn(T, usize) -> (T, T),
) -> (Vec<T>, Vec<T>) {
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
            let (head, tail) = split(piece, left);
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
