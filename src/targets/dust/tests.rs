#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

use crate::io::{IoError, Request};
use crate::table::Table;
use crate::targets::tests::{build, each_is_refused, message, read, write};
use crate::unit::{Sector, Sectors};

fn status(table: &Table) -> String {
    table.rows()[0]
        .target()
        .status(crate::target::Naming::Paths)
}

#[test]
fn lines_are_refused_in_the_kernels_words() {
    each_is_refused(&[
        ("0 8 dust", "Invalid argument count (-EINVAL)"),
        ("0 8 dust {0} 0", "Invalid argument count (-EINVAL)"),
        ("0 8 dust {0} 0 512 1", "Invalid argument count (-EINVAL)"),
        ("0 8 dust {0} 0 0", "Invalid block size parameter (-EINVAL)"),
        ("0 8 dust {0} 0 x", "Invalid block size parameter (-EINVAL)"),
        (
            "0 8 dust {0} 0 4294967296",
            "Invalid block size parameter (-EINVAL)",
        ),
        (
            "0 8 dust {0} 0 256",
            "Block size must be at least 512 (-EINVAL)",
        ),
        (
            "0 8 dust {0} 0 513",
            "Block size must be a power of 2 (-EINVAL)",
        ),
        ("0 8 dust {0} 0 8192", "Block size is too large (-EINVAL)"),
        (
            "0 8 dust {0} x 512",
            "Invalid device offset sector (-EINVAL)",
        ),
        ("0 8 dust nosuch 0 512", "Device lookup failed (-EINVAL)"),
        // What the kernel looks at first is told first.
        (
            "0 8 dust nosuch x 513",
            "Block size must be a power of 2 (-EINVAL)",
        ),
    ]);
}

/// A message and what the kernel answers: a reply, or the line that it logs (none where it is empty).
fn said(table: &Table, text: &str) -> Result<String, String> {
    message(table, text).map_err(|error| {
        assert_eq!(error.errno, crate::io::Errno::INVAL);
        assert!(error.expected.is_some(), "{text}");
        error.line.unwrap_or_default()
    })
}

/// Recorded from Linux 6.1 over a device of 2048 sectors, whose last block is number 1023; here it is 2047.
#[test]
fn messages_are_answered_in_the_kernels_words() {
    let table = build("0 4080 dust {0} 8 1024").unwrap();
    let ok = |text: &str| Ok::<_, String>(text.to_owned());
    let no = |text: &str| Err::<String, _>(text.to_owned());
    for (text, answer) in [
        (
            "addbadblock",
            no("dust: addbadblock requires an additional argument"),
        ),
        (
            "RemoveBadBlock",
            no("dust: RemoveBadBlock requires an additional argument"),
        ),
        (
            "queryblock",
            no("dust: queryblock requires an additional argument"),
        ),
        ("AddBadBlock 60", ok("")),
        (
            "addbadblock 60 3",
            no("dust: dust_add_block: block 60 already in badblocklist"),
        ),
        ("addbadblock 61 3", ok("")),
        (
            "addbadblock 61 256",
            no("dust: selected write fail count out of range"),
        ),
        ("addbadblock 62 255", ok("")),
        ("addbadblock 62 x", no("")),
        ("addbadblock x", no("")),
        ("addbadblock x 256", no("")),
        ("addbadblock 2048", ok("")),
        (
            "addbadblock 2049",
            no("dust: selected block value out of range"),
        ),
        (
            "addbadblock 2049 256",
            no("dust: selected write fail count out of range"),
        ),
        (
            "queryblock 2049",
            no("dust: selected block value out of range"),
        ),
        (
            "queryblock 60",
            ok("dust_query_block: block 60 found in badblocklist"),
        ),
        (
            "queryblock 63",
            ok("dust_query_block: block 63 not found in badblocklist"),
        ),
        (
            "queryblock 60 1",
            no("dust: unrecognized message 'queryblock' received"),
        ),
        ("removebadblock 60", ok("")),
        (
            "removebadblock 60",
            no("dust: dust_remove_block: block 60 not found in badblocklist"),
        ),
        (
            "removebadblock 62 1",
            no("dust: unrecognized message 'removebadblock' received"),
        ),
        ("countbadblocks", ok("countbadblocks: 3 badblock(s) found")),
        (
            "countbadblocks 1",
            no("dust: unrecognized message 'countbadblocks' received"),
        ),
        ("listbadblocks", ok("61\n62\n2048\n")),
        ("COUNTBADBLOCKS", ok("countbadblocks: 3 badblock(s) found")),
        (
            "enable 1",
            no("dust: unrecognized message 'enable' received"),
        ),
        ("enable", ok("")),
        ("enable", ok("")),
        ("disable", ok("")),
        (
            "clearbadblocks",
            ok("dust_clear_badblocks: badblocks cleared"),
        ),
        (
            "clearbadblocks",
            ok("dust_clear_badblocks: no badblocks found"),
        ),
        ("listbadblocks", ok("No blocks in badblocklist")),
        (
            "nonsense",
            no("dust: unrecognized message 'nonsense' received"),
        ),
        (
            "nonsense 1",
            no("dust: unrecognized message 'nonsense' received"),
        ),
        (
            "nonsense 1 1",
            no("dust: unrecognized message 'nonsense' received"),
        ),
        (
            "nonsense 1 1 1",
            no("dust: invalid number of arguments '4'"),
        ),
        (
            "addbadblock 1 2 3",
            no("dust: invalid number of arguments '4'"),
        ),
        ("addbadblock +1", no("")),
        ("addbadblock 01", ok("")),
        // 2^64 + 1.
        (
            "addbadblock 18446744073709551617",
            no("dust: dust_add_block: block 1 already in badblocklist"),
        ),
        // What is wrong with the list is not told in a quiet device, what is wrong with the message is.
        ("quiet", ok("")),
        ("addbadblock 1", no("")),
        ("removebadblock 6", no("")),
        (
            "nonsense",
            no("dust: unrecognized message 'nonsense' received"),
        ),
        (
            "addbadblock",
            no("dust: addbadblock requires an additional argument"),
        ),
        (
            "addbadblock 9999",
            no("dust: selected block value out of range"),
        ),
        (
            "addbadblock 1 256",
            no("dust: selected write fail count out of range"),
        ),
    ] {
        assert_eq!(said(&table, text), answer, "{text}");
    }
}

#[test]
fn the_status_tells_the_mode() {
    let table = build("0 4080 dust {0} 8 1024").unwrap();
    assert_eq!(status(&table), "{0} bypass verbose");
    message(&table, "enable").unwrap();
    message(&table, "quiet").unwrap();
    assert_eq!(status(&table), "{0} fail_read_on_bad_block quiet");
    message(&table, "disable").unwrap();
    message(&table, "quiet").unwrap();
    assert_eq!(status(&table), "{0} bypass verbose");
}

#[test]
fn what_messages_have_made_of_it_is_recalled() {
    let table = build("0 4080 dust {0} 8 1024").unwrap();
    let target = table.rows()[0].target();
    assert_eq!(target.recall(), Vec::<String>::new());
    let messages = ["addbadblock 3 0", "addbadblock 9 255", "enable", "quiet"];
    for text in messages {
        message(&table, text).unwrap();
    }
    assert_eq!(target.recall(), messages);
}

/// As Linux 6.1 does it with `0 2040 dust DEVICE 1 4096` and blocks 0 and 1: a piece counts by its first sector.
#[test]
fn pieces_begin_with_the_row() {
    let table = build("0 2040 dust {0} 1 4096").unwrap();
    for text in ["addbadblock 0", "addbadblock 1", "enable"] {
        message(&table, text).unwrap();
    }
    for at in 0..18 {
        assert_eq!(read(&table, at, 1).is_err(), at < 15, "{at}");
    }
    assert!(read(&table, 8, 8).is_err());
    assert!(read(&table, 16, 8).is_ok());
    message(&table, "removebadblock 0").unwrap();
    // Its first sector lies in block 0, its last one in block 1.
    assert!(read(&table, 0, 8).is_ok());
    assert!(read(&table, 0, 9).is_err());
}

#[test]
fn a_write_that_fails_in_part_is_written_elsewhere() {
    let table = build("0 2040 dust {0} 8 1024").unwrap();
    for text in [
        "addbadblock 8",
        "addbadblock 9",
        "addbadblock 10 1",
        "enable",
    ] {
        message(&table, text).unwrap();
    }
    assert_eq!(write(&table, 8, &[7; 4096]), Err(IoError::IO));
    assert_eq!(message(&table, "listbadblocks").unwrap(), "10\n");
    message(&table, "disable").unwrap();
    let seen = read(&table, 8, 8).unwrap();
    let (before, rest) = seen.split_at(2048);
    let (bad, after) = rest.split_at(1024);
    assert!(before.iter().chain(after).all(|&byte| byte == 7));
    assert_eq!(bad, [0; 1024]);
}

#[test]
fn a_put_off_write_counts_once() {
    let table = build("0 2040 dust {0} 8 1024").unwrap();
    for text in ["addbadblock 8 1", "enable"] {
        message(&table, text).unwrap();
    }
    let data = [7; 1024];
    let try_write = |nowait| {
        let request = Request::write(Sector(8), crate::io::WriteBuf::new(&data));
        let flags = crate::io::Flags {
            nowait,
            ..Default::default()
        };
        table.submit(request.with_flags(flags))
    };
    assert_eq!(try_write(true), Err(IoError::WOULD_WAIT));
    assert_eq!(try_write(false), Err(IoError::IO));
    assert_eq!(try_write(false), Ok(()));
}

#[test]
fn a_long_discard_meets_its_first_block_alone() {
    let table = build("0 2040 dust {0} 0 512").unwrap();
    for text in ["addbadblock 9 1", "enable"] {
        message(&table, text).unwrap();
    }
    let discard = |at| table.submit(Request::discard(Sector(at), Sectors(8)));
    assert_eq!(discard(8), Ok(()));
    assert_eq!(discard(9), Err(IoError::IO));
    assert_eq!(discard(9), Ok(()));
    assert_eq!(
        message(&table, "countbadblocks").unwrap(),
        "countbadblocks: 0 badblock(s) found"
    );
}

#[derive(Clone, Debug)]
enum Step {
    Add(u64, u8),
    Remove(u64),
    Clear,
    Enable(bool),
    Read(u64, u64),
    Write(u64, u64, u8),
}

const LEN: u64 = 120;
const OFFSET: u64 = 5;
const BLOCK: u64 = 8;

fn step() -> impl Strategy<Value = Step> {
    let block = || 0..(OFFSET + LEN) / BLOCK + 1;
    let range = || (0..LEN).prop_flat_map(|at| (Just(at), 1..=(LEN - at).min(60)));
    prop_oneof![
        3 => (block(), 0..3u8).prop_map(|(block, refuses)| Step::Add(block, refuses)),
        1 => block().prop_map(Step::Remove),
        1 => Just(Step::Clear),
        1 => any::<bool>().prop_map(Step::Enable),
        3 => range().prop_map(|(at, len)| Step::Read(at, len)),
        3 => (range(), any::<u8>()).prop_map(|((at, len), fill)| Step::Write(at, len, fill)),
    ]
}

/// What the kernel does, piece by piece.
#[derive(Default)]
struct Model {
    data: Vec<u8>,
    bad: BTreeMap<u64, u8>,
    enabled: bool,
}

impl Model {
    fn pieces(at: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
        let starts = (at..at + len).filter(move |sector| *sector == at || sector % BLOCK == 0);
        starts.map(move |start| (start, ((start / BLOCK + 1) * BLOCK).min(at + len)))
    }

    fn fails(&mut self, piece: u64, writes: bool) -> bool {
        let block = (piece + OFFSET) / BLOCK;
        match self.bad.get_mut(&block) {
            Some(_) if !self.enabled => false,
            None => false,
            Some(_) if !writes => true,
            Some(0) => {
                self.bad.remove(&block);
                false
            }
            Some(refuses) => {
                *refuses -= 1;
                true
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_list_is_kept_as_the_kernel_keeps_it(steps in proptest::collection::vec(step(), 1..60)) {
        let table = build(&format!("0 {LEN} dust {{0}} {OFFSET} {}", BLOCK * 512)).unwrap();
        let mut model = Model { data: vec![0; LEN as usize * 512], ..Model::default() };
        let bytes = |at: u64, end: u64| at as usize * 512..end as usize * 512;
        for step in steps {
            match step {
                Step::Add(block, refuses) => {
                    let new = !model.bad.contains_key(&block);
                    model.bad.entry(block).or_insert(refuses);
                    assert_eq!(message(&table, &format!("addbadblock {block} {refuses}")).is_ok(), new);
                }
                Step::Remove(block) => {
                    let had = model.bad.remove(&block).is_some();
                    assert_eq!(message(&table, &format!("removebadblock {block}")).is_ok(), had);
                }
                Step::Clear => {
                    model.bad.clear();
                    message(&table, "clearbadblocks").unwrap();
                }
                Step::Enable(enabled) => {
                    model.enabled = enabled;
                    message(&table, if enabled { "enable" } else { "disable" }).unwrap();
                }
                Step::Read(at, len) => {
                    let fails = Model::pieces(at, len).filter(|(start, _)| model.fails(*start, false)).count() > 0;
                    match read(&table, at, len) {
                        Ok(seen) => assert_eq!((seen.as_slice(), fails), (&model.data[bytes(at, at + len)], false)),
                        Err(error) => assert_eq!((error, fails), (IoError::IO, true)),
                    }
                }
                Step::Write(at, len, fill) => {
                    let mut fails = false;
                    for (start, end) in Model::pieces(at, len) {
                        match model.fails(start, true) {
                            true => fails = true,
                            false => model.data[bytes(start, end)].fill(fill),
                        }
                    }
                    let written = write(&table, at, &vec![fill; len as usize * 512]);
                    assert_eq!(written.is_err(), fails);
                }
            }
            let count = format!("countbadblocks: {} badblock(s) found", model.bad.len());
            assert_eq!(message(&table, "countbadblocks").unwrap(), count);
        }
    }
}
