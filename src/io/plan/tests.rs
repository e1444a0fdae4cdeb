#![allow(clippy::unwrap_used)]

use std::os::fd::BorrowedFd;

use super::{MOST_PIECES, Part, PieceEnd, Plan, QueuedFile, TRIES, Unplanned, Watch};
use crate::io::{Errno, Flags, IoError, IoResult, OpKind};
use crate::sync::{Arc, Mutex};
use crate::unit::{Bytes, Sector, Sectors};

/// Where a piece was, how long, and how it ended.
type End = (u64, u64, Result<(), Errno>);

/// A file that only takes notes.
#[derive(Default)]
struct Notes {
    block: u64,
    ends: Mutex<Vec<End>>,
    busy: bool,
}

impl QueuedFile for Notes {
    fn descriptor(&self, kind: OpKind) -> Option<BorrowedFd<'_>> {
        (kind == OpKind::Read).then(rustix::stdio::stderr)
    }

    fn block(&self) -> Bytes {
        Bytes(self.block)
    }

    fn is_idle(&self) -> bool {
        !self.busy
    }

    fn started(&self) {}

    fn ended(&self, piece: PieceEnd) -> IoResult {
        let end = (piece.at.0, piece.len.0, piece.result);
        self.ends.lock().push(end);
        piece.result.map_err(IoError::from)
    }
}

/// Notes under its name what it is told.
struct Told(&'static str, Arc<Mutex<Vec<String>>>);

impl Watch for Told {
    fn ended(self: Box<Self>, result: IoResult) {
        let how = if result.is_ok() { "well" } else { "badly" };
        self.1.lock().push(format!("{} {how}", self.0));
    }

    fn put_off(self: Box<Self>) {
        self.1.lock().push(format!("{} put off", self.0));
    }
}

fn part(at: u64, len: u64) -> Part {
    Part::whole(Sector(at), Sectors(len))
}

/// A plan for a read of 16 sectors at byte 8192 of `file`.
fn plan_of_one(file: &Arc<Notes>) -> Plan {
    let mut plan = Plan::new(OpKind::Read, Flags::default());
    plan.add(file.clone(), Bytes(8192), part(0, 16)).unwrap();
    plan
}

fn next(plan: &Plan) -> (u64, std::ops::Range<usize>) {
    let transfer = plan.transfer(0).unwrap();
    (transfer.at.0, transfer.data)
}

#[test]
fn a_transfer_that_stops_early_goes_on_where_it_stopped() {
    let file = Arc::new(Notes::default());
    let mut plan = plan_of_one(&file);
    assert_eq!(next(&plan), (8192, 0..8192));
    assert!(!plan.advance(0, Ok(1000)));
    assert_eq!(next(&plan), (9192, 1000..8192));
    assert!(!plan.advance(0, Err(Errno::INTR)));
    assert!(!plan.advance(0, Err(Errno::AGAIN)));
    assert_eq!(next(&plan), (9192, 1000..8192));
    assert!(plan.advance(0, Ok(7192)));
    assert_eq!(*file.ends.lock(), [(8192, 8192, Ok(()))]);
    assert_eq!(plan.end(), Ok(()));
}

#[test]
fn it_goes_on_from_a_block_where_the_file_wants_that() {
    let file = Arc::new(Notes {
        block: 4096,
        ..Notes::default()
    });
    let mut plan = plan_of_one(&file);
    assert!(!plan.advance(0, Ok(5000)));
    assert_eq!(next(&plan), (8192 + 4096, 4096..8192));
    // Less than a block further on: the file has ended there.
    assert!(plan.advance(0, Ok(904)));
    assert_eq!(plan.end(), Err(IoError::IO));
}

#[test]
fn a_file_that_ends_early_is_an_error() {
    let file = Arc::new(Notes::default());
    let mut plan = plan_of_one(&file);
    assert!(plan.advance(0, Ok(0)));
    assert_eq!(*file.ends.lock(), [(8192, 8192, Err(Errno::IO))]);
    assert_eq!(plan.end(), Err(IoError::IO));
}

#[test]
fn what_is_put_off_for_ever_ends() {
    let file = Arc::new(Notes::default());
    let mut plan = plan_of_one(&file);
    let tries = (0..).find(|_| plan.advance(0, Err(Errno::AGAIN))).unwrap();
    assert_eq!(tries, TRIES);
    assert_eq!(plan.end().unwrap_err().errno(), Errno::AGAIN);
}

#[test]
fn each_watch_is_told_of_its_pieces_from_the_bottom_up() {
    let (file, told) = (Arc::new(Notes::default()), Arc::default());
    let watch = |name| Box::new(Told(name, Arc::clone(&told)));
    let mut plan = Plan::new(OpKind::Read, Flags::default());
    plan.add(file.clone(), Bytes(0), part(0, 8)).unwrap();
    plan.watch(0, watch("left"));
    let first = plan.n_pieces();
    let (_, right) = part(0, 24).split_at(Sectors(8));
    plan.add(file.clone(), Bytes(512), right).unwrap();
    plan.watch(first, watch("right"));
    plan.watch(0, watch("both"));
    assert_eq!(plan.data_end(), 24 * 512);
    assert_eq!(plan.transfer(1).unwrap().data, 4096..24 * 512);
    assert!(plan.advance(1, Err(Errno::NOSPC)));
    assert!(plan.advance(0, Ok(4096)));
    assert!(told.lock().is_empty());
    assert_eq!(plan.end(), Err(Errno::NOSPC.into()));
    assert_eq!(*told.lock(), ["left well", "right badly", "both badly"]);
}

#[test]
fn what_is_not_carried_out_is_put_off_from_the_top_down() {
    let told = Arc::default();
    let mut plan = plan_of_one(&Arc::default());
    plan.watch(0, Box::new(Told("inner", Arc::clone(&told))));
    plan.watch(0, Box::new(Told("outer", Arc::clone(&told))));
    drop(plan);
    assert_eq!(*told.lock(), ["outer put off", "inner put off"]);
}

#[test]
fn one_piece_for_an_idle_file_needs_no_queue() {
    let (idle, busy) = (
        Arc::new(Notes::default()),
        Arc::new(Notes {
            busy: true,
            ..Notes::default()
        }),
    );
    assert!(plan_of_one(&idle).is_best_at_once());
    assert!(!plan_of_one(&busy).is_best_at_once());
    let mut two = plan_of_one(&idle);
    two.add(idle, Bytes(0), part(0, 1)).unwrap();
    assert!(!two.is_best_at_once());
}

#[test]
fn what_makes_no_sense_is_refused() {
    let file = Arc::new(Notes::default());
    let mut plan = Plan::new(OpKind::Read, Flags::default());
    let far = Part {
        data: Bytes(u64::MAX),
        ..part(0, 1)
    };
    assert_eq!(plan.add(file.clone(), Bytes(0), far), Err(Unplanned));
    let long = part(0, u64::MAX);
    assert_eq!(plan.add(file.clone(), Bytes(0), long), Err(Unplanned));
    for _ in 0..MOST_PIECES {
        plan.add(file.clone(), Bytes(0), part(0, 1)).unwrap();
    }
    assert_eq!(plan.add(file.clone(), Bytes(0), part(0, 1)), Err(Unplanned));
    assert_eq!(plan.transfer(MOST_PIECES).unwrap_err(), Errno::INVAL);
    let mut write = Plan::new(OpKind::Write, Flags::default());
    write.add(file, Bytes(0), part(0, 1)).unwrap();
    assert_eq!(write.transfer(0).unwrap_err(), Errno::PERM);
}
