//! A ring of io_uring and the requests that the kernel has by it; used by the thread that made it.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread;
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, opcode};
use rustix::event::PollFlags;

use super::Job;
use crate::io::plan::Transfer;
use crate::io::{Errno, Memory, OpKind};

/// Transfers handed over by one system call.
const ENTRIES: u32 = 256;
/// Ends that the kernel has room for before it has to allocate.
const ENDS: u32 = 4096;
/// What the end of a wait for a descriptor is marked with; no job has this number.
const CALL: u64 = u64::MAX;
/// How long is waited where the kernel has no memory for another transfer.
const PAUSE: Duration = Duration::from_millis(1);

/// The ring, and what is under way in it.
pub(super) struct Ring {
    ring: IoUring,
    /// The kernel reads and writes the data of these: none goes before its last transfer has ended.
    jobs: Vec<Option<Job>>,
    free: Vec<usize>,
    /// Pieces (job and number) whose next transfer is to be handed over.
    next: VecDeque<(usize, usize)>,
    /// Jobs of which all pieces have ended.
    ended: Vec<Job>,
    /// A descriptor is waited for.
    listens: bool,
    /// Only the first of several failures in a row is told.
    failed: bool,
}

impl Ring {
    /// A ring that belongs to the calling thread.
    pub(super) fn new() -> io::Result<Ring> {
        // Ends are fetched by this thread alone, when it asks for them: nothing is interrupted for them. Kernels
        // before 6.1 do not know that.
        let modern = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(ENDS)
            .build(ENTRIES);
        let ring = modern.or_else(|_| IoUring::builder().setup_cqsize(ENDS).build(ENTRIES))?;
        Ok(Ring {
            ring,
            jobs: Vec::new(),
            free: Vec::new(),
            next: VecDeque::new(),
            ended: Vec::new(),
            listens: false,
            failed: false,
        })
    }

    /// True where nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.free.len() == self.jobs.len()
    }

    /// True where the descriptor of the last turn is still waited for: it has not become readable.
    pub(super) fn listens(&self) -> bool {
        self.listens
    }

    /// Takes a job; its transfers are handed over by the next [`Ring::turn`].
    pub(super) fn start(&mut self, job: Job) {
        let pieces = job.plan.n_pieces();
        let number = self.free.pop().unwrap_or_else(|| {
            self.jobs.push(None);
            self.jobs.len() - 1
        });
        self.jobs[number] = Some(job);
        self.next.extend((0..pieces).map(|piece| (number, piece)));
    }

    /// Hands everything that is to be done to the kernel, waits until something has ended or `call` can be read, and
    /// gives the jobs that have ended, for the caller to tell.
    pub(super) fn turn(&mut self, call: Option<BorrowedFd<'_>>) -> Vec<Job> {
        if let Some(call) = call.filter(|_| !self.listens) {
            // Not exclusively: it may be waited for longer than this thread looks, and must take nobody's call away.
            let events = u32::from(PollFlags::IN.bits());
            let poll = opcode::PollAdd::new(Fd(call.as_raw_fd()), events);
            self.listens = self.push(&poll.build().user_data(CALL));
        }
        while let Some((job, piece)) = self.next.pop_front() {
            match self.entry(job, piece) {
                Ok(entry) => {
                    if !self.push(&entry) {
                        self.next.push_front((job, piece));
                        break;
                    }
                }
                Err(errno) => self.advance(job, piece, Err(errno)),
            }
        }
        let all_pushed = self.next.is_empty() && (self.listens || call.is_none());
        let may_wait = all_pushed && self.ended.is_empty();
        match self.ring.submit_and_wait(usize::from(may_wait)) {
            Ok(_) => self.failed = false,
            // What has ended is fetched, then it goes on.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) => {}
            Err(error) => {
                if !mem::replace(&mut self.failed, true) {
                    log::error!("disk queue: {error}");
                }
                thread::sleep(PAUSE);
            }
        }
        self.fetch();
        mem::take(&mut self.ended)
    }

    /// True where there was room for `entry`.
    fn push(&mut self, entry: &Entry) -> bool {
        // SAFETY: an entry names the data of a job in `jobs`, which stays there until the entry has ended, or no
        // memory at all. The descriptor belongs to a file that the job's plan holds, or is only waited for.
        unsafe { self.ring.submission().push(entry).is_ok() }
    }

    /// The next transfer of a piece.
    fn entry(&mut self, number: usize, piece: usize) -> Result<Entry, Errno> {
        let job = self.jobs.get_mut(number).and_then(Option::as_mut);
        let Job { plan, data, .. } = job.ok_or(Errno::INVAL)?;
        let transfer = plan.transfer(piece)?;
        let file = Fd(transfer.file.as_raw_fd());
        let entry = match plan.kind() {
            OpKind::Read => {
                let (start, len) = stretch(data, &transfer)?;
                opcode::Read::new(file, start, len)
                    .offset(transfer.at.0)
                    .build()
            }
            OpKind::Write => {
                let (start, len) = stretch(data, &transfer)?;
                let durable = if plan.is_durable() {
                    libc::RWF_DSYNC
                } else {
                    0
                };
                opcode::Write::new(file, start, len)
                    .offset(transfer.at.0)
                    .rw_flags(durable)
                    .build()
            }
            OpKind::Flush => opcode::Fsync::new(file).flags(FsyncFlags::DATASYNC).build(),
            OpKind::Discard | OpKind::WriteZeroes => return Err(Errno::OPNOTSUPP),
        };
        Ok(entry.user_data((number as u64) << 32 | piece as u64))
    }

    /// Notes everything that has ended.
    fn fetch(&mut self) {
        loop {
            let end = self.ring.completion().next();
            let Some(end) = end else { break };
            if end.user_data() == CALL {
                self.listens = false;
                continue;
            }
            let (job, piece) = (end.user_data() >> 32, end.user_data() & 0xffff_ffff);
            let moved = usize::try_from(end.result());
            let moved = moved.map_err(|_| Errno::from_raw_os_error(-end.result()));
            self.advance(job as usize, piece as usize, moved);
        }
    }

    fn advance(&mut self, number: usize, piece: usize, moved: Result<usize, Errno>) {
        let Some(slot) = self.jobs.get_mut(number) else {
            return;
        };
        let Some(job) = slot else { return };
        if !job.plan.advance(piece, moved) {
            return self.next.push_back((number, piece));
        }
        job.left -= 1;
        if job.left == 0 {
            self.ended.extend(slot.take());
            self.free.push(number);
        }
    }
}

impl Drop for Ring {
    /// Where the thread ends before its jobs, as in a panic, the kernel may still be at work on their data: that is left
    /// alone for good.
    fn drop(&mut self) {
        if !self.is_idle() {
            mem::forget(mem::take(&mut self.jobs));
        }
    }
}

/// Where in memory the data of a transfer lies, as the kernel wants it.
fn stretch(data: &Memory, transfer: &Transfer<'_>) -> Result<(*mut u8, u32), Errno> {
    let range = &transfer.data;
    if range.start > range.end || range.end > data.len() {
        return Err(Errno::FAULT);
    }
    let len = u32::try_from(range.len()).map_err(|_| Errno::INVAL)?;
    // SAFETY: within the memory, as was just seen.
    let start = unsafe { data.start().add(range.start) };
    Ok((start.as_ptr(), len))
}
