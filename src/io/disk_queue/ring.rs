//! The thread's side of the queue: the ring itself, and the requests that the kernel has.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, cqueue, opcode};
use rustix::event::PollFlags;

use super::{Job, Shared};
use crate::io::plan::Transfer;
use crate::io::{Errno, Memory, OpKind};
use crate::sync::Arc;

/// Transfers handed over by one system call.
const ENTRIES: u32 = 256;
/// Ends that the kernel has room for before it has to allocate.
const ENDS: u32 = 4096;
/// What the bell's ends are marked with; no job has this number.
const BELL: u64 = u64::MAX;
/// How long is waited where the kernel has no memory for another transfer.
const PAUSE: Duration = Duration::from_millis(1);

/// The ring, and what is under way in it.
pub(super) struct Ring {
    ring: IoUring,
    shared: Arc<Shared>,
    /// The kernel reads and writes the data of these: none goes before its last transfer has ended.
    jobs: Vec<Option<Job>>,
    free: Vec<usize>,
    /// Pieces (job and number) whose next transfer is to be handed over.
    next: VecDeque<(usize, usize)>,
    bell_is_armed: bool,
    /// Only the first of several failures in a row is told.
    failed: bool,
}

impl Ring {
    /// A ring that belongs to the calling thread.
    pub(super) fn new(shared: Arc<Shared>) -> io::Result<Ring> {
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
            shared,
            jobs: Vec::new(),
            free: Vec::new(),
            next: VecDeque::new(),
            bell_is_armed: false,
            failed: false,
        })
    }

    /// Carries out what is brought, until the queue is closed and everything has ended.
    pub(super) fn run(mut self) {
        while self.take_in() {
            self.hand_over();
            self.fetch();
        }
    }

    /// Takes what has been brought. Where there was nothing, whoever brings something from now on wakes us. False
    /// where nothing is under way and nothing will come.
    fn take_in(&mut self) -> bool {
        loop {
            let brought = {
                let mut inbox = self.shared.inbox.lock();
                inbox.asleep = inbox.jobs.is_empty();
                if inbox.asleep {
                    let idle = self.free.len() == self.jobs.len();
                    return !(inbox.closed && idle);
                }
                mem::take(&mut inbox.jobs)
            };
            for job in brought {
                self.start(job);
            }
        }
    }

    fn start(&mut self, job: Job) {
        let pieces = job.plan.n_pieces();
        let number = self.free.pop().unwrap_or_else(|| {
            self.jobs.push(None);
            self.jobs.len() - 1
        });
        self.jobs[number] = Some(job);
        self.next.extend((0..pieces).map(|piece| (number, piece)));
    }

    /// Hands everything that is to be done to the kernel, and waits until something has ended or the bell rings.
    fn hand_over(&mut self) {
        if !self.bell_is_armed {
            let bell = Fd(self.shared.bell.as_raw_fd());
            let poll = opcode::PollAdd::new(bell, u32::from(PollFlags::IN.bits()));
            let poll = poll.multi(true).build().user_data(BELL);
            self.bell_is_armed = self.push(&poll);
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
        let all_pushed = self.next.is_empty() && self.bell_is_armed;
        let result = self.ring.submit_and_wait(usize::from(all_pushed));
        match result {
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
    }

    /// True where there was room for `entry`.
    fn push(&mut self, entry: &Entry) -> bool {
        // SAFETY: an entry names the data of a job in `jobs`, which stays there until the entry has ended, or no
        // memory at all. The descriptor belongs to a file that the job's plan holds, or is the bell.
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

    /// Deals with everything that has ended.
    fn fetch(&mut self) {
        // Nobody needs to wake us now.
        self.shared.inbox.lock().asleep = false;
        loop {
            let end = self.ring.completion().next();
            let Some(end) = end else { break };
            if end.user_data() == BELL {
                self.bell_is_armed = cqueue::more(end.flags());
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
            let ended = slot.take();
            self.free.push(number);
            ended.into_iter().for_each(Job::end);
        }
    }
}

impl Drop for Ring {
    /// Where this thread panics the kernel may still be at work on the data: it is left alone for good.
    fn drop(&mut self) {
        if thread::panicking() {
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
