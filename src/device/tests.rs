#![allow(clippy::unwrap_used)]

mod stack;

use std::thread;
use std::time::Duration;

use super::{Device, Events, Identity, SuspendOptions};
use crate::backing::BackingStore;
use crate::io::{
    BlockDev, DeviceNumber, Errno, Flags, IoError, OpKind, OpenDevice, ReadBuf, Request, WriteBuf,
};
use crate::sync::Arc;
use crate::table::{RowSpec, Table, TableContext};
use crate::target::{Access, DeviceOpener, EventSink, OpenError};
use crate::targets::KINDS;
use crate::unit::{Sector, Sectors};

const NUMBER: DeviceNumber = DeviceNumber {
    major: 254,
    minor: 0,
};

fn device() -> Device {
    let identity = Identity {
        name: "test".into(),
        uuid: String::new(),
    };
    Device::new(2, NUMBER, identity, Arc::new(Events::default()))
}

/// Gives the same memory device for every name.
struct Memory(Arc<OpenDevice>);

impl Memory {
    fn new() -> Memory {
        let dev = BackingStore::new(250)
            .memory("mem:1M", Access::ReadWrite)
            .unwrap();
        let (number, path) = (dev.number(), dev.path().to_path_buf());
        Memory(Arc::new(OpenDevice {
            number,
            path,
            name: "mem".into(),
            dev,
            direct: false,
            mapped: None,
            part: None,
        }))
    }
}

impl DeviceOpener for Memory {
    fn open(&self, _spec: &str, _access: Access) -> Result<Arc<OpenDevice>, OpenError> {
        Ok(self.0.clone())
    }
}

fn table(
    kind: &str,
    len: u64,
    params: &str,
    access: Access,
    opener: &dyn DeviceOpener,
) -> Arc<Table> {
    let row = RowSpec {
        start: Sector(0),
        len: Sectors(len),
        kind: kind.into(),
        params: params.into(),
    };
    let events = Arc::new(Events::default());
    let context = TableContext {
        kinds: KINDS,
        access,
        number: NUMBER,
        opener,
        events,
        again: false,
    };
    Arc::new(Table::build(&[row], &context).unwrap())
}

fn read_byte(device: &Device, flags: Flags) -> Result<u8, IoError> {
    let mut sector = [0xee; 512];
    device.submit(Request::read(Sector(0), ReadBuf::new(&mut sector)).with_flags(flags))?;
    Ok(sector[0])
}

fn resume(device: &Device) {
    device
        .resume(SuspendOptions::default(), &mut || true)
        .unwrap();
}

const NOWAIT: Flags = Flags {
    fua: false,
    nowait: true,
};

#[test]
fn a_device_without_a_table_fails_requests_and_cannot_be_resumed_when_suspended() {
    let device = device();
    assert_eq!(read_byte(&device, Flags::default()), Err(IoError::IO));
    device
        .suspend(SuspendOptions::default(), &mut || true)
        .unwrap();
    let error = device
        .resume(SuspendOptions::default(), &mut || true)
        .unwrap_err();
    assert_eq!(error.errno, Errno::INVAL);
    assert!(device.state().suspended);
}

#[test]
fn a_loaded_table_is_live_after_resume() {
    let (device, memory) = (device(), Memory::new());
    device
        .load(table("zero", 8, "", Access::ReadWrite, &memory))
        .unwrap();
    assert!(device.state().inactive.is_some());
    assert_eq!(device.capacity(), Sectors(0));
    resume(&device);
    assert_eq!(device.capacity(), Sectors(8));
    assert_eq!(read_byte(&device, Flags::default()), Ok(0));
    device
        .load(table("linear", 16, "m 0", Access::ReadWrite, &memory))
        .unwrap();
    device.clear();
    resume(&device);
    assert_eq!(device.capacity(), Sectors(8));
}

#[test]
fn a_suspended_device_holds_requests_until_it_is_resumed() {
    let (device, memory) = (Arc::new(device()), Memory::new());
    device
        .load(table("zero", 8, "", Access::ReadWrite, &memory))
        .unwrap();
    resume(&device);
    device
        .suspend(SuspendOptions::default(), &mut || true)
        .unwrap();
    assert_eq!(read_byte(&device, NOWAIT), Err(IoError::WOULD_WAIT));
    let waiting = {
        let device = device.clone();
        thread::spawn(move || read_byte(&device, Flags::default()))
    };
    thread::sleep(Duration::from_millis(20));
    assert!(!waiting.is_finished());
    resume(&device);
    assert_eq!(waiting.join().unwrap(), Ok(0));
    assert_eq!(read_byte(&device, NOWAIT), Ok(0));
}

#[test]
fn a_read_only_table_refuses_changes() {
    let (device, memory) = (device(), Memory::new());
    device
        .load(table("linear", 8, "m 0", Access::ReadOnly, &memory))
        .unwrap();
    resume(&device);
    assert!(device.is_read_only());
    assert_eq!(
        device.submit(Request::write(Sector(0), WriteBuf::new(&[0; 512]))),
        Err(IoError::READ_ONLY)
    );
    assert_eq!(
        device.submit(Request::discard(Sector(0), Sectors(1))),
        Err(IoError::READ_ONLY)
    );
    assert_eq!(device.submit(Request::flush()), Ok(()));
    assert_eq!(device.counters().errors, 2);
    assert_eq!(device.counters().of(OpKind::Write).requests, 1);
}

#[test]
fn shutting_down_frees_who_waits() {
    let (device, memory) = (Arc::new(device()), Memory::new());
    device
        .load(table("zero", 8, "", Access::ReadWrite, &memory))
        .unwrap();
    resume(&device);
    device
        .suspend(SuspendOptions::default(), &mut || true)
        .unwrap();
    let waiting = {
        let device = device.clone();
        thread::spawn(move || read_byte(&device, Flags::default()))
    };
    device.shut_down();
    assert_eq!(waiting.join().unwrap(), Err(IoError::IO));
}

#[test]
fn swapping_tables_under_load_loses_and_repeats_nothing() {
    let (device, memory) = (Arc::new(device()), Memory::new());
    device
        .load(table("linear", 2048, "m 0", Access::ReadWrite, &memory))
        .unwrap();
    resume(&device);
    let writers: Vec<_> = (0..4u64)
        .map(|writer| {
            let device = device.clone();
            thread::spawn(move || {
                let mut sector = [0u8; 512];
                for round in 1..=2000u64 {
                    let at = Sector(writer * 512 + round % 512);
                    let mut before = [0u8; 512];
                    device
                        .submit(Request::read(at, ReadBuf::new(&mut before)))
                        .unwrap();
                    // Each sector is visited once in 512 rounds.
                    let visits = u64::from_le_bytes(before[..8].try_into().unwrap());
                    assert_eq!(visits, (round - 1) / 512, "a write was lost or came twice");
                    sector[..8].copy_from_slice(&(visits + 1).to_le_bytes());
                    device
                        .submit(Request::write(at, WriteBuf::new(&sector)))
                        .unwrap();
                }
            })
        })
        .collect();
    let mut swaps = 0;
    while writers.iter().any(|writer| !writer.is_finished()) {
        device
            .load(table("linear", 2048, "m 0", Access::ReadWrite, &memory))
            .unwrap();
        resume(&device);
        swaps += 1;
    }
    for writer in writers {
        writer.join().unwrap();
    }
    assert!(swaps > 0);
    assert_eq!(device.counters().of(OpKind::Write).requests, 4 * 2000);
    assert_eq!(device.counters().in_flight(), 0);
}

#[test]
fn waiting_for_an_event_that_has_been_returns_at_once() {
    let events = Events::default();
    events.raise();
    assert!(events.wait(0, &mut || false));
    assert!(!events.wait(1, &mut || false));
}

#[test]
fn an_event_wakes_who_waits_here_and_above() {
    let parent = Arc::new(Events::default());
    let events = Arc::new(Events::under(parent.clone()));
    let waiting = {
        let parent = parent.clone();
        thread::spawn(move || parent.wait(0, &mut || true))
    };
    events.raise();
    assert!(waiting.join().unwrap());
    assert_eq!((events.number(), parent.number()), (1, 1));
}
