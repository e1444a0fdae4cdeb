#![allow(clippy::unwrap_used)]

use std::thread;

use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::{collection, prop_assert_eq, proptest};

use super::{WIDEST, read, seek, write, zero};
use crate::io::{BlockDev, Edges, Errno, Extent, Flags, IoError, IoResult, Limits, Op, Request};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use crate::unit::{Sector, Sectors};

const SIZE: usize = 64 << 10;

/// Memory that insists on whole blocks.
struct Disk {
    bytes: Mutex<Vec<u8>>,
    block: u32,
    failing: Mutex<Option<IoError>>,
    durable: AtomicBool,
}

impl Disk {
    fn new(block: u32) -> Disk {
        Disk {
            bytes: Mutex::new(vec![0; SIZE]),
            block,
            failing: Mutex::new(None),
            durable: AtomicBool::new(false),
        }
    }
}

impl BlockDev for Disk {
    fn capacity(&self) -> Sectors {
        Sectors(SIZE as u64 / 512)
    }

    fn limits(&self) -> Limits {
        Limits {
            logical_block_size: self.block,
            ..Limits::default()
        }
    }

    fn submit(&self, request: Request<'_>) -> IoResult {
        let (start, len) = (request.at.to_bytes().0, request.len.to_bytes().0);
        assert!(
            start.is_multiple_of(u64::from(self.block))
                && len.is_multiple_of(u64::from(self.block))
        );
        assert!(len > 0 && start + len <= SIZE as u64);
        if let Some(error) = *self.failing.lock() {
            return Err(error);
        }
        let range = start as usize..(start + len) as usize;
        match request.op {
            Op::Read(mut buffer) => {
                assert!(!request.flags.fua);
                let bytes = self.bytes.lock();
                buffer
                    .as_contiguous()
                    .unwrap()
                    .copy_from_slice(&bytes[range]);
            }
            Op::Write(buffer) => {
                self.durable.store(request.flags.fua, Ordering::Relaxed);
                self.bytes.lock()[range].copy_from_slice(buffer.as_contiguous().unwrap());
            }
            Op::WriteZeroes { .. } | Op::Discard => self.bytes.lock()[range].fill(0),
            Op::Flush => {}
        }
        Ok(())
    }

    /// The second quarter is a hole.
    fn extent_at(&self, at: Sector) -> Extent {
        match at.0 {
            0..32 => Extent::data(Sector(32)),
            32..64 => Extent::hole(Sector(64)),
            _ => Extent::data(Sector(128)),
        }
    }
}

fn zeroing() -> Op<'static> {
    Op::WriteZeroes { may_unmap: true }
}

fn read_all(disk: &Disk, at: u64, len: usize) -> Result<Vec<u8>, IoError> {
    let mut scratch = vec![0xee; len + WIDEST];
    let range = read(disk, at, len, &mut scratch, Flags::default())?;
    Ok(scratch[range].to_vec())
}

#[derive(Clone, Debug)]
enum Step {
    Read(u64, usize),
    Write(u64, usize, u8),
    Zero(u64, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let place = || prop_oneof![0..SIZE as u64 + 5000, (0..20u64).prop_map(|n| n * 4096)];
    let len = || {
        prop_oneof![
            0..3usize,
            500..530usize,
            4000..9000usize,
            (0..4usize).prop_map(|n| n * 4096)
        ]
    };
    prop_oneof![
        (place(), len()).prop_map(|(at, len)| Step::Read(at, len)),
        (place(), len(), any::<u8>()).prop_map(|(at, len, byte)| Step::Write(at, len, byte)),
        (place(), len()).prop_map(|(at, len)| Step::Zero(at, len)),
    ]
}

fn model_range(at: u64, len: usize) -> std::ops::Range<usize> {
    let start = (at as usize).min(SIZE);
    start..(start + len).min(SIZE)
}

proptest! {
    #[test]
    fn a_device_holds_bytes_as_a_vector_does(
        block in prop_oneof![proptest::strategy::Just(512u32), proptest::strategy::Just(4096)],
        steps in collection::vec(step(), 1..60),
    ) {
        let (disk, edges) = (Disk::new(block), Edges::default());
        let mut model = vec![0u8; SIZE];
        for step in steps {
            match step {
                Step::Read(at, len) => {
                    prop_assert_eq!(read_all(&disk, at, len).unwrap(), &model[model_range(at, len)]);
                }
                Step::Write(at, len, byte) => {
                    let range = model_range(at, len);
                    let written = write(&disk, &edges, at, &vec![byte; len], Flags::default());
                    if range.is_empty() && len > 0 {
                        prop_assert_eq!(written, Err(Errno::NOSPC.into()));
                    } else {
                        prop_assert_eq!(written, Ok(range.len()));
                    }
                    model[range].fill(byte);
                }
                Step::Zero(at, len) => {
                    zero(&disk, &edges, at, len as u64, zeroing, Flags::default()).unwrap();
                    model[model_range(at, len)].fill(0);
                }
            }
        }
        prop_assert_eq!(&*disk.bytes.lock(), &model);
    }
}

#[test]
fn what_the_device_answers_reaches_the_caller() {
    let (disk, edges) = (Disk::new(512), Edges::default());
    for error in [IoError::IO, Errno::ILSEQ.into(), IoError::WOULD_WAIT] {
        *disk.failing.lock() = Some(error);
        assert_eq!(read_all(&disk, 0, 512), Err(error));
        assert_eq!(read_all(&disk, 1, 5), Err(error));
        for (at, len) in [(0, 512), (1, 5), (0, 700), (100, 924)] {
            let written = write(&disk, &edges, at, &vec![1; len], Flags::default());
            assert_eq!(written, Err(error), "{len} bytes at {at}");
            let zeroed = zero(&disk, &edges, at, len as u64, zeroing, Flags::default());
            assert_eq!(zeroed, Err(error), "{len} bytes at {at}");
        }
    }
}

#[test]
fn a_durable_write_is_durable_in_every_shape() {
    let (disk, edges) = (Disk::new(512), Edges::default());
    let durable = Flags {
        fua: true,
        ..Flags::default()
    };
    for (at, len) in [(0, 512), (1, 5)] {
        disk.durable.store(false, Ordering::Relaxed);
        write(&disk, &edges, at, &vec![1; len], durable).unwrap();
        assert!(disk.durable.load(Ordering::Relaxed));
    }
}

#[test]
fn the_end_of_the_device_ends_requests() {
    let (disk, edges) = (Disk::new(512), Edges::default());
    let size = SIZE as u64;
    assert_eq!(read_all(&disk, size - 3, 10).unwrap().len(), 3);
    assert_eq!(read_all(&disk, size, 10).unwrap().len(), 0);
    assert_eq!(read_all(&disk, u64::MAX - 1, 10).unwrap().len(), 0);
    assert_eq!(
        write(&disk, &edges, size - 3, &[1; 10], Flags::default()),
        Ok(3)
    );
    assert_eq!(
        write(&disk, &edges, size, &[1; 10], Flags::default()),
        Err(Errno::NOSPC.into())
    );
    assert_eq!(write(&disk, &edges, size, &[], Flags::default()), Ok(0));
    zero(
        &disk,
        &edges,
        size - 3,
        u64::MAX / 2,
        zeroing,
        Flags::default(),
    )
    .unwrap();
    zero(&disk, &edges, size + 3, 10, zeroing, Flags::default()).unwrap();
}

#[test]
fn who_may_not_wait_does_not_wait_for_a_neighbour() {
    let (disk, edges) = (Disk::new(512), Edges::default());
    let nowait = Flags {
        nowait: true,
        ..Flags::default()
    };
    let held = edges.enter_write(0..512, true, false).unwrap();
    for (at, len) in [(0, 512), (1, 5)] {
        let written = write(&disk, &edges, at, &vec![1; len], nowait);
        assert_eq!(written, Err(IoError::WOULD_WAIT));
    }
    drop(held);
    assert_eq!(write(&disk, &edges, 1, &[1; 5], nowait), Ok(5));
}

#[test]
fn neighbours_in_one_block_do_not_undo_each_other() {
    let (disk, edges) = (Arc::new(Disk::new(4096)), Arc::new(Edges::default()));
    let writers: Vec<_> = (0..4u8)
        .map(|lane| {
            let (disk, edges) = (disk.clone(), edges.clone());
            thread::spawn(move || {
                for round in 0..500u32 {
                    let at = u64::from(lane) * 1000 + u64::from(round % 7);
                    let byte = round as u8;
                    write(&*disk, &edges, at, &[byte; 900], Flags::default()).unwrap();
                    assert_eq!(read_all(&disk, at, 900).unwrap(), [byte; 900]);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
}

#[test]
fn holes_and_data_are_found() {
    let disk = Disk::new(512);
    let (hole, after) = (32 * 512, 64 * 512);
    assert_eq!(seek(&disk, 5, false), Ok(5));
    assert_eq!(seek(&disk, 5, true), Ok(hole));
    assert_eq!(seek(&disk, hole + 7, true), Ok(hole + 7));
    assert_eq!(seek(&disk, hole + 7, false), Ok(after));
    assert_eq!(seek(&disk, after, true), Ok(SIZE as u64));
    assert_eq!(seek(&disk, SIZE as u64, true), Err(Errno::NXIO.into()));
    assert_eq!(seek(&disk, SIZE as u64, false), Err(Errno::NXIO.into()));
}
