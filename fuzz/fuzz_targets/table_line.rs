//! Any text as a table: parsed, built over a device that checks what it is asked, printed, built
//! again from what was printed, read and written at its edges. Lines that begin with `!` are messages to its targets.
#![no_main]

use dmfs::control::protocol::table_text::parse;
use dmfs::io::{
    BlockDev, DeviceNumber, Extent, Flags, IoError, IoResult, Limits, Op, OpenDevice, ReadBuf,
    Request, WriteBuf,
};
use dmfs::table::{RowSpec, Table, TableContext};
use dmfs::target::{Access, DeviceOpener, EventSink, Naming, OpenError};
use dmfs::targets::KINDS;
use dmfs::unit::{SECTOR_SIZE, Sector, Sectors};
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::Arc;

/// A device that stores nothing and checks what it is asked.
struct Strict(Sectors);

impl BlockDev for Strict {
    fn capacity(&self) -> Sectors {
        self.0
    }

    fn limits(&self) -> Limits {
        Limits::STACKING
    }

    fn submit(&self, request: Request<'_>) -> IoResult {
        // A table is let through over a device of no length, and over one that its last row leaves.
        match request.at.0.checked_add(request.len.0) {
            Some(end) if end <= self.0.0 => {}
            _ => return Err(IoError::IO),
        }
        let bytes = request.len.0 * SECTOR_SIZE;
        match request.op {
            Op::Read(mut buffer) => {
                assert_eq!(buffer.len().0, bytes);
                buffer.fill_zero();
            }
            Op::Write(buffer) => assert_eq!(buffer.len().0, bytes),
            Op::Flush | Op::Discard | Op::WriteZeroes { .. } => {}
        }
        Ok(())
    }
}

/// Opens any path as a device whose length is in its name, or of a million sectors.
struct Opener;

impl DeviceOpener for Opener {
    fn open(&self, spec: &str, _: Access) -> Result<Arc<OpenDevice>, OpenError> {
        let digits = spec.trim_start_matches(|letter: char| !letter.is_ascii_digit());
        let len = digits.parse().unwrap_or(1_000_000);
        Ok(Arc::new(OpenDevice {
            number: DeviceNumber { major: 7, minor: 0 },
            path: PathBuf::from(spec),
            name: spec.to_owned(),
            dev: Arc::new(Strict(Sectors(len))),
            direct: false,
            mapped: None,
            part: None,
        }))
    }
}

struct Deaf;

impl EventSink for Deaf {
    fn raise(&self) {}
}

fuzz_target!(|text: &str| {
    let (messages, table): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with('!'));
    let Ok(rows) = parse(&table.join("\n"), "") else {
        return;
    };
    let rows: Vec<RowSpec> = rows
        .into_iter()
        .map(|row| RowSpec {
            start: Sector(row.start),
            len: Sectors(row.length),
            kind: row.target,
            params: row.params,
        })
        .collect();
    for access in [Access::ReadWrite, Access::ReadOnly] {
        match build(&rows, access) {
            Ok(table) => {
                tell(&table, &messages);
                exercise(&table, access);
            }
            Err(messages) => assert!(!messages.is_empty(), "refused without a word"),
        }
    }
});

fn build(rows: &[RowSpec], access: Access) -> Result<Table, String> {
    let context = TableContext {
        kinds: KINDS,
        access,
        number: DeviceNumber {
            major: 253,
            minor: 0,
        },
        opener: &Opener,
        events: Arc::new(Deaf),
        again: false,
    };
    Table::build(rows, &context).map_err(|error| error.messages.join("\n"))
}

fn tell(table: &Table, messages: &[&str]) {
    for message in messages {
        let words: Vec<&str> = message[1..].split(' ').collect();
        for row in table.rows() {
            if let Err(refused) = row.target().message(&words, &Opener) {
                assert!(!format!("{refused:?}").is_empty());
            }
        }
    }
}

fn lines(table: &Table) -> Vec<String> {
    let rows = table.rows().iter();
    rows.map(|row| row.target().args(Naming::Paths)).collect()
}

fn exercise(table: &Table, access: Access) {
    let printed = lines(table);
    let again: Vec<RowSpec> = table
        .rows()
        .iter()
        .zip(&printed)
        .map(|(row, params)| RowSpec {
            start: row.start(),
            len: row.len(),
            kind: row.kind().name.to_owned(),
            params: params.clone(),
        })
        .collect();
    let again = build(&again, access).expect("a table loads again as it was printed");
    assert_eq!(lines(&again), printed);

    let end = table.len().0;
    let mut memory = vec![0; 64 * SECTOR_SIZE as usize];
    for row in table.rows() {
        for at in [
            row.start().0,
            (row.start().0 + row.len().0).saturating_sub(7),
        ] {
            let len = 64.min(end - at);
            let bytes = (len * SECTOR_SIZE) as usize;
            for op in 0..4 {
                let buffer = &mut memory[..bytes];
                let op = match op {
                    0 => Op::Read(ReadBuf::new(buffer)),
                    1 => Op::Write(WriteBuf::new(buffer)),
                    2 => Op::Discard,
                    _ => Op::WriteZeroes { may_unmap: true },
                };
                let request = Request {
                    op,
                    at: Sector(at),
                    len: Sectors(len),
                    flags: Flags::default(),
                };
                let _ = table.submit(request);
            }
            let Extent { end: next, .. } = table.extent_at(Sector(at));
            assert!(next.0 > at, "an extent that does not advance");
        }
    }
}
