//! Planned requests through whole devices: on files of the disk that the tree lies on, around its page cache.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use tempfile::TempDir;

use crate::backing::{BackingStore, OpenOptions};
use crate::device::{Device, Events, Identity, SuspendOptions};
use crate::io::{
    BlockDev, DeviceNumber, DiskQueue, Flags, IoError, IoResult, OpKind, OpenDevice, Part, Plan,
    ReadBuf, Request, Unplanned, WriteBuf,
};
use crate::sync::Arc;
use crate::table::{RowSpec, Table, TableContext};
use crate::target::{Access, DeviceOpener, Naming, OpenError};
use crate::targets::KINDS;
use crate::unit::{Sector, Sectors};

const FILE_LEN: u64 = 1 << 20;
const NUMBER: DeviceNumber = DeviceNumber {
    major: 254,
    minor: 0,
};

/// Files `a` to `c` of a folder, and devices over them.
struct Disks {
    folder: TempDir,
    store: BackingStore,
    direct: bool,
    /// Called `d`.
    device: Option<Arc<Device>>,
}

impl Disks {
    fn new(direct: bool) -> Disks {
        let folder = TempDir::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        for name in ["a", "b", "c"] {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_len(FILE_LEN).unwrap();
        }
        Disks {
            folder,
            store: BackingStore::new(250),
            direct,
            device: None,
        }
    }

    fn table(&self, text: &str, access: Access) -> Arc<Table> {
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
            access,
            number: NUMBER,
            opener: self,
            events: Arc::new(Events::default()),
            again: false,
        };
        Arc::new(Table::build(&rows, &context).unwrap())
    }

    fn device(&self, text: &str) -> Arc<Device> {
        let identity = Identity {
            name: "test".into(),
            uuid: String::new(),
        };
        let device = Device::new(2, NUMBER, identity, Arc::new(Events::default()));
        load(&device, self.table(text, Access::ReadWrite));
        Arc::new(device)
    }
}

impl DeviceOpener for Disks {
    fn open(&self, spec: &str, access: Access) -> Result<Arc<OpenDevice>, OpenError> {
        let path = self.folder.path().join(spec);
        let (number, dev): (_, Arc<dyn BlockDev>) = match (&self.device, spec) {
            (Some(device), "d") => (device.number(), device.clone()),
            _ => {
                let options = OpenOptions {
                    direct: self.direct,
                };
                let dev = self.store.open(&path, access, options).unwrap();
                (dev.number(), dev)
            }
        };
        Ok(Arc::new(OpenDevice {
            number,
            path,
            name: spec.to_owned(),
            dev,
            direct: self.direct,
            mapped: None,
            part: None,
        }))
    }
}

fn load(device: &Device, table: Arc<Table>) {
    device.load(table).unwrap();
    device
        .resume(SuspendOptions::default(), &mut || true)
        .unwrap();
}

fn queue() -> DiskQueue {
    DiskQueue::start("test", 8 << 20).unwrap()
}

fn planned(
    device: &Arc<Device>,
    kind: OpKind,
    at: u64,
    sectors: u64,
    fua: bool,
) -> Result<Plan, Unplanned> {
    let mut plan = Plan::new(kind, Flags { fua, nowait: true });
    let part = Part::whole(Sector(at), Sectors(sectors));
    device.clone().plan(part, &mut plan)?;
    Ok(plan)
}

type Answer = Receiver<(IoResult, Vec<u8>)>;

/// Submits a planned request, with what it writes.
fn start(queue: &DiskQueue, plan: Plan, sectors: u64, bytes: Option<&[u8]>) -> Answer {
    let (sender, receiver) = mpsc::channel();
    let mut data = queue.memory(sectors as usize * 512).unwrap();
    if let Some(bytes) = bytes {
        data.copy_from_slice(bytes);
    }
    let done = move |result, data: &mut [u8]| {
        // Who has stopped waiting has failed already.
        let _ = sender.send((result, data.to_vec()));
    };
    queue.submit(plan, data, Box::new(done));
    receiver
}

fn read(queue: &DiskQueue, device: &Arc<Device>, at: u64, sectors: u64) -> Vec<u8> {
    let plan = planned(device, OpKind::Read, at, sectors, false).unwrap();
    let (result, data) = start(queue, plan, sectors, None).recv().unwrap();
    assert_eq!(result, Ok(()));
    data
}

fn write(queue: &DiskQueue, device: &Arc<Device>, at: u64, bytes: &[u8]) -> IoResult {
    let sectors = bytes.len() as u64 / 512;
    let plan = planned(device, OpKind::Write, at, sectors, false).unwrap();
    start(queue, plan, sectors, Some(bytes)).recv().unwrap().0
}

#[test]
fn a_plan_passes_gates_and_is_counted_like_a_request() {
    let (queue, mut disks) = (queue(), Disks::new(true));
    let below = disks.device("0 1024 linear a 8\n1024 1024 linear b 0");
    disks.device = Some(below.clone());
    let device = disks.device("0 2000 linear d 48");
    assert!(device.waits() && below.waits());
    let bytes: Vec<u8> = (0..64 * 512).map(|byte| (byte / 512) as u8).collect();
    // Crosses from one file to the other.
    assert_eq!(write(&queue, &device, 944, &bytes), Ok(()));
    assert_eq!(read(&queue, &device, 944, 64), bytes);
    let flush = planned(&device, OpKind::Flush, 0, 0, false).unwrap();
    assert_eq!(flush.n_pieces(), 2);
    let flush = start(&queue, flush, 0, None);
    assert_eq!(flush.recv().unwrap().0, Ok(()));
    for device in [&device, &below] {
        let counters = device.counters();
        for (kind, sectors) in [(OpKind::Read, 64), (OpKind::Write, 64), (OpKind::Flush, 0)] {
            let tally = counters.of(kind);
            assert_eq!((tally.requests, tally.sectors), (1, Sectors(sectors)));
        }
        assert_eq!((counters.in_flight(), counters.errors), (0, 0));
    }
    let mut plain = vec![0; 64 * 512];
    device
        .submit(Request::read(Sector(944), ReadBuf::new(&mut plain)))
        .unwrap();
    assert_eq!(plain, bytes);
}

#[test]
fn what_the_device_must_see_is_not_planned_and_leaves_no_trace() {
    let mut disks = Disks::new(true);
    let below = disks.device("0 2048 linear a 0");
    disks.device = Some(below.clone());
    let device = disks.device("0 1024 linear d 0\n1024 512 zero\n1536 512 linear d 1024");
    let is_planned = |kind, at, len| planned(&device, kind, at, len, false).is_ok();
    assert!(is_planned(OpKind::Read, 0, 1024));
    assert!(!is_planned(OpKind::Read, 1000, 100), "a part of it is zero");
    assert!(!is_planned(OpKind::Read, 2047, 2), "beyond the end");
    assert!(!is_planned(OpKind::Read, u64::MAX, 2));
    assert!(!is_planned(OpKind::Discard, 0, 8));
    below
        .suspend(SuspendOptions::default(), &mut || true)
        .unwrap();
    assert!(!is_planned(OpKind::Read, 0, 8), "suspended further down");
    below
        .resume(SuspendOptions::default(), &mut || true)
        .unwrap();
    load(&device, disks.table("0 1024 linear a 0", Access::ReadOnly));
    assert!(is_planned(OpKind::Read, 0, 8) && !is_planned(OpKind::Write, 0, 8));
    for device in [&device, &below] {
        let counters = device.counters();
        let requests = OpKind::CHANGES
            .iter()
            .map(|&kind| counters.of(kind).requests);
        assert_eq!(
            requests.sum::<u64>() + counters.of(OpKind::Read).requests,
            0
        );
        assert_eq!(counters.in_flight(), 0);
    }
}

#[test]
fn suspend_waits_for_what_is_under_way() {
    let (queue, disks) = (queue(), Disks::new(true));
    let device = disks.device("0 2048 linear a 0");
    let plan = planned(&device, OpKind::Write, 8, 8, true).unwrap();
    assert_eq!(device.counters().of(OpKind::Write).in_flight, 1);
    let suspending = {
        let device = device.clone();
        thread::spawn(move || device.suspend(SuspendOptions::default(), &mut || true))
    };
    while planned(&device, OpKind::Read, 0, 8, false).is_ok() {
        thread::yield_now();
    }
    thread::sleep(Duration::from_millis(20));
    assert!(!suspending.is_finished());
    let answer = start(&queue, plan, 8, Some(&[5; 4096]));
    assert_eq!(answer.recv().unwrap().0, Ok(()));
    assert_eq!(suspending.join().unwrap(), Ok(()));
    assert_eq!(device.counters().of(OpKind::Write).requests, 1);
}

#[test]
fn an_error_is_counted_and_marks_its_stripe() {
    let (queue, disks) = (queue(), Disks::new(true));
    let device = disks.device("0 1024 striped 2 8 a 0 b 0");
    let short = File::options()
        .write(true)
        .open(disks.folder.path().join("b"));
    short.unwrap().set_len(4096).unwrap();
    let events = device.active().unwrap();
    let status = || events.rows()[0].target().status(Naming::Numbers);
    assert!(status().ends_with(" 1 AA"));
    let plan = planned(&device, OpKind::Read, 0, 64, false).unwrap();
    let (result, _) = start(&queue, plan, 64, None).recv().unwrap();
    assert_eq!(result, Err(IoError::IO));
    assert!(status().ends_with(" 1 AD"), "{}", status());
    assert_eq!(device.counters().errors, 1);
    assert_eq!(device.counters().of(OpKind::Read).requests, 1);
}

#[test]
fn a_thread_alone_carries_out_a_request_at_once_and_a_second_one_is_refused() {
    let (queue, disks) = (queue(), Disks::new(true));
    let device = disks.device("0 2048 linear a 0");
    let flags = Flags {
        fua: false,
        nowait: true,
    };
    let mut sector = [0; 512];
    let mut at_once =
        || device.submit(Request::read(Sector(0), ReadBuf::new(&mut sector)).with_flags(flags));
    assert_eq!(at_once(), Ok(()));
    let plan = planned(&device, OpKind::Flush, 0, 0, false).unwrap();
    let held = planned(&device, OpKind::Read, 0, 8, false).unwrap();
    assert!(held.is_best_at_once());
    // The first answer keeps the queue busy, so that the request behind it stays under way until we have looked.
    let (here, there) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let answer = move |_: IoResult, _: &mut [u8]| {
        here.send(()).unwrap();
        gone.recv().unwrap();
    };
    queue.submit(plan, queue.memory(0).unwrap(), Box::new(answer));
    there.recv().unwrap();
    let other = planned(&device, OpKind::Read, 8, 8, false).unwrap();
    let other = start(&queue, other, 8, None);
    assert!(!held.is_best_at_once());
    assert_eq!(at_once(), Err(IoError::WOULD_WAIT));
    go.send(()).unwrap();
    assert_eq!(other.recv().unwrap().0, Ok(()));
    assert!(held.is_best_at_once());
    assert_eq!(at_once(), Ok(()));
}

#[test]
fn a_cold_page_is_not_waited_for() {
    let (queue, disks) = (queue(), Disks::new(false));
    let path = disks.folder.path().join("a");
    std::fs::write(&path, vec![9; FILE_LEN as usize]).unwrap();
    let device = disks.device("0 2048 linear a 0");
    assert!(!device.waits());
    let file = File::open(&path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let flags = Flags {
        fua: false,
        nowait: true,
    };
    let mut bytes = vec![0; 4096];
    let mut at_once =
        |at| device.submit(Request::read(Sector(at), ReadBuf::new(&mut bytes)).with_flags(flags));
    assert_eq!(at_once(1024), Err(IoError::WOULD_WAIT));
    assert_eq!(read(&queue, &device, 1024, 8), [9; 4096]);
    assert_eq!(at_once(1024), Ok(()));
    assert_eq!(device.counters().of(OpKind::Read).requests, 2);
}

const TABLES: [&str; 5] = [
    "0 512 linear a 0\n512 512 linear b 0",
    "0 7 linear a 0\n7 505 linear a 7\n512 512 linear b 0",
    "0 512 linear a 0\n512 256 linear b 0\n768 256 linear b 256",
    "0 8 linear a 0\n8 1008 linear d 8\n1016 8 linear b 504",
    "0 512 linear a 0\n512 512 unstriped 1 16 0 b 0",
];

#[derive(Clone, Debug)]
enum Step {
    /// Writes that do not overlap, all under way together: places, lengths and fillings.
    Write(Vec<(u64, u64, u8, bool)>),
    Read(u64, u64),
    Flush,
    Reload(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let write = (1..=120u64, 0..=64u64, any::<u8>(), any::<bool>());
    prop_oneof![
        3 => proptest::collection::vec(write, 1..8).prop_map(Step::Write),
        3 => (0..1024u64).prop_flat_map(|at| (Just(at), 1..=(1024 - at).min(200)))
            .prop_map(|(at, len)| Step::Read(at, len)),
        1 => Just(Step::Flush),
        1 => (0..TABLES.len()).prop_map(Step::Reload),
    ]
}

/// Plays steps on a device and on a plain vector; tables change while writes are under way.
fn play(direct: bool, steps: &[Step]) {
    let (queue, mut disks) = (queue(), Disks::new(direct));
    disks.device = Some(disks.device(TABLES[0]));
    let device = disks.device(TABLES[0]);
    let mut model = vec![0u8; 1024 * 512];
    let mut under_way: Vec<Answer> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        // A changing table has to wait for what is under way by itself.
        if !matches!(step, Step::Reload(_)) {
            for answer in under_way.drain(..) {
                assert_eq!(answer.recv().unwrap().0, Ok(()), "before step {index}");
            }
        }
        match step {
            Step::Write(writes) => {
                let mut at = 0;
                for &(len, gap, fill, fua) in writes {
                    let place = at * 512..(at + len) as usize as u64 * 512;
                    let place = place.start as usize..place.end as usize;
                    if place.end > model.len() {
                        break;
                    }
                    for (byte, to) in model[place.clone()].iter_mut().enumerate() {
                        *to = fill ^ (byte / 512) as u8 ^ byte as u8;
                    }
                    let data = &model[place];
                    match planned(&device, OpKind::Write, at, len, fua) {
                        Ok(plan) => under_way.push(start(&queue, plan, len, Some(data))),
                        Err(Unplanned) => {
                            let request = Request::write(Sector(at), WriteBuf::new(data));
                            let flags = Flags { fua, nowait: false };
                            device.submit(request.with_flags(flags)).unwrap();
                        }
                    }
                    at += len + gap;
                }
            }
            &Step::Read(at, len) => {
                let expected = &model[at as usize * 512..(at + len) as usize * 512];
                assert!(read(&queue, &device, at, len) == expected, "step {index}");
            }
            Step::Flush => {
                let plan = planned(&device, OpKind::Flush, 0, 0, false).unwrap();
                under_way.push(start(&queue, plan, 0, None));
            }
            Step::Reload(table) => {
                load(&device, disks.table(TABLES[*table], Access::ReadWrite));
                assert_eq!(device.counters().in_flight(), 0);
            }
        }
    }
    drop(under_way);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn planned_requests_behave_like_a_vector(
        direct: bool,
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        play(direct, &steps);
    }
}
