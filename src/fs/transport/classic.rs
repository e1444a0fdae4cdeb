//! The classic transport: workers read requests from /dev/fuse and write answers to it.
//!
//! Each worker has a descriptor of its own and serves what it reads before it reads again. How many of them wait for
//! requests is the crew's to decide.
//!
//! What waits for a disk a worker hands to a ring of its own, and goes on. As long as something is under way there it
//! waits for both at once, the next request and the next end, and never for a request alone.

use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};

use super::connection::{Connection, Incoming};
use super::crew::{Crew, Looks};
use super::reply::Reply;
use crate::fs::dispatch::Dispatch;
use crate::fs::protocol::{Header, Operation, decode, split};
use crate::io::{Errno, OwnRing};
use crate::sync::{Arc, become_worker};

/// Requests that are taken before those for disks are handed over.
const MOST_BEFORE_TURN: u32 = 16;

/// The workers of one mount.
pub struct Workers(Vec<JoinHandle<Result<(), Errno>>>);

/// Descriptors for `count` workers, `connection` the first of them.
///
/// # Errors
/// What the system says where it refuses one.
pub fn spread(connection: Arc<Connection>, count: usize) -> io::Result<Vec<Arc<Connection>>> {
    let mut connections = vec![connection];
    for _ in 1..count {
        connections.push(Arc::new(connections[0].for_another_worker()?));
    }
    Ok(connections)
}

/// Starts a worker for each of `connections`, which takes requests to `dispatch`.
///
/// # Errors
/// What the system says where it refuses a thread. Those that were started by then end with the mount.
pub fn start(connections: &[Arc<Connection>], dispatch: &Arc<Dispatch>) -> io::Result<Workers> {
    let crew = Arc::new(Crew::new(connections.len()));
    let workers = connections.iter().cloned().enumerate();
    let workers = workers.map(|(number, connection)| {
        let worker = Worker {
            number,
            connection,
            dispatch: dispatch.clone(),
            crew: crew.clone(),
        };
        thread::Builder::new()
            .name(format!("fuse-{number}"))
            .spawn(move || worker.work())
    });
    Ok(Workers(workers.collect::<io::Result<_>>()?))
}

impl Workers {
    /// Waits until the mount is gone.
    ///
    /// # Errors
    /// What ended it, where it was not an unmount.
    pub fn wait(self) -> Result<(), Errno> {
        let mut result = Ok(());
        for worker in self.0 {
            result = result.and(worker.join().unwrap_or(Err(Errno::IO)));
        }
        result
    }
}

/// One worker.
struct Worker {
    number: usize,
    connection: Arc<Connection>,
    dispatch: Arc<Dispatch>,
    crew: Arc<Crew>,
}

impl Worker {
    fn work(self) -> Result<(), Errno> {
        become_worker();
        let result = self.serve_all();
        self.crew.dismiss();
        match result {
            // A worker that holds a request when the mount goes away is told CONNABORTED, and not NODEV.
            Err(Errno::NODEV | Errno::CONNABORTED) => Ok(()),
            other => other,
        }
    }

    fn serve_all(&self) -> Result<(), Errno> {
        let mut incoming = Incoming::new();
        let mut looks = Looks::default();
        let disks = self.dispatch.queues().then(OwnRing::new).flatten();
        let is_idle = || disks.as_ref().is_none_or(OwnRing::is_idle);
        // Whoever had the descriptor before may have left it otherwise.
        let mut waits = true;
        self.connection.set_waiting(waits)?;
        let mut since_turn = 0;
        loop {
            if waits != is_idle() {
                waits = !waits;
                self.connection.set_waiting(waits)?;
            }
            let request = if waits {
                if !self.crew.wait_for_duty(self.number) || self.dispatch.is_retired() {
                    return Ok(());
                }
                Some(self.connection.receive(&mut incoming)?)
            } else if since_turn < MOST_BEFORE_TURN && self.takes_requests() {
                self.connection.try_receive(&mut incoming)?
            } else {
                None
            };
            let Some(request) = request else {
                since_turn = 0;
                if let Some(disks) = &disks {
                    let listens = self.takes_requests();
                    disks.turn(listens.then(|| self.connection.as_fd()));
                }
                continue;
            };
            since_turn += 1;
            let Ok((header, body)) = split(request) else {
                log::error!("the kernel sent {} bytes: too short", request.len());
                continue;
            };
            let operation = decode(&header, body, None);
            let len = operation.as_ref().map_or(0, Operation::data_len);
            let is_backlog = || self.connection.has_request();
            self.crew.taken(self.number, len, &mut looks, is_backlog);
            // After a panic the request is answered with EIO, by the reply that is dropped; the mount goes on.
            let serve = AssertUnwindSafe(|| self.serve(&header, operation));
            if catch_unwind(serve).is_err() {
                log::error!("serving a request panicked; it got EIO");
            }
            self.crew.served(self.number);
        }
    }

    fn takes_requests(&self) -> bool {
        self.crew.is_on_duty(self.number) && !self.dispatch.is_retired()
    }

    #[inline]
    fn serve(&self, header: &Header, operation: Result<Operation<'_>, Errno>) {
        let reply = Reply::new(header.unique, &self.connection);
        match operation {
            Ok(Operation::Forget) => reply.none(),
            Ok(operation) => self.dispatch.serve(header.inode, operation, reply),
            Err(error) => reply.error(error),
        }
    }
}
