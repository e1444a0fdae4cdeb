//! The io_uring transport: a ring thread for each processor, whose entries the kernel fills with requests.
//!
//! The kernel has a queue for each processor that there can be, and sends what a process asks for through the queue
//! of the processor that it runs on. A thread takes all requests that have come, serves them, and hands all answers
//! over in the call in which it waits for the next requests. Data is read into and written from the entries' memory
//! as it lies. What the kernel tells without wanting an answer, and what we tell the kernel, still goes through
//! /dev/fuse (classic).
//!
//! Requests wait in the kernel until every queue has an entry. All that can be refused is therefore asked for before
//! the kernel is told that rings will be there ([`Prepared::new`]).

mod command;
mod entries;
mod exchange;
mod ring;

pub use entries::{Kept, Slot};

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread::{self, JoinHandle, available_parallelism};
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::reply::Reply;
use crate::fs::dispatch::Dispatch;
use crate::fs::protocol::{decode, split};
use crate::io::Errno;
use crate::sync::{Arc, become_worker};
use entries::Request;
use exchange::Exchange;
use ring::{Arrival, Ring};

/// Whether the kernel's module lets mounts have rings.
const ENABLED: &str = "/sys/module/fuse/parameters/enable_uring";
/// The processors that there can be.
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";
/// Entries of a queue to begin with. Those that the kernel got last are used first: memory of the others stays
/// untouched.
const ENTRIES: usize = 64;
/// Entries of a queue whose requests all wait; more requests than this queue in the kernel.
const MOST_WAITING: usize = 4096;
/// How long the kernel may take to give back the entries of a mount that is gone.
const LAST_ENTRIES: Duration = Duration::from_secs(5);
/// After so many bytes of data answers are handed over before the rest of a batch is served.
const MOST_HELD_BACK: usize = 64 << 10;

/// Why a mount cannot have rings here, for people; nothing where it can.
pub fn obstacle() -> Option<String> {
    match fs::read_to_string(ENABLED) {
        Ok(text) if text.trim() == "Y" => None,
        Ok(_) => Some(format!(
            "FUSE over io_uring is switched off: root does `echo Y > {ENABLED}` (until the next boot; fuse.enable_uring=1 on the kernel's command line, for good)"
        )),
        Err(_) => Some("this kernel has no FUSE over io_uring (Linux 6.14 and later)".to_owned()),
    }
}

/// Rings that no kernel knows of yet.
pub struct Prepared(Vec<Ring>);

impl Prepared {
    /// Rings for a mount.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn new() -> Result<Prepared, Errno> {
        let queues = fs::read_to_string(POSSIBLE).map_or(1, |text| count(&text));
        let threads = available_parallelism().map_or(1, usize::from).min(queues);
        let rings = (0..threads).map(|thread| {
            let own = (thread..queues).step_by(threads);
            let room = own.len() * ENTRIES + 1;
            Ring::new(own.map(|queue| queue as u16), room as u32)
        });
        Ok(Prepared(rings.collect::<Result<_, Errno>>()?))
    }

    /// Has threads take requests through the rings from `connection` to `dispatch`.
    ///
    /// # Errors
    /// What the kernel refuses; it then goes on without rings.
    pub fn start(
        self,
        connection: &Arc<Connection>,
        dispatch: &Arc<Dispatch>,
    ) -> Result<Rings, Errno> {
        let mut rings = Rings(Vec::new());
        let (report, reports) = mpsc::channel();
        for (number, ring) in self.0.into_iter().enumerate() {
            let exchange = ring.exchange().clone();
            let (connection, dispatch) = (connection.clone(), dispatch.clone());
            let report = report.clone();
            let thread = thread::Builder::new()
                .name(format!("ring-{number}"))
                .spawn(move || run(ring, &connection, &dispatch, &report));
            let thread =
                thread.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN));
            rings.0.push((exchange, thread?));
        }
        drop(report);
        // A thread that ends without a report drops its end.
        for _ in 0..rings.0.len() {
            reports.recv().unwrap_or(Err(Errno::IO))?;
        }
        Ok(rings)
    }
}

/// How many processors a list such as `0-3,8` names.
fn count(list: &str) -> usize {
    let number = |text: &str| text.trim().parse::<usize>().ok();
    let ranges = list
        .split(',')
        .filter_map(|range| match range.split_once('-') {
            Some((first, last)) => (number(last)? + 1).checked_sub(number(first)?),
            None => number(range).map(|_| 1),
        });
    ranges.sum::<usize>().clamp(1, usize::from(u16::MAX))
}

/// The ring threads of a mount. Dropping it ends them.
pub struct Rings(Vec<(Arc<Exchange>, JoinHandle<()>)>);

impl Drop for Rings {
    fn drop(&mut self) {
        for (exchange, _) in &self.0 {
            exchange.stop();
        }
        for (_, thread) in self.0.drain(..) {
            if thread.join().is_err() {
                log::error!("a ring thread panicked");
            }
        }
    }
}

fn run(
    mut ring: Ring,
    connection: &Connection,
    dispatch: &Dispatch,
    report: &mpsc::Sender<Result<(), Errno>>,
) {
    use std::os::fd::AsFd;
    become_worker();
    let mut arrived = Vec::new();
    let adopted = ring.adopt(connection.as_fd(), ENTRIES, &mut arrived);
    let serves = adopted.is_ok();
    // Who asked is gone only where another thread has failed.
    let _ = report.send(adopted);
    if !serves {
        return;
    }
    let served = serve_all(&mut ring, arrived, dispatch);
    if let Err(error) = served.and_then(|()| take_back(&mut ring)) {
        log::error!("a ring: {error}");
    }
    if !ring.has_all() {
        // The kernel may still write there.
        log::error!("the kernel keeps memory of a mount that is gone");
        std::mem::forget(ring);
    }
}

fn serve_all(ring: &mut Ring, mut arrived: Vec<Arrival>, dispatch: &Dispatch) -> Result<(), Errno> {
    let mut finished = Vec::new();
    let exchange = ring.exchange().clone();
    loop {
        let mut held_back = 0;
        for arrival in arrived.drain(..) {
            if held_back >= MOST_HELD_BACK {
                held_back = 0;
                exchange.take(&mut finished, false);
                for finished in finished.drain(..) {
                    ring.answer(&finished)?;
                }
                ring.submit()?;
            }
            held_back += serve(ring, arrival, dispatch);
        }
        if !exchange.take(&mut finished, true) {
            return Ok(());
        }
        for finished in finished.drain(..) {
            ring.answer(&finished)?;
        }
        ring.grow(MOST_WAITING)?;
        ring.wait(None)?;
        exchange.wake_up();
        collect(ring, &mut arrived);
    }
}

fn collect(ring: &mut Ring, arrived: &mut Vec<Arrival>) {
    match ring.collect(arrived) {
        // The mount is gone.
        None | Some(Errno::NOTCONN | Errno::CONNABORTED | Errno::CANCELED | Errno::NODEV) => {}
        Some(error) => log::error!("the kernel gives an entry of a ring back: {error}"),
    }
}

/// Serves what arrived; gives the bytes of data that go with the answer or came with the request.
#[inline]
fn serve(ring: &Ring, arrival: Arrival, dispatch: &Dispatch) -> usize {
    let (request, slot) = ring.open(arrival);
    let served = || serve_request(&request, slot, dispatch);
    // The request is then answered with EIO, by the reply that is dropped; the mount goes on.
    catch_unwind(AssertUnwindSafe(served)).unwrap_or_else(|_| {
        log::error!("serving a request panicked; it got EIO");
        0
    })
}

#[inline]
fn serve_request(request: &Request<'_>, slot: Slot, dispatch: &Dispatch) -> usize {
    let reply = Reply::into_entry(slot);
    let Ok((header, _)) = split(request.header) else {
        reply.error(Errno::IO);
        return 0;
    };
    match decode(&header, request.body, Some(request.payload)) {
        Ok(operation) => {
            let len = operation.data_len();
            dispatch.serve(header.inode, operation, reply);
            len
        }
        Err(error) => {
            reply.error(error);
            0
        }
    }
}

/// Waits until the kernel has given all entries back, as it does when the mount is gone.
fn take_back(ring: &mut Ring) -> Result<(), Errno> {
    let deadline = Instant::now() + LAST_ENTRIES;
    let mut arrived: Vec<Arrival> = Vec::new();
    loop {
        collect(ring, &mut arrived);
        for arrival in arrived.drain(..) {
            ring.open(arrival).1.answer(Err(Errno::CONNABORTED));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if ring.has_all() || left.is_zero() {
            return Ok(());
        }
        ring.wait(Some(left))?;
    }
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn processors_are_counted_in_the_kernels_list() {
        assert_eq!(count("0-1\n"), 2);
        assert_eq!(count("0"), 1);
        assert_eq!(count("0-3,8,10-11\n"), 7);
        assert_eq!(count(""), 1);
        assert_eq!(count("7-3"), 1);
    }
}
