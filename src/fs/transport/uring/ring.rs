//! One io_uring with the entries that are lent to the kernel through it. Belongs to one thread.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::IoUring;
use io_uring::cqueue::more;
use io_uring::opcode::PollAdd;
use io_uring::squeue::Entry128;
use io_uring::types::{Fd, Fixed, SubmitArgs, Timespec};

use super::command::{commit_and_fetch, register};
use super::entries::{Entries, Request, Slot};
use super::exchange::{Exchange, Finished};
use crate::io::Errno;
use crate::sync::Arc;

/// Marks the completion of the bell; entries are marked by their number.
const BELL: u64 = u64::MAX;
/// The FUSE device, as the ring knows it.
const DEVICE: Fixed = Fixed(0);

/// A ring and its entries.
pub struct Ring {
    /// Goes first: the memory of the entries is given back when nothing is lent any more.
    io: IoUring<Entry128>,
    entries: Entries,
    exchange: Arc<Exchange>,
    /// The kernel's queues that are served here.
    queues: Vec<Queue>,
    /// Which of these each entry is for.
    queue_of: Vec<usize>,
    bell_is_armed: bool,
}

/// A queue of the kernel's.
struct Queue {
    number: u16,
    entries: usize,
    /// Entries that the kernel has.
    lent: usize,
}

/// A request that came in and was not looked at yet.
pub struct Arrival(usize);

impl Queue {
    fn new(number: u16) -> Queue {
        Queue {
            number,
            entries: 0,
            lent: 0,
        }
    }
}

impl Ring {
    /// A ring for the kernel's `queues`. It can do nothing until the thread that it is to belong to calls
    /// [`Ring::adopt`]. `room`: how many completions it is made for.
    ///
    /// # Errors
    /// What the system says: EPERM where it lets nobody have one.
    pub fn new(queues: impl Iterator<Item = u16>, room: u32) -> Result<Ring, Errno> {
        let io = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_r_disabled()
            .setup_clamp()
            .build(room.next_power_of_two())
            .map_err(|error| errno(&error))?;
        let exchange = Arc::new(Exchange::new()?);
        Ok(Ring {
            io,
            entries: Entries::new(exchange.clone()),
            exchange,
            queues: queues.map(Queue::new).collect(),
            queue_of: Vec::new(),
            bell_is_armed: false,
        })
    }

    /// Where answers to its requests come back.
    pub fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// Makes the ring the calling thread's, and lends the kernel behind `device` `count` entries for each queue; it
    /// may send requests from then on, of which the first may be in `arrived` already.
    ///
    /// # Errors
    /// What the kernel says of an entry that it does not take.
    pub fn adopt(
        &mut self,
        device: BorrowedFd<'_>,
        count: usize,
        arrived: &mut Vec<Arrival>,
    ) -> Result<(), Errno> {
        let submitter = self.io.submitter();
        let adopted = submitter
            .register_enable_rings()
            .and_then(|()| submitter.register_files(&[device.as_raw_fd()]));
        adopted.map_err(|error| errno(&error))?;
        for queue in 0..self.queues.len() {
            self.lend_more(queue, count)?;
        }
        // A command that the kernel does not take completes at once.
        self.collect(arrived).map_or(Ok(()), Err)
    }

    /// Lends `count` new entries for one of the queues.
    fn lend_more(&mut self, queue: usize, count: usize) -> Result<(), Errno> {
        let first = self.entries.len();
        self.entries.add(count)?;
        self.queue_of.resize(first + count, queue);
        let places = (first..first + count).map(|index| self.entries.places(index));
        let places: Vec<_> = places.collect();
        let number = self.queues[queue].number;
        self.queues[queue].entries += count;
        for (index, places) in (first..).zip(&places) {
            self.lend(index, register(DEVICE, number, places))?;
        }
        // The places are read here.
        self.submit()
    }

    /// Lends as many entries again where more than half of a queue's are with requests that wait; `most` for a
    /// queue. The kernel gives a new entry to a request that comes, and to one that has come already only behind
    /// an answer: so before all are used up.
    ///
    /// # Errors
    /// What the system says.
    pub fn grow(&mut self, most: usize) -> Result<(), Errno> {
        for queue in 0..self.queues.len() {
            let Queue { entries, lent, .. } = self.queues[queue];
            let more = entries.min(most.saturating_sub(entries));
            if lent < entries / 2 && more > 0 {
                self.lend_more(queue, more)?;
            }
        }
        Ok(())
    }

    fn lend(&mut self, index: usize, command: Entry128) -> Result<(), Errno> {
        let command = command.user_data(index as u64);
        self.push(&command)?;
        self.queues[self.queue_of[index]].lent += 1;
        Ok(())
    }

    fn push(&mut self, command: &Entry128) -> Result<(), Errno> {
        // SAFETY: commands lead to memory of entries, which lives until they are no longer lent, or to none.
        if unsafe { self.io.submission().push(command) }.is_ok() {
            return Ok(());
        }
        self.submit()?;
        // SAFETY: as above.
        unsafe { self.io.submission().push(command) }.map_err(|_| Errno::BUSY)
    }

    /// Hands over what was prepared.
    ///
    /// # Errors
    /// What the system says.
    pub fn submit(&mut self) -> Result<(), Errno> {
        self.enter(0, None)
    }

    /// Hands over what was prepared and waits for the next request or the bell, `patience` at most.
    ///
    /// # Errors
    /// What the system says.
    pub fn wait(&mut self, patience: Option<Duration>) -> Result<(), Errno> {
        if !self.bell_is_armed {
            let bell = Fd(self.exchange.bell().as_raw_fd());
            let poll = PollAdd::new(bell, libc::POLLIN as u32).multi(true).build();
            self.push(&Entry128::from(poll.user_data(BELL)))?;
            self.bell_is_armed = true;
        }
        self.enter(1, patience)
    }

    fn enter(&mut self, wanted: usize, patience: Option<Duration>) -> Result<(), Errno> {
        let submitted = match patience {
            Some(patience) => {
                let until = Timespec::from(patience);
                let terms = SubmitArgs::new().timespec(&until);
                self.io.submitter().submit_with_args(wanted, &terms)
            }
            None => self.io.submit_and_wait(wanted),
        };
        match submitted.map_err(|error| errno(&error)) {
            // BUSY: completions have to be taken off first.
            Ok(_) | Err(Errno::INTR | Errno::TIME | Errno::BUSY | Errno::AGAIN) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Moves what has completed to `arrived`. Gives the last error with which an entry came back, if one did.
    pub fn collect(&mut self, arrived: &mut Vec<Arrival>) -> Option<Errno> {
        let mut failed = None;
        for done in self.io.completion() {
            if done.user_data() == BELL {
                self.bell_is_armed = more(done.flags());
                continue;
            }
            let index = done.user_data() as usize;
            self.queues[self.queue_of[index]].lent -= 1;
            match done.result() {
                0.. => arrived.push(Arrival(index)),
                error => failed = Some(Errno::from_raw_os_error(-error)),
            }
        }
        failed
    }

    /// What arrived, and the right to answer it.
    pub fn open(&self, arrival: Arrival) -> (Request<'_>, Slot) {
        // SAFETY: an arrival is a command of this entry that completed, and there is one of it.
        unsafe { self.entries.arrived(arrival.0) }
    }

    /// Prepares an answer, and the entry for the next request.
    ///
    /// # Errors
    /// What the system says.
    pub fn answer(&mut self, finished: &Finished) -> Result<(), Errno> {
        let id = self.entries.answer(finished);
        let queue = self.queues[self.queue_of[finished.index]].number;
        self.lend(finished.index, commit_and_fetch(DEVICE, queue, id))
    }

    /// True where the kernel has none of the entries.
    pub fn has_all(&self) -> bool {
        self.queues.iter().all(|queue| queue.lent == 0)
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::fd::AsFd;

    use super::Ring;

    #[test]
    fn what_is_no_mount_takes_no_entries() {
        // A kernel without io_uring, or one that keeps it from us, has nothing to test here but saying so.
        let Ok(mut ring) = Ring::new([0, 1].into_iter(), 8) else {
            return;
        };
        let file = tempfile::tempfile().unwrap();
        assert!(ring.adopt(file.as_fd(), 4, &mut Vec::new()).is_err());
    }
}
