#![allow(clippy::unwrap_used)]

use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};

use crate::io::{
    BlockDev, DiskQueue, Flags, IoError, IoResult, OpKind, Part, Plan, QueuedFile, ReadBuf, Request,
};
use crate::sync::Arc;
use crate::table::Table;
use crate::target::Naming;
use crate::targets::tests::{MemoryOpener, build, build_on, each_is_refused, message, read, write};
use crate::unit::{Sector, Sectors};

#[test]
fn lines_are_refused_in_the_kernels_words() {
    let count = "Requires exactly 3, 6 or 9 arguments (-EINVAL)";
    each_is_refused(&[
        ("0 8 delay", count),
        ("0 8 delay {0} 0", count),
        ("0 8 delay {0} 0 1 {1} 0", count),
        ("0 8 delay {0} 0 1 {1} 0 1 {1}", count),
        ("0 8 delay {0} 0 1 {1} 0 1 {1} 0 1 1", count),
        ("0 8 delay {0} x 1", "Invalid device sector (-EINVAL)"),
        ("0 8 delay nosuch x 1", "Invalid device sector (-EINVAL)"),
        (
            "0 8 delay {0} 0 1 {1} x 1",
            "Invalid device sector (-EINVAL)",
        ),
        ("0 8 delay {0} 0 x", "Invalid delay (-EINVAL)"),
        ("0 8 delay nosuch 0 x", "Invalid delay (-EINVAL)"),
        ("0 8 delay {0} 0 +5", "Invalid delay (-EINVAL)"),
        (
            "0 8 delay {0} 0 1 {1} 0 1 {1} 0 y",
            "Invalid delay (-EINVAL)",
        ),
        ("0 8 delay nosuch 0 1", "Device lookup failed (-ENODEV)"),
        (
            "0 8 delay {0} 0 1 nosuch 0 1",
            "Device lookup failed (-ENODEV)",
        ),
        (
            "0 8 delay dmfs:seed=1 {0} 0 1",
            "Invalid dmfs argument (-EINVAL)",
        ),
        ("0 8 delay dmfs:clock=requests {0} 0", count),
    ]);
}

#[test]
fn tables_are_shown_as_by_the_kernel() {
    for (given, shown) in [
        ("{0} 8 05", "{0} 8 5"),
        ("{0} 8 4294967295", "{0} 8 4294967295"),
        // 2^32: its lower 32 bits are what the kernel reads.
        ("{0} 8 4294967296", "{0} 8 0"),
        ("{0} 8 1 {1} 2 3", "{0} 8 1 {1} 2 3"),
        ("{0} 8 1 {1} 2 3 {0} 0 0", "{0} 8 1 {1} 2 3 {0} 0 0"),
        ("dmfs:clock=messages {0} 8 1", "dmfs:clock=messages {0} 8 1"),
    ] {
        let table = build(&format!("0 100 delay {given}")).unwrap();
        assert_eq!(table.rows()[0].target().args(Naming::Paths), shown);
        assert_eq!(status(&table), "0 0 0");
    }
}

#[test]
fn each_class_goes_to_its_device() {
    let opener = MemoryOpener::new();
    let table = build_on(&opener, "0 100 delay {0} 8 0 {1} 16 1").unwrap();
    let below = build_on(&opener, "0 100 linear {0} 8\n100 100 linear {1} 16").unwrap();
    write(&below, 0, &[1; 512]).unwrap();
    write(&table, 0, &[2; 512]).unwrap();
    assert_eq!(read(&table, 0, 1).unwrap(), [1; 512]);
    assert_eq!(read(&below, 100, 1).unwrap(), [2; 512]);
}

fn status(table: &Table) -> String {
    table.rows()[0].target().status(Naming::Paths)
}

fn until_status(table: &Table, wanted: &str) {
    while status(table) != wanted {
        thread::yield_now();
    }
}

type Submit = fn(&Table) -> IoResult;

/// A read, a write, a flush and a discard.
const EVERYTHING: [Submit; 4] = [
    |table| read(table, 0, 1).map(drop),
    |table| write(table, 0, &[1; 512]),
    |table| table.submit(Request::flush()),
    |table| table.submit(Request::discard(Sector(0), Sectors(1))),
];

/// Has each request made on a thread of its own.
fn start(table: &Arc<Table>, requests: &[Submit]) -> (Vec<JoinHandle<()>>, Receiver<usize>) {
    let (done, ended) = channel();
    let threads = requests
        .iter()
        .copied()
        .enumerate()
        .map(|(number, submit)| {
            let (table, done) = (table.clone(), done.clone());
            thread::spawn(move || {
                submit(&table).unwrap();
                // Not every test wants to know.
                let _ = done.send(number);
            })
        });
    (threads.collect(), ended)
}

fn join(threads: Vec<JoinHandle<()>>) {
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_suspend_lets_everything_go_until_the_resume() {
    let table = build("0 100 delay {0} 8 4000000 {0} 8 4000000 {1} 8 4000000").unwrap();
    let table = Arc::new(table);
    let (threads, _) = start(&table, &EVERYTHING);
    until_status(&table, "1 2 1");
    let lifecycle = || table.lifecycles().next().unwrap();
    lifecycle().presuspend(false);
    join(threads);
    assert_eq!(status(&table), "0 0 0");
    // Whoever is still on the way in is not held back.
    let (threads, _) = start(&table, &EVERYTHING);
    join(threads);
    lifecycle().postsuspend();
    lifecycle().resume();
    let (threads, _) = start(&table, &EVERYTHING);
    until_status(&table, "1 2 1");
    lifecycle().presuspend(true);
    join(threads);
    lifecycle().presuspend_undo();
    let (threads, _) = start(&table, &EVERYTHING[..1]);
    until_status(&table, "1 0 0");
    lifecycle().presuspend(false);
    join(threads);
}

#[test]
fn nobody_waits_who_may_not() {
    let table = build("0 100 delay {0} 8 4000000").unwrap();
    assert!(table.limits().waits);
    let nowait = Flags {
        nowait: true,
        ..Flags::default()
    };
    let mut bytes = [0; 512];
    let request = Request::read(Sector(0), ReadBuf::new(&mut bytes)).with_flags(nowait);
    assert_eq!(table.submit(request), Err(IoError::WOULD_WAIT));
    let flush = Request::flush().with_flags(nowait);
    assert_eq!(table.submit(flush), Err(IoError::WOULD_WAIT));
    let quick = build("0 100 delay {0} 8 0").unwrap();
    assert!(!quick.limits().waits);
    let request = Request::read(Sector(0), ReadBuf::new(&mut bytes)).with_flags(nowait);
    assert_eq!(quick.submit(request), Ok(()));
}

#[test]
fn messages_let_time_pass() {
    let table = build("0 100 delay dmfs:clock=messages {0} 8 3").unwrap();
    let table = Arc::new(table);
    let (threads, ended) = start(&table, &EVERYTHING[..1]);
    until_status(&table, "1 0 0");
    message(&table, "dmfs:tick 2").unwrap();
    let (more, _) = start(&table, &EVERYTHING[1..2]);
    until_status(&table, "1 1 0");
    message(&table, "dmfs:tick").unwrap();
    assert_eq!(ended.recv(), Ok(0));
    join(threads);
    assert_eq!(status(&table), "0 1 0");
    message(&table, "dmfs:tick 2").unwrap();
    join(more);
    let unsupported = Some("ioctl: Target type does not support messages".to_owned());
    assert_eq!(message(&table, "tick").unwrap_err().line, unsupported);
    let real = build("0 100 delay {0} 8 3").unwrap();
    assert_eq!(message(&real, "dmfs:tick").unwrap_err().line, unsupported);
}

#[test]
fn requests_let_time_pass() {
    let table = Arc::new(build("0 100 delay dmfs:clock=requests {0} 8 2 {0} 8 0").unwrap());
    let (threads, ended) = start(&table, &EVERYTHING[..1]);
    until_status(&table, "1 0 0");
    write(&table, 0, &[1; 512]).unwrap();
    assert_eq!(status(&table), "1 0 0");
    write(&table, 0, &[1; 512]).unwrap();
    assert_eq!(ended.recv(), Ok(0));
    join(threads);
}

/// A file of 64 sectors, each filled with its number, that plans.
struct Planned(Arc<std::fs::File>);

impl QueuedFile for Planned {
    fn descriptor(&self, _kind: OpKind) -> Option<std::os::fd::BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        Some(self.0.as_fd())
    }

    fn block(&self) -> crate::unit::Bytes {
        crate::unit::Bytes(1)
    }

    fn is_idle(&self) -> bool {
        true
    }

    fn started(&self) {}

    fn ended(&self, piece: crate::io::PieceEnd) -> IoResult {
        piece.result.map_err(IoError::from)
    }
}

impl BlockDev for Planned {
    fn capacity(&self) -> Sectors {
        Sectors(64)
    }

    fn limits(&self) -> crate::io::Limits {
        crate::io::Limits::STACKING
    }

    fn submit(&self, _request: Request<'_>) -> IoResult {
        Err(IoError::UNSUPPORTED)
    }

    fn plan(self: Arc<Self>, part: Part, plan: &mut Plan) -> Result<(), crate::io::Unplanned> {
        let at = part.at.to_bytes();
        plan.add(self, at, part)
    }
}

struct PlannedOpener(Arc<crate::io::OpenDevice>);

impl crate::target::DeviceOpener for PlannedOpener {
    fn open(
        &self,
        _spec: &str,
        _access: crate::target::Access,
    ) -> Result<Arc<crate::io::OpenDevice>, crate::target::OpenError> {
        Ok(self.0.clone())
    }
}

fn planned_opener() -> PlannedOpener {
    let file = tempfile::tempfile().unwrap();
    for sector in 0..64 {
        file.write_all_at(&[sector as u8; 512], sector * 512)
            .unwrap();
    }
    PlannedOpener(Arc::new(crate::io::OpenDevice {
        number: crate::io::DeviceNumber { major: 7, minor: 0 },
        path: "x".into(),
        name: "x".into(),
        dev: Arc::new(Planned(Arc::new(file))),
        direct: false,
        mapped: None,
        part: None,
    }))
}

/// Plans a read of a sector and has it carried out; it tells the byte that it has read.
fn queue_read(table: &Table, queue: &DiskQueue, at: u64, done: std::sync::mpsc::Sender<(u64, u8)>) {
    let mut plan = Plan::new(OpKind::Read, Flags::default());
    table
        .plan(Part::whole(Sector(at), Sectors(1)), &mut plan)
        .unwrap();
    assert!(plan.is_held() && !plan.is_best_at_once());
    let memory = queue.memory(512).unwrap();
    let answer = move |result: IoResult, data: &mut [u8]| {
        result.unwrap();
        done.send((at, data[0])).unwrap();
    };
    queue.submit(plan, memory, Box::new(answer));
}

#[test]
fn a_planned_request_is_held_without_a_thread() {
    let table = build_on(&planned_opener(), "0 50 delay x 3 4000000 x 3 0").unwrap();
    let queue = DiskQueue::start("test", 1 << 20).unwrap();
    let (done, ended) = channel();
    for at in 0..40 {
        queue_read(&table, &queue, at, done.clone());
    }
    assert_eq!(status(&table), "40 0 0");
    assert!(ended.try_recv().is_err());
    table.lifecycles().next().unwrap().presuspend(false);
    let mut seen: Vec<_> = (0..40).map(|_| ended.recv().unwrap()).collect();
    seen.sort_unstable();
    assert!(seen.iter().all(|(at, byte)| *at + 3 == u64::from(*byte)));
    assert_eq!(status(&table), "0 0 0");
}

#[test]
fn planned_requests_go_by_the_timer_too() {
    let table = build_on(&planned_opener(), "0 50 delay x 3 20").unwrap();
    let queue = DiskQueue::start("test", 1 << 20).unwrap();
    let (done, ended) = channel();
    for at in 0..40 {
        queue_read(&table, &queue, at, done.clone());
    }
    assert_eq!(ended.iter().take(40).count(), 40);
}

#[test]
fn delays_on_one_another_add_up_and_beside_one_another_are_not_planned() {
    let opener = planned_opener();
    let table = build_on(
        &opener,
        "0 8 delay x 0 4000000\n8 8 linear x 8\n16 8 delay x 16 4000000",
    )
    .unwrap();
    let plan = |at, len| {
        let mut plan = Plan::new(OpKind::Read, Flags::default());
        table
            .plan(Part::whole(Sector(at), Sectors(len)), &mut plan)
            .map(|()| plan.is_held())
    };
    assert_eq!(
        (plan(0, 8), plan(8, 8), plan(0, 16)),
        (Ok(true), Ok(false), Ok(true))
    );
    assert!(plan(0, 24).is_err());
    let mut flush = Plan::new(OpKind::Flush, Flags::default());
    assert!(
        table
            .plan(Part::whole(Sector(0), Sectors::ZERO), &mut flush)
            .is_err()
    );
}
