#![allow(clippy::unwrap_used)]

use std::thread;

use crate::io::{
    BlockDev, DeviceNumber, Flags, IoError, IoResult, Limits, Op, OpKind, OpenDevice, Part, Plan,
    Request,
};
use crate::sync::{Arc, Mutex};
use crate::target::{Access, DeviceOpener, Naming, OpenError};
use crate::targets::tests::{MemoryOpener, build, build_on, each_is_refused, read, write};
use crate::unit::{Sector, Sectors};

#[test]
fn lines_are_refused_in_the_kernels_words() {
    each_is_refused(&[
        ("0 8 ebs", "Invalid argument count (-EINVAL)"),
        ("0 8 ebs {0} 0", "Invalid argument count (-EINVAL)"),
        ("0 8 ebs {0} 0 1 8 8", "Invalid argument count (-EINVAL)"),
        ("0 8 ebs {0} x 1", "Invalid device offset sector (-EINVAL)"),
        ("0 8 ebs {0} 0 x", "Invalid emulated block size (-EINVAL)"),
        ("0 8 ebs {0} 0 0", "Invalid emulated block size (-EINVAL)"),
        ("0 8 ebs {0} 0 3", "Invalid emulated block size (-EINVAL)"),
        ("0 8 ebs {0} 0 16", "Invalid emulated block size (-EINVAL)"),
        (
            "0 8 ebs {0} 0 1 x",
            "Invalid underlying block size (-EINVAL)",
        ),
        (
            "0 8 ebs {0} 0 1 0",
            "Invalid underlying block size (-EINVAL)",
        ),
        (
            "0 8 ebs {0} 0 1 3",
            "Invalid underlying block size (-EINVAL)",
        ),
        // 2^16, of which the kernel reads 0.
        (
            "0 8 ebs {0} 0 1 65536",
            "Invalid underlying block size (-EINVAL)",
        ),
        ("0 8 ebs nosuch 0 1", "Device lookup failed (-ENODEV)"),
        (
            "0 8 ebs {0} 1 1 2",
            "Device offset must be multiple of underlying block size (-EINVAL)",
        ),
    ]);
}

#[test]
fn tables_are_shown_as_by_the_kernel() {
    for (given, shown) in [
        ("{0} 8 1 8", "{0} 8 1 8"),
        ("{0} 8 8", "{0} 8 8"),
        ("{0} 0 65537 32768", "{0} 0 1 32768"),
    ] {
        let table = build(&format!("0 2000 ebs {given}")).unwrap();
        let target = table.rows()[0].target();
        assert_eq!(target.args(Naming::Paths), shown);
        assert_eq!(target.status(Naming::Paths), "");
    }
}

/// A device of 4 KiB blocks that takes nothing else.
#[derive(Default)]
struct Coarse {
    data: Mutex<Vec<u8>>,
    asked: Mutex<Vec<(OpKind, u64, u64)>>,
}

const LEN: u64 = 128;

impl BlockDev for Coarse {
    fn capacity(&self) -> Sectors {
        Sectors(LEN)
    }

    fn limits(&self) -> Limits {
        Limits {
            logical_block_size: 4096,
            physical_block_size: 4096,
            max_discard: Sectors(LEN),
            ..Limits::default()
        }
    }

    fn submit(&self, request: Request<'_>) -> IoResult {
        let (at, end) = (request.at.0, request.end().0);
        self.asked.lock().push((request.op.kind(), at, end));
        if (at | end) % 8 != 0 || end > LEN {
            return Err(IoError::IO);
        }
        let mut data = self.data.lock();
        data.resize(LEN as usize * 512, 0);
        let mut rest = &mut data[at as usize * 512..end as usize * 512];
        match request.op {
            Op::Read(mut buffer) => buffer.for_each_piece(|piece| {
                let (from, after) = std::mem::take(&mut rest).split_at_mut(piece.len());
                piece.copy_from_slice(from);
                rest = after;
            }),
            Op::Write(buffer) => buffer.for_each_piece(|piece| {
                let (to, after) = std::mem::take(&mut rest).split_at_mut(piece.len());
                to.copy_from_slice(piece);
                rest = after;
            }),
            Op::Discard | Op::WriteZeroes { .. } => rest.fill(0),
            Op::Flush => {}
        }
        Ok(())
    }
}

struct CoarseOpener(Arc<Coarse>);

impl DeviceOpener for CoarseOpener {
    fn open(&self, _spec: &str, _access: Access) -> Result<Arc<OpenDevice>, OpenError> {
        Ok(Arc::new(OpenDevice {
            number: DeviceNumber { major: 7, minor: 0 },
            path: "x".into(),
            name: "x".into(),
            dev: self.0.clone(),
            direct: false,
            mapped: None,
            part: None,
        }))
    }
}

fn coarse() -> (Arc<Coarse>, CoarseOpener) {
    let coarse = Arc::new(Coarse::default());
    (coarse.clone(), CoarseOpener(coarse))
}

#[test]
fn a_device_of_large_blocks_is_shown_with_small_ones() {
    let (_, opener) = coarse();
    let table = build_on(&opener, "0 120 ebs x 8 1").unwrap();
    let limits = table.limits();
    assert_eq!(
        (limits.logical_block_size, limits.physical_block_size),
        (512, 4096)
    );
    let mut model = vec![0u8; 120 * 512];
    for (at, len) in [
        (0, 8),
        (3, 5),
        (3, 1),
        (7, 2),
        (1, 30),
        (8, 9),
        (119, 1),
        (0, 120),
        (63, 57),
    ] {
        let data: Vec<u8> = (0..len * 512).map(|byte| (byte ^ at ^ 7) as u8).collect();
        write(&table, at, &data).unwrap();
        model[at as usize * 512..][..data.len()].copy_from_slice(&data);
        for (at, len) in [(0, 120), (at, len), (2, 7), (119, 1)] {
            let seen = read(&table, at, len).unwrap();
            assert_eq!(seen, model[at as usize * 512..][..len as usize * 512]);
        }
    }
}

/// As Linux 6.1 takes it over a loop device of 4 KiB blocks: the blocks shown are what rows have to be made of.
#[test]
fn a_row_over_large_blocks_may_end_inside_one() {
    let (_, opener) = coarse();
    let table = build_on(&opener, "0 119 ebs x 8 1").unwrap();
    write(&table, 118, &[3; 512]).unwrap();
    assert_eq!(read(&table, 117, 2).unwrap(), [[0; 512], [3; 512]].concat());
}

#[test]
fn only_blocks_that_are_covered_in_part_are_read_first() {
    let (device, opener) = coarse();
    let table = build_on(&opener, "0 120 ebs x 8 1").unwrap();
    for (at, len, asked) in [
        (8, 8, vec![(OpKind::Write, 16, 24)]),
        (9, 2, vec![(OpKind::Read, 16, 24), (OpKind::Write, 16, 24)]),
        (8, 9, vec![(OpKind::Read, 24, 32), (OpKind::Write, 16, 32)]),
        (9, 7, vec![(OpKind::Read, 16, 24), (OpKind::Write, 16, 24)]),
        (9, 15, vec![(OpKind::Read, 16, 24), (OpKind::Write, 16, 32)]),
        (
            9,
            20,
            vec![
                (OpKind::Read, 16, 24),
                (OpKind::Read, 32, 40),
                (OpKind::Write, 16, 40),
            ],
        ),
    ] {
        write(&table, at, &vec![1; len * 512]).unwrap();
        assert_eq!(
            std::mem::take(&mut *device.asked.lock()),
            asked,
            "{at} {len}"
        );
    }
}

#[test]
fn discards_spare_blocks_that_are_not_whole() {
    let (device, opener) = coarse();
    let table = build_on(&opener, "0 120 ebs x 8 1").unwrap();
    for (at, len, asked) in [
        (8, 8, vec![(OpKind::Discard, 16, 24)]),
        (9, 7, vec![]),
        (9, 14, vec![]),
        (9, 15, vec![(OpKind::Discard, 24, 32)]),
        (1, 30, vec![(OpKind::Discard, 16, 32)]),
    ] {
        table
            .submit(Request::discard(Sector(at), Sectors(len)))
            .unwrap();
        assert_eq!(
            std::mem::take(&mut *device.asked.lock()),
            asked,
            "{at} {len}"
        );
    }
}

#[test]
fn a_row_may_end_inside_a_block() {
    let opener = MemoryOpener::new();
    let table = build_on(&opener, "0 1001 ebs {0} 8 1 8").unwrap();
    let below = build_on(&opener, "0 1016 linear {0} 8").unwrap();
    write(&below, 0, &[1; 1016 * 512]).unwrap();
    write(&table, 1000, &[2; 512]).unwrap();
    assert_eq!(read(&table, 999, 2).unwrap(), [[1; 512], [2; 512]].concat());
    assert_eq!(read(&below, 1001, 15).unwrap(), [1; 15 * 512]);
    assert_eq!(read(&table, 1001, 1), Err(IoError::IO));
}

#[test]
fn neighbours_in_a_block_keep_what_they_wrote() {
    let table = build("0 64 ebs {0} 0 1 8").unwrap();
    thread::scope(|scope| {
        for lane in 0..4u64 {
            let table = &table;
            scope.spawn(move || {
                for turn in 0..200u64 {
                    let fill = (turn + lane) as u8;
                    write(table, lane * 2, &[fill; 1024]).unwrap();
                    assert_eq!(read(table, lane * 2, 2).unwrap(), [fill; 1024]);
                    write(table, 8 + (turn % 4) * 8, &[fill; 4096]).unwrap();
                }
            });
        }
    });
}

#[test]
fn whole_blocks_are_planned_until_one_is_written_in_part() {
    let table = build("0 64 ebs {0} 0 1 8").unwrap();
    let plan = |kind, at, len| {
        let mut plan = Plan::new(kind, Flags::default());
        table
            .plan(Part::whole(Sector(at), Sectors(len)), &mut plan)
            .is_ok()
    };
    // Memory is not planned; what is refused here is refused by it alone.
    assert!(!plan(OpKind::Read, 0, 8));
    assert!(!plan(OpKind::Read, 1, 8));
    // A plan that was given up keeps nobody out.
    assert!(!plan(OpKind::Write, 0, 8));
    write(&table, 1, &[1; 512]).unwrap();
    write(&table, 0, &[1; 4096]).unwrap();
}
