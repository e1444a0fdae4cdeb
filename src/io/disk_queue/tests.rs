#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::mpsc;

use super::{DiskQueue, OwnRing};
use crate::io::{
    Errno, Flags, IoError, IoResult, Memory, OpKind, Part, PieceEnd, Plan, QueuedFile,
};
use crate::sync::{Arc, AtomicUsize, Ordering};
use crate::unit::{Bytes, Sector, Sectors};

struct Plain {
    file: File,
    under_way: AtomicUsize,
}

impl QueuedFile for Plain {
    fn descriptor(&self, _kind: OpKind) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }

    fn block(&self) -> Bytes {
        Bytes(1)
    }

    fn is_idle(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) == 0
    }

    fn started(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    fn ended(&self, piece: PieceEnd) -> IoResult {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        piece.result.map_err(IoError::from)
    }
}

/// A file of `sectors` sectors, each filled with its number.
fn file(sectors: u8) -> Arc<Plain> {
    let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    for sector in 0..sectors {
        file.write_all(&[sector; 512]).unwrap();
    }
    Arc::new(Plain {
        file,
        under_way: AtomicUsize::new(0),
    })
}

fn queue() -> DiskQueue {
    DiskQueue::start("test", 4 << 20).unwrap()
}

/// A plan for `places` of `file`, each as many sectors of the data as it says.
fn plan(kind: OpKind, file: &Arc<Plain>, places: &[(u64, u64)]) -> Plan {
    let mut plan = Plan::new(kind, Flags::default());
    let whole = places.iter().map(|(_, len)| len).sum();
    let mut rest = Part::whole(Sector(0), Sectors(whole));
    for &(at, len) in places {
        let (part, later) = rest.split_at(Sectors(len));
        plan.add(file.clone(), Bytes(at * 512), part).unwrap();
        rest = later;
    }
    plan
}

/// Submits and waits.
fn carry_out(queue: &DiskQueue, plan: Plan, data: Memory) -> (IoResult, Vec<u8>) {
    let (sender, receiver) = mpsc::channel();
    queue.submit(
        plan,
        data,
        Box::new(move |result, data| sender.send((result, data.to_vec())).unwrap()),
    );
    receiver.recv().unwrap()
}

#[test]
fn pieces_are_read_to_where_they_belong() {
    let (queue, file) = (queue(), file(10));
    let plan = plan(OpKind::Read, &file, &[(7, 1), (2, 2), (9, 1)]);
    let (result, data) = carry_out(&queue, plan, queue.memory(2048).unwrap());
    assert_eq!(result, Ok(()));
    let sectors: Vec<u8> = data.chunks(512).map(|sector| sector[5]).collect();
    assert_eq!(sectors, [7, 2, 3, 9]);
    assert!(file.is_idle());
}

#[test]
fn what_is_written_and_flushed_is_in_the_file() {
    let (queue, file) = (queue(), file(4));
    for durable in [false, true] {
        let flags = Flags {
            fua: durable,
            nowait: true,
        };
        let mut data = queue.memory(1024).unwrap();
        data.fill(100 + u8::from(durable));
        let mut plan = Plan::new(OpKind::Write, flags);
        assert_eq!(plan.is_durable(), durable);
        plan.add(file.clone(), Bytes(512), Part::whole(Sector(0), Sectors(2)))
            .unwrap();
        assert_eq!(carry_out(&queue, plan, data).0, Ok(()));
        let mut bytes = [0; 2048];
        file.file.read_exact_at(&mut bytes, 0).unwrap();
        let expected = [0, 100 + u8::from(durable), 100 + u8::from(durable), 3];
        assert_eq!([bytes[0], bytes[512], bytes[1535], bytes[1536]], expected);
    }
    let flush = plan(OpKind::Flush, &file, &[(0, 0)]);
    assert_eq!(carry_out(&queue, flush, queue.memory(0).unwrap()).0, Ok(()));
}

#[test]
fn errors_come_back_and_the_other_pieces_are_carried_out() {
    let (queue, file) = (queue(), file(4));
    // The second piece begins where the file ends, the first crosses its end.
    for places in [[(1, 1), (4, 1)], [(3, 2), (0, 1)]] {
        let plan = plan(OpKind::Read, &file, &places);
        let (result, data) = carry_out(&queue, plan, queue.memory(2048).unwrap());
        assert_eq!(result, Err(IoError::IO));
        let good = if places[0].0 == 1 { 0 } else { 1024 };
        assert_eq!(u64::from(data[good]), places[usize::from(good > 0)].0);
    }
    let folder = Arc::new(Plain {
        file: File::open("/").unwrap(),
        under_way: AtomicUsize::new(0),
    });
    let plan = plan(OpKind::Read, &folder, &[(0, 1)]);
    let (result, _) = carry_out(&queue, plan, queue.memory(512).unwrap());
    assert_eq!(result.unwrap_err().errno(), Errno::ISDIR);
    let too_long = self::plan(OpKind::Read, &file, &[(0, 2)]);
    let (result, _) = carry_out(&queue, too_long, queue.memory(512).unwrap());
    assert_eq!(result, Err(IoError::IO));
}

#[test]
fn a_plan_without_pieces_ends_at_once() {
    let queue = queue();
    let nothing = Plan::new(OpKind::Flush, Flags::default());
    let (result, _) = carry_out(&queue, nothing, queue.memory(0).unwrap());
    assert_eq!(result, Ok(()));
}

#[test]
fn more_than_the_ring_holds_is_under_way_from_many_threads() {
    const THREADS: usize = 4;
    const EACH: usize = 2000;
    let (queue, file) = (Arc::new(queue()), file(200));
    let (sender, receiver) = mpsc::channel();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (queue, file, sender) = (queue.clone(), file.clone(), sender.clone());
            std::thread::spawn(move || {
                for turn in 0..EACH {
                    let at = ((turn * 7 + thread) % 200) as u64;
                    let data = loop {
                        match queue.memory(512) {
                            Some(data) => break data,
                            None => std::thread::yield_now(),
                        }
                    };
                    let sender = sender.clone();
                    let done = move |result: IoResult, data: &mut [u8]| {
                        sender
                            .send(result.is_ok() && u64::from(data[511]) == at)
                            .unwrap();
                    };
                    queue.submit(plan(OpKind::Read, &file, &[(at, 1)]), data, Box::new(done));
                }
            })
        })
        .collect();
    drop(sender);
    assert_eq!(receiver.iter().filter(|good| *good).count(), THREADS * EACH);
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert!(file.is_idle());
}

#[test]
fn memory_is_bounded_and_comes_back() {
    let (queue, file) = (queue(), file(1));
    let taken: Vec<_> = (0..1024).map(|_| queue.memory(4096).unwrap()).collect();
    assert!(queue.memory(1).is_none());
    drop(taken);
    for _ in 0..3000 {
        let plan = plan(OpKind::Read, &file, &[(0, 1)]);
        let (result, _) = carry_out(&queue, plan, queue.memory(512).unwrap());
        assert_eq!(result, Ok(()));
    }
}

#[test]
fn an_answer_that_panics_takes_nothing_with_it() {
    let (queue, file) = (queue(), file(3));
    for _ in 0..10 {
        let data = queue.memory(512).unwrap();
        let plan = plan(OpKind::Read, &file, &[(1, 1)]);
        queue.submit(plan, data, Box::new(|_, _| panic!("an answer gives up")));
    }
    let plan = plan(OpKind::Read, &file, &[(2, 1)]);
    let (result, data) = carry_out(&queue, plan, queue.memory(512).unwrap());
    assert_eq!((result, data[0]), (Ok(()), 2));
}

#[test]
fn a_queue_that_is_dropped_ends_what_it_was_given() {
    let file = file(100);
    let (sender, receiver) = mpsc::channel();
    let queue = queue();
    for at in 0..100 {
        let sender = sender.clone();
        let done = move |result: IoResult, data: &mut [u8]| {
            sender.send((result, data[0])).unwrap();
        };
        let plan = plan(OpKind::Read, &file, &[(at, 1)]);
        queue.submit(plan, queue.memory(512).unwrap(), Box::new(done));
    }
    drop((queue, sender));
    let mut ended: Vec<u8> = receiver
        .iter()
        .map(|(result, byte)| {
            assert_eq!(result, Ok(()));
            byte
        })
        .collect();
    ended.sort_unstable();
    assert!(ended.into_iter().eq(0..100));
    // The thread has let go of everything.
    while Arc::strong_count(&file) > 1 {
        std::thread::yield_now();
    }
    (&file.file).seek(SeekFrom::Start(0)).unwrap();
}

#[test]
fn a_thread_with_a_ring_of_its_own_answers_when_it_takes_turns() {
    let (queue, file) = (queue(), file(50));
    let own = OwnRing::new().unwrap();
    let here = std::thread::current().id();
    let (sender, receiver) = mpsc::channel();
    for at in 0..50 {
        let sender = sender.clone();
        let done = move |result: IoResult, data: &mut [u8]| {
            assert_eq!(std::thread::current().id(), here);
            sender.send((result, u64::from(data[0]) == at)).unwrap();
        };
        let plan = plan(OpKind::Read, &file, &[(at, 1)]);
        queue.submit(plan, queue.memory(512).unwrap(), Box::new(done));
    }
    assert!(!own.is_idle() && receiver.try_recv().is_err());
    while !own.is_idle() {
        own.turn(None);
    }
    assert_eq!(
        receiver
            .try_iter()
            .filter(|end| *end == (Ok(()), true))
            .count(),
        50
    );
    // What is under way when the ring goes is answered before.
    let last = plan(OpKind::Read, &file, &[(7, 1)]);
    let done = move |result: IoResult, _: &mut [u8]| sender.send((result, true)).unwrap();
    queue.submit(last, queue.memory(512).unwrap(), Box::new(done));
    drop(own);
    assert_eq!(receiver.try_recv(), Ok((Ok(()), true)));
    assert!(file.is_idle());
    // Without one the queue's thread does it again.
    let plan = plan(OpKind::Read, &file, &[(9, 1)]);
    assert_eq!(carry_out(&queue, plan, queue.memory(512).unwrap()).1[0], 9);
}

#[test]
fn a_turn_ends_when_somebody_calls() {
    let own = OwnRing::new().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::io::write(&writer, b"x").unwrap();
    for _ in 0..3 {
        own.turn(Some(reader.as_fd()));
    }
    let calling = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        rustix::io::write(&writer, b"y").unwrap();
        writer
    });
    rustix::io::read(&reader, &mut [0; 1]).unwrap();
    own.turn(Some(reader.as_fd()));
    drop(calling.join().unwrap());
}
