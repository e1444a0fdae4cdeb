//! Notices: what the kernel is told without having asked.

use std::io::IoSlice;

use super::ROOT;

const INVAL_INODE: i32 = 2;
const INVAL_ENTRY: i32 = 3;
const DELETE: i32 = 6;
const RESEND: i32 = 7;

/// Something that the kernel believes and that is not so any more, or that it is to do.
#[derive(Clone, Copy, Debug)]
pub enum Notice<'a> {
    /// Attributes, and the cached data of the whole file.
    Contents {
        /// The file.
        inode: u64,
    },
    /// Attributes only.
    Attributes {
        /// The file or the directory.
        inode: u64,
    },
    /// What a name in the directory stands for.
    Name(&'a [u8]),
    /// A file was removed.
    Removed {
        /// The file.
        inode: u64,
        /// Its name.
        name: &'a [u8],
    },
    /// Every request that was handed over and not answered is to be handed over again.
    Resend,
}

impl Notice<'_> {
    /// Hands the notice's number (FUSE_NOTIFY_*) and its parts to `send`.
    pub fn encode<R>(&self, send: impl FnOnce(i32, &[IoSlice<'_>]) -> R) -> R {
        let words = |words: &[u64]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_ne_bytes()).collect()
        };
        // Names bear their length as the lower half of a word, and end with a zero.
        let name_word = |name: &[u8]| {
            let halves = [name.len() as u32, 0].map(u32::to_ne_bytes).concat();
            <[u8; 8]>::try_from(halves).map_or(0, u64::from_ne_bytes)
        };
        let (number, head, name): (i32, Vec<u8>, Option<&[u8]>) = match *self {
            Notice::Contents { inode } => (INVAL_INODE, words(&[inode, 0, 0]), None),
            // A negative place: no data.
            Notice::Attributes { inode } => (INVAL_INODE, words(&[inode, u64::MAX, 0]), None),
            Notice::Name(name) => (INVAL_ENTRY, words(&[ROOT, name_word(name)]), Some(name)),
            Notice::Removed { inode, name } => {
                (DELETE, words(&[ROOT, inode, name_word(name)]), Some(name))
            }
            Notice::Resend => (RESEND, Vec::new(), None),
        };
        match name {
            Some(name) => send(
                number,
                &[IoSlice::new(&head), IoSlice::new(name), IoSlice::new(&[0])],
            ),
            None => send(number, &[IoSlice::new(&head)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Notice;

    fn encoded(notice: Notice<'_>) -> (i32, Vec<u8>) {
        notice.encode(|number, parts| (number, parts.concat_bytes()))
    }

    trait Concat {
        fn concat_bytes(&self) -> Vec<u8>;
    }

    impl Concat for [std::io::IoSlice<'_>] {
        fn concat_bytes(&self) -> Vec<u8> {
            self.iter().flat_map(|part| part.to_vec()).collect()
        }
    }

    #[test]
    fn notices_are_as_long_as_the_kernel_expects() {
        assert_eq!(encoded(Notice::Contents { inode: 3 }).1.len(), 24);
        let (number, bytes) = encoded(Notice::Attributes { inode: 3 });
        assert_eq!((number, &bytes[8..16]), (2, &[0xff; 8][..]));
        assert_eq!(encoded(Notice::Resend), (7, Vec::new()));
        let (number, bytes) = encoded(Notice::Name(b"disk"));
        assert_eq!(number, 3);
        assert_eq!(bytes[8..12], 4u32.to_ne_bytes());
        assert_eq!(&bytes[16..], b"disk\0");
        let (number, bytes) = encoded(Notice::Removed {
            inode: 9,
            name: b"disk",
        });
        assert_eq!(number, 6);
        assert_eq!(bytes[8..16], 9u64.to_ne_bytes());
        assert_eq!(&bytes[24..], b"disk\0");
    }
}
