//! A device in memory that remembers every write and flush, and gives back what a power cut at any moment could have
//! left of them. For tests that reopen each such image and check what was promised.
//!
//! The rules are a disk's: what was completed before a flush was submitted is there once the flush has returned; a
//! durable (fua) write is there once it has returned; of the rest any part may be there, sector by sector, in no
//! order between requests but so that of two writes to a sector the later one wins where both are there.

use crate::io::{BlockDev, IoError, IoResult, Limits, Op, Request};
use crate::sync::{Arc, Mutex};
use crate::unit::{Bytes, SECTOR_SIZE, Sectors};

/// A device in memory with a history. Meant for small devices: an image costs a copy of the whole.
pub struct Crashing {
    /// A leaf. Requests are carried out one by one under it, so that the history has an order.
    state: Mutex<State>,
    limits: Limits,
}

struct State {
    /// What was there when the history began.
    before: Vec<u8>,
    now: Vec<u8>,
    history: Vec<Event>,
}

#[derive(Clone)]
enum Event {
    Change(Change),
    Flush,
}

#[derive(Clone)]
struct Change {
    /// Byte on the device.
    at: usize,
    data: Vec<u8>,
    durable: bool,
}

/// Which images to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cuts {
    /// Random images for each moment at which not everything was durable, besides the one with all writes so far
    /// and the one with the durable ones alone.
    pub n_samples: usize,
    /// Seed of the random ones.
    pub seed: u64,
}

/// What one power cut left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashImage {
    /// How many events of the history had happened.
    pub cut: usize,
    /// Which of the unflushed writes are there, for a failed test's message.
    pub kept: Kept,
    /// The device's contents.
    pub bytes: Vec<u8>,
}

/// Which of the writes that were not durable are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// All of them.
    All,
    /// None of them.
    None,
    /// A random choice: some whole, some in part, some not at all.
    Sample(usize),
}

impl Crashing {
    /// A device that holds `bytes`; a part of a sector at the end is dropped.
    pub fn new(mut bytes: Vec<u8>) -> Crashing {
        bytes.truncate(bytes.len() - bytes.len() % SECTOR_SIZE as usize);
        let limits = Limits {
            max_discard: Sectors(u64::MAX),
            discard_granularity: 512,
            max_write_zeroes: Sectors(u64::MAX),
            ..Limits::default()
        };
        Crashing::with_limits(bytes, limits)
    }

    /// The same with other limits.
    pub fn with_limits(bytes: Vec<u8>, limits: Limits) -> Crashing {
        let state = State {
            before: bytes.clone(),
            now: bytes,
            history: Vec::new(),
        };
        Crashing {
            state: Mutex::new(state),
            limits,
        }
    }

    /// What it holds now.
    pub fn contents(&self) -> Vec<u8> {
        self.state.lock().now.clone()
    }

    /// How many writes, zeroes, discards and flushes it has seen since it began or [settled](Crashing::settle).
    pub fn n_events(&self) -> usize {
        self.state.lock().history.len()
    }

    /// Forgets the history: what it holds now is durable.
    pub fn settle(&self) {
        let mut state = self.state.lock();
        state.before = state.now.clone();
        state.history.clear();
    }

    /// Hands each image that a power cut could have left to `visit`, from the earliest cut to the latest. The device
    /// may be used meanwhile; what it does then is not in the images.
    pub fn for_each_image(&self, cuts: Cuts, mut visit: impl FnMut(CrashImage)) {
        let (mut durable, history) = {
            let state = self.state.lock();
            (state.before.clone(), state.history.clone())
        };
        let mut random = Random::new(cuts.seed);
        let mut pending: Vec<&Change> = Vec::new();
        for cut in 0..=history.len() {
            match cut.checked_sub(1).and_then(|last| history.get(last)) {
                Some(Event::Change(change)) => pending.push(change),
                Some(Event::Flush) => {
                    pending
                        .drain(..)
                        .for_each(|change| change.apply(&mut durable));
                    // Nothing but what the cut before it could have left whole.
                    continue;
                }
                None => {}
            }
            let lossy = pending.iter().any(|change| !change.durable);
            let samples = (0..cuts.n_samples).map(Kept::Sample);
            let more = [Kept::None].into_iter().chain(samples).filter(|_| lossy);
            for kept in [Kept::All].into_iter().chain(more) {
                let mut bytes = durable.clone();
                for change in &pending {
                    change.apply_kept(&mut bytes, kept, &mut random);
                }
                visit(CrashImage { cut, kept, bytes });
            }
        }
    }
}

impl CrashImage {
    /// A device that holds the image, with a history of its own.
    pub fn into_device(self) -> Arc<Crashing> {
        Arc::new(Crashing::new(self.bytes))
    }
}

impl Change {
    fn apply(&self, bytes: &mut [u8]) {
        if let Some(range) = bytes.get_mut(self.at..self.at + self.data.len()) {
            range.copy_from_slice(&self.data);
        }
    }

    fn apply_kept(&self, bytes: &mut [u8], kept: Kept, random: &mut Random) {
        match kept {
            _ if self.durable => self.apply(bytes),
            Kept::All => self.apply(bytes),
            Kept::None => {}
            Kept::Sample(_) => match random.below(3) {
                0 => {}
                1 => self.apply(bytes),
                _ => self.apply_torn(bytes, random),
            },
        }
    }

    /// Applies some of the sectors.
    fn apply_torn(&self, bytes: &mut [u8], random: &mut Random) {
        let range = bytes
            .get_mut(self.at..self.at + self.data.len())
            .unwrap_or_default();
        let sectors = range.chunks_mut(SECTOR_SIZE as usize);
        for (to, from) in sectors.zip(self.data.chunks(SECTOR_SIZE as usize)) {
            if random.below(2) == 0 {
                to.copy_from_slice(from);
            }
        }
    }
}

impl State {
    fn change(&mut self, at: Bytes, data: Vec<u8>, durable: bool) -> IoResult {
        let change = Change {
            at: at.0 as usize,
            data,
            durable,
        };
        change.apply(&mut self.now);
        self.history.push(Event::Change(change));
        Ok(())
    }
}

impl BlockDev for Crashing {
    fn capacity(&self) -> Sectors {
        Bytes(self.state.lock().now.len() as u64).whole_sectors()
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn submit(&self, request: Request<'_>) -> IoResult {
        let mut state = self.state.lock();
        let end = request
            .at
            .checked_add(request.len)
            .and_then(|end| end.checked_bytes());
        if end.is_none_or(|end| end.0 > state.now.len() as u64) {
            return Err(IoError::IO);
        }
        let (at, durable) = (request.at.to_bytes(), request.flags.fua);
        let zeroes = || vec![0; request.len.to_bytes().0 as usize];
        match request.op {
            Op::Read(mut buffer) => {
                let mut from = state.now.get(at.0 as usize..).unwrap_or_default();
                buffer.for_each_piece(|piece| {
                    let (now, later) = from.split_at(piece.len().min(from.len()));
                    piece.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
                    from = later;
                });
                Ok(())
            }
            Op::Write(buffer) => {
                let mut data = Vec::with_capacity(request.len.to_bytes().0 as usize);
                buffer.for_each_piece(|piece| data.extend_from_slice(piece));
                state.change(at, data, durable)
            }
            Op::Flush => {
                state.history.push(Event::Flush);
                Ok(())
            }
            // What a discarded sector reads is the device's choice: here zeroes, or until the next flush what it
            // held before.
            Op::Discard => state.change(at, zeroes(), durable),
            Op::WriteZeroes { may_unmap: _ } => state.change(at, zeroes(), durable),
        }
    }
}

/// splitmix64: small, and the same everywhere for the same seed.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// What `seed` leads to.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number, less than `limit`; 0 where that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use super::{Crashing, Cuts, Kept};
    use crate::io::{BlockDev, IoError, ReadBuf, Request, WriteBuf};
    use crate::unit::{Sector, Sectors};

    fn write(dev: &Crashing, at: u64, bytes: &[u8], durable: bool) {
        let request = Request::write(Sector(at), WriteBuf::new(bytes));
        dev.submit(if durable { request.durable() } else { request })
            .unwrap();
    }

    /// The first byte of each sector, for every image.
    fn images(dev: &Crashing, n_samples: usize) -> Vec<(usize, Kept, Vec<u8>)> {
        let mut seen = Vec::new();
        dev.for_each_image(Cuts { n_samples, seed: 7 }, |image| {
            let sectors = image.bytes.chunks(512).map(|sector| {
                assert!(
                    sector.iter().all(|byte| *byte == sector[0]),
                    "a sector is never torn inside"
                );
                sector[0]
            });
            seen.push((image.cut, image.kept, sectors.collect()));
        });
        seen
    }

    #[test]
    fn only_a_flush_or_fua_keeps_a_write() {
        let dev = Crashing::new(vec![0; 3 * 512]);
        write(&dev, 0, &[1; 512], false);
        write(&dev, 1, &[2; 512], true);
        dev.submit(Request::flush()).unwrap();
        write(&dev, 2, &[3; 512], false);
        let expected = [
            (0, Kept::All, vec![0, 0, 0]),
            (1, Kept::All, vec![1, 0, 0]),
            (1, Kept::None, vec![0, 0, 0]),
            (2, Kept::All, vec![1, 2, 0]),
            (2, Kept::None, vec![0, 2, 0]),
            (4, Kept::All, vec![1, 2, 3]),
            (4, Kept::None, vec![1, 2, 0]),
        ];
        assert_eq!(images(&dev, 0), expected);
        assert_eq!(dev.n_events(), 4);
        dev.settle();
        assert_eq!(images(&dev, 5), [(0, Kept::All, vec![1, 2, 3])]);
    }

    #[test]
    fn samples_reorder_and_tear() {
        let dev = Crashing::new(vec![0; 3 * 512]);
        write(&dev, 0, &[1; 2 * 512], false);
        write(&dev, 2, &[2; 512], false);
        let seen: BTreeSet<Vec<u8>> = images(&dev, 200)
            .into_iter()
            .map(|(.., bytes)| bytes)
            .collect();
        let first = [[0, 0], [0, 1], [1, 0], [1, 1]];
        let all = first
            .iter()
            .flat_map(|[a, b]| [vec![*a, *b, 0], vec![*a, *b, 2]]);
        assert_eq!(seen, all.collect());
    }

    #[test]
    fn the_later_of_two_writes_wins() {
        let dev = Crashing::new(vec![0; 512]);
        write(&dev, 0, &[1; 512], false);
        write(&dev, 0, &[2; 512], true);
        let last = images(&dev, 50).into_iter().filter(|(cut, ..)| *cut == 2);
        assert!(last.map(|(.., bytes)| bytes).all(|bytes| bytes == [2]));
    }

    #[test]
    fn it_is_a_device() {
        let dev = Crashing::new(vec![5; 4 * 512 + 100]);
        assert_eq!(dev.capacity(), Sectors(4));
        dev.submit(Request::discard(Sector(1), Sectors(1))).unwrap();
        dev.submit(Request::write_zeroes(Sector(3), Sectors(1), false))
            .unwrap();
        let (mut a, mut b) = ([9; 100], [9; 924]);
        dev.submit(Request::read(
            Sector(0),
            ReadBuf::from_pieces(vec![&mut a, &mut b]),
        ))
        .unwrap();
        assert_eq!(
            (a, &b[..412], &b[412..]),
            ([5; 100], &[5; 412][..], &[0; 512][..])
        );
        for (at, len) in [(4, 1), (0, 5), (u64::MAX, 1), (1, u64::MAX)] {
            let refused = dev.submit(Request::discard(Sector(at), Sectors(len)));
            assert_eq!(refused.unwrap_err(), IoError::IO);
        }
        let mut last = None;
        dev.for_each_image(
            Cuts {
                n_samples: 0,
                seed: 0,
            },
            |image| last = Some(image),
        );
        let kept_nothing = last.unwrap().into_device();
        assert_eq!(kept_nothing.contents(), [5; 4 * 512]);
    }
}
