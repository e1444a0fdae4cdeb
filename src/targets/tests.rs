//! What the tests of targets and tables have in common: tables over memory devices.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::HashMap;

use crate::backing::BackingStore;
use crate::io::{DeviceNumber, Errno, IoError, IoResult, OpenDevice, ReadBuf, Request, WriteBuf};
use crate::sync::Arc;
use crate::table::{RowSpec, Table, TableContext, TableError};
use crate::target::{Access, DeviceOpener, EventSink, MessageError, ModelRow, OpenError};
use crate::targets::KINDS;
use crate::unit::{Sector, Sectors};

/// The device that a table under test is for.
pub(crate) const NUMBER: DeviceNumber = DeviceNumber {
    major: 254,
    minor: 0,
};

/// Nobody hears of events.
pub(crate) struct NoEvents;

impl EventSink for NoEvents {
    fn raise(&self) {}
}

/// Opens `{0}`, `{1}` ...: memory devices, each once.
pub(crate) struct MemoryOpener {
    store: BackingStore,
    opened: RefCell<HashMap<String, Arc<OpenDevice>>>,
}

impl MemoryOpener {
    pub(crate) fn new() -> MemoryOpener {
        MemoryOpener {
            store: BackingStore::new(250),
            opened: RefCell::default(),
        }
    }
}

impl DeviceOpener for MemoryOpener {
    fn open(&self, spec: &str, access: Access) -> Result<Arc<OpenDevice>, OpenError> {
        if !spec.starts_with('{') {
            return Err(OpenError {
                errno: Errno::NODEV,
                reason: "a memory device".into(),
            });
        }
        let mut opened = self.opened.borrow_mut();
        if let Some(device) = opened.get(spec) {
            return Ok(device.clone());
        }
        let size = ModelRow::DEVICE_LEN.to_bytes();
        let dev = self.store.memory(&format!("mem:{size}"), access).unwrap();
        let device = Arc::new(OpenDevice {
            number: dev.number(),
            path: spec.into(),
            name: spec.to_owned(),
            dev,
            direct: false,
            mapped: None,
            part: None,
        });
        opened.insert(spec.to_owned(), device.clone());
        Ok(device)
    }
}

/// Builds a table of the rows in `text`, over the devices of `opener`.
pub(crate) fn build_on(opener: &dyn DeviceOpener, text: &str) -> Result<Table, TableError> {
    let rows: Vec<RowSpec> = text
        .lines()
        .map(|line| {
            let mut words = line.splitn(4, ' ');
            RowSpec {
                start: Sector(words.next().unwrap().parse().unwrap()),
                len: Sectors(words.next().unwrap().parse().unwrap()),
                kind: words.next().unwrap().to_owned(),
                params: words.next().unwrap_or_default().to_owned(),
            }
        })
        .collect();
    let context = TableContext {
        kinds: KINDS,
        access: Access::ReadWrite,
        number: NUMBER,
        opener,
        events: Arc::new(NoEvents),
        again: false,
    };
    Table::build(&rows, &context)
}

/// Builds a table over memory devices of its own.
pub(crate) fn build(text: &str) -> Result<Table, TableError> {
    build_on(&MemoryOpener::new(), text)
}

/// Why a table is refused.
pub(crate) fn refused(text: &str) -> TableError {
    match build(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error,
    }
}

/// What `sectors` sectors at `at` hold.
pub(crate) fn read(table: &Table, at: u64, sectors: u64) -> Result<Vec<u8>, IoError> {
    let mut bytes = vec![0xee; sectors as usize * 512];
    table.submit(Request::read(Sector(at), ReadBuf::new(&mut bytes)))?;
    Ok(bytes)
}

/// Writes whole sectors.
pub(crate) fn write(table: &Table, at: u64, bytes: &[u8]) -> IoResult {
    table.submit(Request::write(Sector(at), WriteBuf::new(bytes)))
}

/// What the target of the first row answers to the message `text`.
pub(crate) fn message(table: &Table, text: &str) -> Result<String, MessageError> {
    let words: Vec<&str> = text.split(' ').collect();
    table.rows()[0]
        .target()
        .message(&words, &MemoryOpener::new())
}

/// Tries each table line (`{0}` is a device of 4096 sectors): it has to be refused with the text and the errno of
/// the kernel's message.
pub(crate) fn each_is_refused(lines: &[(&str, &str)]) {
    for (line, text) in lines {
        let error = refused(line);
        let kind = line.split(' ').nth(2).unwrap();
        assert_eq!(
            error.messages[0],
            format!("table: 254:0: {kind}: {text}"),
            "{line}"
        );
        assert!(
            error.expected.is_some(),
            "{line}: says nothing of what is right"
        );
    }
}
