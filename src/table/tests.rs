#![allow(clippy::unwrap_used)]

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

use super::{RowSpec, Table, TableContext};
use crate::io::{
    BlockDev, DeviceNumber, IoError, IoResult, Limits, OpenDevice, ReadBuf, Request, WriteBuf,
};
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::target::{Access, Behaviour, DeviceOpener, ModelRow, Naming, OpenError, TargetKind};
use crate::targets::KINDS;
use crate::targets::tests::{
    MemoryOpener, NUMBER, NoEvents, build, build_on, read, refused, write,
};
use crate::unit::{Sector, Sectors};

#[test]
fn the_kernel_says_the_same() {
    for (text, message) in [
        (
            "0 8 nosuch {0} 0",
            "table: 254:0: nosuch: unknown target type",
        ),
        ("0 0 linear {0} 0", "table: 254:0: zero-length target"),
        (
            "8 8 linear {0} 0",
            "table: 254:0: linear: Gap in table (-EINVAL)",
        ),
        (
            "0 8 linear",
            "table: 254:0: linear: Invalid argument count (-EINVAL)",
        ),
        (
            "0 8 linear {0} -1",
            "table: 254:0: linear: Invalid device sector (-EINVAL)",
        ),
        (
            "0 8 linear nosuch 0",
            "table: 254:0: linear: Device lookup failed (-ENODEV)",
        ),
        (
            "0 8 linear {0} 4095",
            "table: 254:0: {0} too small for target: start=4095, len=8, dev_size=4096",
        ),
        (
            "0 16 striped 2 8 {0} 0",
            "table: 254:0: striped: Not enough destinations specified (-EINVAL)",
        ),
        (
            "0 8 zero 1",
            "table: 254:0: zero: No arguments required (-EINVAL)",
        ),
        (
            "0 9 unstriped 2 8 0 {0} 0",
            "table: 254:0: unstriped: Target length not divisible by chunk size (-EINVAL)",
        ),
        ("0 36028797018963968 zero", "table: 254:0: too large device"),
    ] {
        assert_eq!(refused(text).messages[0], message);
    }
}

#[test]
fn an_error_names_row_and_word() {
    let error = refused("0 8 zero\n8 8 linear {0} x");
    assert_eq!(
        (error.row, error.word, error.found.as_deref()),
        (Some(2), Some(5), Some("x"))
    );
    assert_eq!(
        error.to_string(),
        "row 2: word 5: table: 254:0: linear: Invalid device sector (-EINVAL): \
         expected a sector number (plain decimal), found 'x'"
    );
}

#[test]
fn arguments_come_back_as_they_were() {
    for line in [
        "linear {0} 24",
        "striped 3 7 {0} 0 {1} 8 {2} 16",
        "unstriped 3 16 1 {0} 0",
        "zero ",
        "error ",
        "error {0} 8",
    ] {
        let table = build(&format!("0 336 {line}")).unwrap();
        let row = &table.rows()[0];
        let shown = format!("{} {}", row.kind().name, row.target().args(Naming::Paths));
        assert_eq!(shown, line);
    }
}

#[test]
fn rows_are_found_by_sector() {
    let rows: Vec<String> = (0..1000).map(|row| format!("{} 3 zero", row * 3)).collect();
    let table = build(&rows.join("\n")).unwrap();
    for at in 0..3000 {
        assert_eq!(
            table.row_at(Sector(at)).unwrap().start(),
            Sector(at / 3 * 3)
        );
    }
    assert!(table.row_at(Sector(3000)).is_none());
}

#[test]
fn requests_outside_the_table_fail() {
    let table = build("0 8 zero").unwrap();
    assert_eq!(read(&table, 7, 2), Err(IoError::IO));
    assert_eq!(read(&table, u64::MAX, 1), Err(IoError::IO));
    assert_eq!(
        table.submit(Request::discard(Sector(u64::MAX), Sectors(2))),
        Err(IoError::IO)
    );
}

#[test]
fn a_request_over_a_failing_row_fails_and_the_rest_is_written() {
    let opener = MemoryOpener::new();
    let table = build_on(&opener, "0 8 linear {0} 0\n8 8 error\n16 8 linear {0} 8").unwrap();
    assert_eq!(write(&table, 0, &[7; 24 * 512]), Err(IoError::IO));
    assert_eq!(read(&table, 0, 8).unwrap(), [7; 8 * 512]);
    assert_eq!(read(&table, 16, 8).unwrap(), [7; 8 * 512]);
}

#[test]
fn zeroes_are_written_where_a_target_cannot() {
    let table = build("0 2048 unstriped 1 8 0 {0} 0").unwrap();
    assert!(!table.limits().writes_zeroes());
    write(&table, 0, &[7; 2048 * 512]).unwrap();
    table
        .submit(Request::write_zeroes(Sector(5), Sectors(2000), true))
        .unwrap();
    assert_eq!(read(&table, 5, 2000).unwrap(), [0; 2000 * 512]);
    assert_eq!(read(&table, 0, 5).unwrap(), [7; 5 * 512]);
    assert_eq!(read(&table, 2005, 43).unwrap(), [7; 43 * 512]);
    assert_eq!(
        table.submit(Request::discard(Sector(0), Sectors(8))),
        Err(IoError::UNSUPPORTED)
    );
}

/// Counts requests.
#[derive(Default)]
struct Counting(AtomicU64);

impl BlockDev for Counting {
    fn capacity(&self) -> Sectors {
        Sectors(1 << 20)
    }

    fn limits(&self) -> Limits {
        Limits {
            logical_block_size: 4096,
            ..Limits::default()
        }
    }

    fn submit(&self, _request: Request<'_>) -> IoResult {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

struct CountingOpener(Arc<OpenDevice>);

impl DeviceOpener for CountingOpener {
    fn open(&self, _spec: &str, _access: Access) -> Result<Arc<OpenDevice>, OpenError> {
        Ok(self.0.clone())
    }
}

fn counting() -> (Arc<Counting>, CountingOpener) {
    let counting = Arc::new(Counting::default());
    let number = DeviceNumber { major: 7, minor: 0 };
    let device = OpenDevice {
        number,
        path: "x".into(),
        name: "x".into(),
        dev: counting.clone(),
        direct: false,
        mapped: None,
        part: None,
    };
    (counting, CountingOpener(Arc::new(device)))
}

#[test]
fn a_flush_reaches_each_device_once() {
    let (counting, opener) = counting();
    let table = build_on(
        &opener,
        "0 8 linear x 0\n8 8 linear x 8\n16 16 striped 2 8 x 16 x 24",
    )
    .unwrap();
    table.submit(Request::flush()).unwrap();
    assert_eq!(counting.0.load(Ordering::Relaxed), 1);
}

#[test]
fn each_stripe_gets_one_request_for_all_its_chunks() {
    let (counting, opener) = counting();
    let rows = "0 2048 striped 4 8 x 0 x 1024 x 2048 x 3072";
    let table = build_on(&opener, rows).unwrap();
    let mut data = vec![0; 1 << 20];
    let write = Request::write(Sector(0), WriteBuf::new(&data));
    table.submit(write).unwrap();
    assert_eq!(counting.0.swap(0, Ordering::Relaxed), 4);
    let read = Request::read(Sector(8), ReadBuf::new(&mut data[..4096 * 3]));
    table.submit(read).unwrap();
    assert_eq!(counting.0.load(Ordering::Relaxed), 3);
}

#[test]
fn blocks_of_the_device_below_bind_the_table() {
    let (_, opener) = counting();
    let text = |text: &str| build_on(&opener, text).err().unwrap().messages[0].clone();
    assert_eq!(
        text("0 8 linear x 1"),
        "table: 254:0: start=1 not aligned to h/w logical block size 4096 of x"
    );
    assert_eq!(
        text("0 9 linear x 0"),
        "table: 254:0: len=9 not aligned to h/w logical block size 4096 of x"
    );
    assert_eq!(
        text("0 7 zero\n7 8 linear x 0"),
        "table: 254:0: table line 1 (start sect 7 len 8) not aligned to h/w logical block size 4096"
    );
    assert!(build_on(&opener, "0 8 zero\n8 8 linear x 0").is_ok());
}

#[derive(Clone, Debug)]
enum Step {
    Read(u64, u64),
    Write(u64, u64, u8),
    Zero(u64, u64, bool),
    Discard(u64, u64),
    Flush,
}

impl Step {
    /// The same step, widened to whole blocks of `block` sectors.
    fn in_blocks(&self, block: u64) -> Step {
        let wide = |at: u64, len: u64| {
            let start = at / block * block;
            (start, (at + len).next_multiple_of(block) - start)
        };
        match *self {
            Step::Read(at, len) => {
                let (at, len) = wide(at, len);
                Step::Read(at, len)
            }
            Step::Write(at, len, fill) => {
                let (at, len) = wide(at, len);
                Step::Write(at, len, fill)
            }
            Step::Zero(at, len, may_unmap) => {
                let (at, len) = wide(at, len);
                Step::Zero(at, len, may_unmap)
            }
            Step::Discard(at, len) => {
                let (at, len) = wide(at, len);
                Step::Discard(at, len)
            }
            Step::Flush => Step::Flush,
        }
    }
}

fn step(len: u64) -> impl Strategy<Value = Step> {
    let range = move || (0..len).prop_flat_map(move |at| (Just(at), 1..=(len - at).min(200)));
    prop_oneof![
        range().prop_map(|(at, len)| Step::Read(at, len)),
        (range(), any::<u8>()).prop_map(|((at, len), fill)| Step::Write(at, len, fill)),
        (range(), any::<bool>()).prop_map(|((at, len), unmap)| Step::Zero(at, len, unmap)),
        range().prop_map(|(at, len)| Step::Discard(at, len)),
        Just(Step::Flush),
    ]
}

/// Plays steps on a row and on a plain vector, and compares.
fn play(kind: &TargetKind, row: &ModelRow, steps: &[Step]) {
    let table = build(&format!("0 {} {} {}", row.len, kind.name, row.args)).unwrap();
    // What a device holds at first is its own affair: an encrypted one does not read as zeroes.
    let mut model = match row.behaves {
        Behaviour::Disk => read(&table, 0, row.len).unwrap(),
        Behaviour::DropsWrites | Behaviour::Fails => vec![0u8; row.len as usize * 512],
    };
    let block = u64::from(table.limits().logical_block_size) / 512;
    // Where the row fails or drops everything, the model never changes.
    let keeps = row.behaves == Behaviour::Disk;
    let expected = if row.behaves == Behaviour::Fails {
        Err(IoError::IO)
    } else {
        Ok(())
    };
    let bytes = |at: u64, len: u64| at as usize * 512..(at + len) as usize * 512;
    for (index, step) in steps.iter().enumerate() {
        match step.in_blocks(block) {
            Step::Read(at, len) => {
                let seen = read(&table, at, len);
                assert_eq!(
                    seen,
                    expected.map(|()| model[bytes(at, len)].to_vec()),
                    "step {index}"
                );
            }
            Step::Write(at, len, fill) => {
                let data: Vec<u8> = (0..len * 512)
                    .map(|byte| fill ^ (byte / 512) as u8 ^ byte as u8)
                    .collect();
                assert_eq!(write(&table, at, &data), expected, "step {index}");
                if keeps {
                    model[bytes(at, len)].copy_from_slice(&data);
                }
            }
            Step::Zero(at, len, may_unmap) => {
                let request = Request::write_zeroes(Sector(at), Sectors(len), may_unmap);
                assert_eq!(table.submit(request), expected, "step {index}");
                model[bytes(at, len)].fill(0);
            }
            Step::Discard(at, len) => {
                match table.submit(Request::discard(Sector(at), Sectors(len))) {
                    // What a discarded range reads is the device's choice; the model learns it.
                    Ok(()) => {
                        model[bytes(at, len)].copy_from_slice(&read(&table, at, len).unwrap())
                    }
                    Err(error) if error == IoError::UNSUPPORTED => {
                        assert!(!table.limits().discards())
                    }
                    Err(error) => assert_eq!(Err(error), expected, "step {index}"),
                }
            }
            Step::Flush => table.submit(Request::flush()).unwrap(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_kind_behaves_like_its_model(
        (kind, row, steps) in (0..KINDS.len())
            .prop_flat_map(|kind| (Just(kind), 0..KINDS[kind].model.len()))
            .prop_flat_map(|(kind, row)| {
                let len = KINDS[kind].model[row].len;
                (Just(kind), Just(row), proptest::collection::vec(step(len), 1..40))
            })
    ) {
        play(KINDS[kind], &KINDS[kind].model[row], &steps);
    }

    #[test]
    fn no_line_panics(kind in 0..KINDS.len(), start: u64, len: u64, params in ".{0,60}") {
        let row = RowSpec { start: Sector(start), len: Sectors(len), kind: KINDS[kind].name.into(), params };
        let opener = MemoryOpener::new();
        let context = TableContext {
            kinds: KINDS,
            access: Access::ReadWrite,
            number: NUMBER,
            opener: &opener,
            events: Arc::new(NoEvents),
            again: false,
        };
        let _ = Table::build(&[row], &context);
    }
}

#[test]
fn every_kind_has_a_model() {
    for kind in KINDS {
        assert!(
            !kind.model.is_empty(),
            "{} has no row for the model test",
            kind.name
        );
    }
}

#[test]
fn a_hundred_thousand_rows_share_one_device() {
    let opener = MemoryOpener::new();
    let rows: Vec<String> = (0..100_000)
        .map(|row| format!("{row} 1 linear {{0}} {}", row % 4096))
        .collect();
    let table = build_on(&opener, &rows.join("\n")).unwrap();
    assert_eq!((table.rows().len(), table.devices().len()), (100_000, 1));
}

/// What a target tells of a sector is where a write to that sector goes. A target that does not tell is taken at
/// its word; one that tells of nowhere must change no device.
#[test]
fn every_kind_tells_where_its_data_is() {
    for kind in KINDS {
        for model in kind.model {
            let opener = MemoryOpener::new();
            let text = format!("0 {} {} {}", model.len, kind.name, model.args);
            let table = build_on(&opener, &text).unwrap();
            let row = &table.rows()[0];
            let block = u64::from(table.limits().logical_block_size) / 512;
            for at in (0..model.len).step_by(block as usize) {
                let mapping = row.target().mapping_at(Sector(at), row.len());
                assert!(mapping.len.0 > 0, "{text}: {at}: an empty run");
                let below: Vec<(Arc<OpenDevice>, u64)> = mapping
                    .places
                    .iter()
                    .map(|place| {
                        (
                            place.range.device().clone(),
                            place.range.start().0 + place.at.0,
                        )
                    })
                    .collect();
                let look = || {
                    let sectors = below.iter().map(|(device, at)| {
                        let mut bytes = [0; 512];
                        let read = Request::read(Sector(*at), ReadBuf::new(&mut bytes));
                        device.dev.submit(read).unwrap();
                        bytes.to_vec()
                    });
                    sectors.collect::<Vec<_>>()
                };
                let before = look();
                let data: Vec<u8> = (0..block * 512)
                    .map(|byte| (at + byte % 251) as u8 | 1)
                    .collect();
                let written = write(&table, at, &data);
                assert_eq!(written.is_ok(), model.behaves != Behaviour::Fails, "{text}");
                for (before, after) in before.iter().zip(look()) {
                    assert_ne!(*before, after, "{text}: sector {at} is not there");
                }
                let last = mapping.len.0.min(model.len - at) - 1;
                let end = row.target().mapping_at(Sector(at + last), row.len());
                for (place, end) in mapping.places.iter().zip(&end.places) {
                    assert_eq!(place.at.0 + last, end.at.0, "{text}: the run from {at} on");
                }
            }
        }
    }
}
