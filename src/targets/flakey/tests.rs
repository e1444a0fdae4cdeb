#![allow(clippy::unwrap_used)]

use crate::io::{Flags, IoError, OpKind, Part, Plan, Request, WriteBuf};
use crate::table::Table;
use crate::target::Naming;
use crate::targets::tests::{MemoryOpener, build, build_on, each_is_refused, message, read, write};
use crate::unit::{Sector, Sectors};

#[test]
fn lines_are_refused_in_the_kernels_words() {
    each_is_refused(&[
        ("0 8 flakey", "Invalid argument count (-EINVAL)"),
        ("0 8 flakey {0} 0 1", "Invalid argument count (-EINVAL)"),
        ("0 8 flakey {0} x 1 1", "Invalid device sector (-EINVAL)"),
        ("0 8 flakey {0} 0 -1 1", "Invalid up interval (-EINVAL)"),
        ("0 8 flakey {0} 0 1 x", "Invalid up interval (-EINVAL)"),
        (
            "0 8 flakey {0} 0 4294967295 1",
            "Total (up + down) interval is zero (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 0 0",
            "Total (up + down) interval is zero (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 4294967295 2",
            "Interval overflow (-EINVAL)",
        ),
        ("0 8 flakey nosuch 0 1 1", "Device lookup failed (-ENODEV)"),
        (
            "0 8 flakey {0} 0 1 1 x",
            "Invalid number of feature args (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 12 a b c d e f g h i j k l",
            "Invalid number of feature args (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 2 drop_writes",
            "Invalid number of feature args (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 1 bogus",
            "Unrecognised flakey feature requested (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 2 error_reads error_reads",
            "Feature error_reads duplicated (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 2 drop_writes drop_writes",
            "Feature drop_writes duplicated (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 2 error_writes error_writes",
            "Feature error_writes duplicated (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 2 error_writes drop_writes",
            "Feature drop_writes conflicts with feature error_writes (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 2 drop_writes error_writes",
            "Feature error_writes conflicts with feature drop_writes (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 1 corrupt_bio_byte 1 w 1 0",
            "Feature corrupt_bio_byte requires parameters (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 2 corrupt_bio_byte 1 w 1 0",
            "Insufficient feature arguments (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 2 corrupt_bio_byte 1",
            "Invalid corrupt bio direction (r or w) (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 5 corrupt_bio_byte 0 w 1 0",
            "Invalid corrupt bio byte (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 5 corrupt_bio_byte 1 x 1 0",
            "Invalid corrupt bio direction (r or w) (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 5 corrupt_bio_byte 1 w 256 0",
            "Invalid corrupt value to write into bio byte (0-255) (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 4 corrupt_bio_byte 1 w 1",
            "Invalid corrupt bio flags mask (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 6 drop_writes corrupt_bio_byte 1 w 1 0",
            "drop_writes is incompatible with corrupt_bio_byte with the WRITE flag set (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 6 error_writes corrupt_bio_byte 1 w 1 0",
            "error_writes is incompatible with corrupt_bio_byte with the WRITE flag set (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 1 random_read_corrupt",
            "Feature random_read_corrupt requires a parameter (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 1 random_write_corrupt",
            "Feature random_write_corrupt requires a parameter (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 2 random_read_corrupt 1000000001",
            "Invalid random corrupt argument (-EINVAL)",
        ),
        (
            "0 8 flakey dmfs:seed=x {0} 0 1 1",
            "Invalid dmfs argument (-EINVAL)",
        ),
        (
            "0 8 flakey dmfs: {0} 0 1 1",
            "Invalid dmfs argument (-EINVAL)",
        ),
        (
            "0 8 flakey dmfs:seed=1,seed=2 {0} 0 1 1",
            "Invalid dmfs argument (-EINVAL)",
        ),
        (
            "0 8 flakey dmfs:clock=requests,clock=messages {0} 0 1 1",
            "Invalid dmfs argument (-EINVAL)",
        ),
        (
            "0 8 flakey {0} 0 1 1 1 dmfs:seed=1",
            "Unrecognised flakey feature requested (-EINVAL)",
        ),
    ]);
}

#[test]
fn tables_are_shown_as_by_the_kernel() {
    for (given, shown) in [
        ("{0} 8 1 1", "{0} 8 1 1 2 error_reads error_writes"),
        (
            "{0} 8 1 1 0 what follows",
            "{0} 8 1 1 2 error_reads error_writes",
        ),
        (
            "{0} 8 1 1 2 random_read_corrupt 0",
            "{0} 8 1 1 2 error_reads error_writes",
        ),
        ("{0} 8 1 1 1 DROP_WRITES", "{0} 8 1 1 1 drop_writes"),
        (
            "{0} 8 1 1 6 corrupt_bio_byte 1 r 1 0 error_writes",
            "{0} 8 1 1 6 error_writes corrupt_bio_byte 1 r 1 0",
        ),
        (
            "{0} 8 1 1 5 Corrupt_Bio_Byte 4294967295 W 255 4294967295",
            "{0} 8 1 1 5 corrupt_bio_byte 4294967295 w 255 4294967295",
        ),
        (
            "{0} 8 1 1 6 random_write_corrupt 5 drop_writes error_reads random_read_corrupt 7",
            "{0} 8 1 1 6 error_reads drop_writes random_read_corrupt 7 random_write_corrupt 5",
        ),
        (
            "dmfs:clock=requests,seed=7 {0} 8 1 1 1 error_reads",
            "dmfs:seed=7,clock=requests {0} 8 1 1 1 error_reads",
        ),
        (
            "dmfs:clock=messages {0} 8 1 1 1 error_reads",
            "dmfs:clock=messages {0} 8 1 1 1 error_reads",
        ),
    ] {
        let table = build(&format!("0 100 flakey {given}")).unwrap();
        let target = table.rows()[0].target();
        assert_eq!(target.args(Naming::Paths), shown);
        assert_eq!(target.status(Naming::Paths), "");
        let again = build(&format!("0 100 flakey {shown}")).unwrap();
        assert_eq!(again.rows()[0].target().args(Naming::Paths), shown);
    }
}

fn flush(table: &Table) -> Result<(), IoError> {
    table.submit(Request::flush())
}

fn discard(table: &Table) -> Result<(), IoError> {
    table.submit(Request::discard(Sector(0), Sectors(8)))
}

#[test]
fn intervals_come_in_turns() {
    let table = build("0 100 flakey dmfs:clock=requests {0} 0 3 2").unwrap();
    for turn in 0..4 {
        for request in 0..5 {
            assert_eq!(
                read(&table, 0, 1).is_err(),
                request >= 3,
                "{turn} {request}"
            );
        }
    }
}

#[test]
fn messages_drive_time() {
    let table = build("0 100 flakey dmfs:clock=messages {0} 0 3 2").unwrap();
    for (text, is_down) in [
        ("dmfs:tick", false),
        ("dmfs:tick 1", false),
        ("dmfs:tick 1", true),
        ("dmfs:tick 1", true),
        ("dmfs:tick 6", false),
        ("dmfs:tick 3", true),
    ] {
        assert_eq!(message(&table, text).unwrap(), "");
        let again = build("0 100 flakey dmfs:clock=messages {0} 0 3 2").unwrap();
        for text in table.rows()[0].target().recall() {
            message(&again, &text).unwrap();
        }
        assert_eq!(read(&again, 0, 1).is_err(), is_down);
        assert_eq!(
            (read(&table, 0, 1).is_err(), flush(&table).is_err()),
            (is_down, is_down)
        );
    }
    for text in ["dmfs:tick 0", "dmfs:tick x", "dmfs:tick -1"] {
        assert_eq!(message(&table, text).unwrap_err().line, None);
    }
    let unsupported = Some("ioctl: Target type does not support messages".to_owned());
    for text in ["tick", "dmfs:tick 1 2", "Dmfs:tick"] {
        assert_eq!(message(&table, text).unwrap_err().line, unsupported);
    }
    let real = build("0 100 flakey {0} 0 3 2").unwrap();
    assert_eq!(message(&real, "dmfs:tick").unwrap_err().line, unsupported);
}

/// What becomes of a read, a write, a flush and a discard while the device is down, and whether the write arrives.
#[test]
fn features_say_what_becomes_of_requests() {
    let io = Err(IoError::IO);
    for (features, outcomes, arrives) in [
        ("", [io, io, io, io], false),
        ("1 error_reads", [io, Ok(()), Ok(()), Ok(())], true),
        ("1 error_writes", [Ok(()), io, io, io], false),
        ("1 drop_writes", [Ok(()), Ok(()), Ok(()), Ok(())], false),
        (
            "2 drop_writes error_reads",
            [io, Ok(()), Ok(()), Ok(())],
            false,
        ),
    ] {
        let opener = MemoryOpener::new();
        let down = build_on(&opener, &format!("0 100 flakey {{0}} 0 0 1 {features}")).unwrap();
        let below = build_on(&opener, "0 100 linear {0} 0").unwrap();
        write(&below, 0, &[1; 4096]).unwrap();
        let written = write(&down, 0, &[2; 4096]);
        let arrived = read(&below, 0, 8).unwrap() == [2; 4096];
        let seen = [
            read(&down, 0, 8).map(drop),
            written,
            flush(&down),
            discard(&down),
        ];
        assert_eq!((seen, arrived), (outcomes, arrives), "{features}");
    }
}

#[test]
fn a_byte_of_each_request_is_replaced() {
    let opener = MemoryOpener::new();
    let below = build_on(&opener, "0 100 linear {0} 0").unwrap();
    write(&below, 0, &[1; 8192]).unwrap();
    let reads = "0 100 flakey {0} 0 0 1 5 corrupt_bio_byte 600 r 9 0";
    let reads = build_on(&opener, reads).unwrap();
    let mut expected = vec![1; 4096];
    expected[599] = 9;
    assert_eq!(read(&reads, 0, 8).unwrap(), expected);
    assert_eq!(read(&reads, 0, 1).unwrap(), [1; 512]);
    assert_eq!(read(&below, 0, 8).unwrap(), [1; 4096]);
    let writes = "0 100 flakey {0} 0 0 1 5 corrupt_bio_byte 600 w 9 0";
    let writes = build_on(&opener, writes).unwrap();
    let data = vec![2; 4096];
    write(&writes, 0, &data).unwrap();
    expected.fill(2);
    expected[599] = 9;
    assert_eq!(read(&below, 0, 8).unwrap(), expected);
    assert_eq!(read(&writes, 0, 8).unwrap(), expected);
}

#[test]
fn a_mask_chooses_requests_by_their_flags() {
    let fua = 1 << 17;
    for (mask, plain, durable) in [
        (0, true, true),
        (fua, false, true),
        (1, true, true),
        (1 << 12, false, false),
    ] {
        let text = format!("0 100 flakey {{0}} 0 0 1 5 corrupt_bio_byte 1 w 9 {mask}");
        let table = build(&text).unwrap();
        let corrupts = |fua| {
            let flags = Flags {
                fua,
                ..Flags::default()
            };
            let request = Request::write(Sector(0), WriteBuf::new(&[1; 512]));
            table.submit(request.with_flags(flags)).unwrap();
            read(&table, 0, 1).unwrap()[0] == 9
        };
        assert_eq!(
            (corrupts(false), corrupts(true)),
            (plain, durable),
            "{mask}"
        );
    }
    // A read is operation 0.
    let text = "0 100 flakey {0} 0 0 1 5 corrupt_bio_byte 1 r 9 1";
    assert_eq!(read(&build(text).unwrap(), 0, 1).unwrap()[0], 0);
}

/// Every byte of 64 reads and writes through a device that corrupts half of them.
fn chance(word: &str) -> Vec<Vec<u8>> {
    let opener = MemoryOpener::new();
    let text = format!(
        "0 1000 flakey {word} {{0}} 0 0 1 4 random_read_corrupt 500000000 random_write_corrupt 500000000"
    );
    let table = build_on(&opener, &text).unwrap();
    let below = build_on(&opener, "0 1000 linear {0} 0").unwrap();
    (0..64)
        .flat_map(|at| {
            write(&table, at, &[0; 512]).unwrap();
            [read(&below, at, 1).unwrap(), read(&table, at, 1).unwrap()]
        })
        .collect()
}

#[test]
fn chance_repeats_with_its_seed() {
    let first = chance("dmfs:seed=5");
    assert_eq!(chance("dmfs:seed=5"), first);
    assert_ne!(chance("dmfs:seed=6"), first);
    assert_ne!(chance("dmfs:clock=requests"), chance("dmfs:clock=requests"));
    let bad = first.iter().filter(|bytes| **bytes != [0; 512]).count();
    // 64 writes and as many reads of what those left; nearly all are as likely as not.
    assert!((32..=112).contains(&bad), "{bad} of 128");
    assert!(
        first
            .iter()
            .all(|bytes| bytes.iter().filter(|byte| **byte != 0).count() <= 2)
    );
}

#[test]
fn a_request_that_is_put_off_is_no_tick() {
    let table = build("0 100 flakey dmfs:clock=requests {0} 0 1 1").unwrap();
    let nowait = Flags {
        nowait: true,
        ..Flags::default()
    };
    for _ in 0..3 {
        let mut bytes = [0; 512];
        let request = Request::read(Sector(0), crate::io::ReadBuf::new(&mut bytes));
        assert_eq!(
            table.submit(request.with_flags(nowait)),
            Err(IoError::WOULD_WAIT)
        );
        let mut plan = Plan::new(OpKind::Read, nowait);
        assert!(
            table
                .plan(Part::whole(Sector(0), Sectors(1)), &mut plan)
                .is_err()
        );
    }
    assert_eq!(read(&table, 0, 1).map(drop), Ok(()));
    assert_eq!(read(&table, 0, 1).map(drop), Err(IoError::IO));
}

#[test]
fn what_is_always_up_asks_no_clock_and_flushes() {
    let table = build("0 100 flakey {0} 0 1 0 1 error_writes").unwrap();
    write(&table, 0, &[1; 512]).unwrap();
    flush(&table).unwrap();
    let mut plan = Plan::new(OpKind::Flush, Flags::default());
    assert!(
        table
            .plan(Part::whole(Sector(0), Sectors::ZERO), &mut plan)
            .is_ok()
    );
}
