#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::fd::AsFd;

use rustix::fs::OFlags;
use tempfile::TempDir;

use super::{Alignment, BOUNCE, BUFFER, Channel, DirectFile, Span};
use crate::backing::Access;
use crate::io::{Errno, ReadBuf, WriteBuf};
use crate::unit::Bytes;

/// Seven blocks of 4096 bytes and three sectors of an eighth.
const LEN: usize = 7 * 4096 + 3 * 512;

/// Memory that begins `skew` bytes past a multiple of 4096.
fn at_skew(len: usize, skew: usize) -> (Vec<u8>, usize) {
    let bytes = vec![0xee; len + 8192];
    let start = bytes.as_ptr().addr().wrapping_neg() % 4096 + skew;
    (bytes, start)
}

#[test]
fn every_alignment_reads_and_writes_what_it_should() {
    for home in [env!("CARGO_MANIFEST_DIR"), "/dev/shm"] {
        let folder = TempDir::new_in(home).unwrap();
        let path = folder.path().join("disk");
        let mut model: Vec<u8> = (0..LEN).map(|i| (i / 512 + i) as u8).collect();
        fs::write(&path, &model).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let channel = Channel::open(file.as_fd(), Access::ReadWrite, OFlags::DIRECT).unwrap();
        // Stricter than the file system, so that every way is taken.
        let direct = DirectFile::new(
            channel,
            Alignment {
                memory: 4096,
                block: 4096,
            },
        );
        let sectors = LEN / 512;
        for (round, at) in (0..sectors).enumerate() {
            for len in [1, 2, 7, 8, 9, 16, sectors - at] {
                if at + len > sectors {
                    continue;
                }
                let (range, bytes) = (at * 512..(at + len) * 512, len * 512);
                let (mut memory, start) = at_skew(bytes, if round % 2 == 0 { 0 } else { 80 });
                let place = Bytes(range.start as u64);
                direct
                    .read(place, ReadBuf::new(&mut memory[start..start + bytes]))
                    .unwrap();
                assert!(memory[start..start + bytes] == model[range.clone()]);
                assert!(memory[start + bytes..].iter().all(|byte| *byte == 0xee));

                let new: Vec<u8> = (0..bytes).map(|i| (i * 7 + at + len) as u8).collect();
                memory[start..start + bytes].copy_from_slice(&new);
                let (a, b) = memory[start..start + bytes].split_at(bytes / 3);
                let pieces = WriteBuf::from_pieces(vec![a, b]);
                let durable = len == 7;
                direct
                    .write(place, pieces, durable, Bytes(LEN as u64), file.as_fd())
                    .unwrap();
                model[range].copy_from_slice(&new);
            }
            assert!(fs::read(&path).unwrap() == model, "sector {at}");
        }
    }
}

#[test]
fn aligned_memory_goes_to_the_kernel_as_it_is() {
    let folder = TempDir::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let path = folder.path().join("disk");
    fs::write(&path, vec![0; 8 * 4096]).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let channel = Channel::open(file.as_fd(), Access::ReadWrite, OFlags::DIRECT).unwrap();
    let align = Alignment {
        memory: 512,
        block: 4096,
    };
    let direct = DirectFile::new(channel, align);
    let (mut memory, start) = at_skew(4 * 4096, 0);
    let size = Bytes(8 * 4096);
    let mut copies = |skew: usize| {
        let bytes = &mut memory[start + skew..start + skew + 4 * 4096 - 512];
        let (bytes, _) = bytes.split_at_mut(3 * 4096);
        BUFFER.set(Vec::new());
        direct
            .write(Bytes(4096), WriteBuf::new(bytes), false, size, file.as_fd())
            .unwrap();
        direct.read(Bytes(4096), ReadBuf::new(bytes)).unwrap();
        BUFFER.with_borrow(|buffer| !buffer.is_empty())
    };
    assert!(!copies(0), "at a page");
    assert!(!copies(512), "at what the file system asks for");
    assert!(copies(80), "where a request's header ends");
}

#[test]
fn parts_of_one_block_written_at_once_are_all_kept() {
    let folder = TempDir::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let path = folder.path().join("disk");
    let file = File::create_new(&path).unwrap();
    file.set_len(8192).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let channel = Channel::open(file.as_fd(), Access::ReadWrite, OFlags::DIRECT).unwrap();
    let direct = DirectFile::new(
        channel,
        Alignment {
            memory: 512,
            block: 4096,
        },
    );
    std::thread::scope(|scope| {
        for sector in 0..4_u64 {
            let (direct, file) = (&direct, &file);
            scope.spawn(move || {
                for round in 1..=50_u8 {
                    let data = [round; 512];
                    let place = Bytes(sector * 1024);
                    let write = WriteBuf::new(&data);
                    direct
                        .write(place, write, false, Bytes(8192), file.as_fd())
                        .unwrap();
                }
            });
        }
    });
    let bytes = fs::read(&path).unwrap();
    for sector in 0..16 {
        let expected = if sector % 2 == 0 && sector < 8 { 50 } else { 0 };
        assert!(
            bytes[sector * 512..][..512]
                .iter()
                .all(|byte| *byte == expected),
            "{sector}"
        );
    }
}

#[test]
fn the_end_of_the_file_is_an_error() {
    let folder = TempDir::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let path = folder.path().join("disk");
    fs::write(&path, vec![1; 4096]).unwrap();
    let file = File::open(&path).unwrap();
    let direct = DirectFile::open(file.as_fd(), Access::ReadOnly).unwrap();
    let mut memory = vec![0; 8192];
    let read = direct.read(Bytes(4096), ReadBuf::new(&mut memory[..512]));
    assert_eq!(read.unwrap_err(), Errno::IO);
    assert_eq!(
        direct
            .read(Bytes(0), ReadBuf::new(&mut memory))
            .unwrap_err(),
        Errno::IO
    );
    let write = WriteBuf::new(&[0; 512]);
    let written = direct.write(Bytes(0), write, false, Bytes(4096), file.as_fd());
    assert_eq!(written.unwrap_err(), Errno::PERM);
    direct.allow_writing().unwrap();
    direct
        .write(
            Bytes(0),
            WriteBuf::new(&[2; 512]),
            false,
            Bytes(4096),
            file.as_fd(),
        )
        .unwrap();
    assert_eq!(fs::read(&path).unwrap()[..512], [2; 512]);
}

#[test]
fn spans_cover_their_blocks() {
    let block = 4096;
    for (at, len) in [
        (0, 512),
        (512, 512),
        (4096, 4096),
        (3584, 1024),
        (512, 5 << 20),
    ] {
        let span = Span::of(at, len, block);
        assert!(span.whole_len <= BOUNCE && span.len as u64 <= len);
        assert_eq!((span.start % block, span.whole_len as u64 % block), (0, 0));
        assert_eq!(span.start + span.skip as u64, at);
        assert!(span.skip + span.len <= span.whole_len);
        let end = at + span.len as u64;
        assert!(end == at + len || end.is_multiple_of(block));
    }
}
