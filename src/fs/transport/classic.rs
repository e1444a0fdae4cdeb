//! The classic transport: workers read requests from /dev/fuse and write answers to it.
//!
//! Each worker has a descriptor of its own and serves what it reads before it reads again.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};

use super::connection::{Connection, Incoming};
use super::reply::Reply;
use crate::fs::dispatch::Dispatch;
use crate::fs::protocol::{Operation, decode, split};
use crate::io::Errno;
use crate::sync::{Arc, become_worker};

/// The workers of one mount.
pub struct Workers(Vec<JoinHandle<Result<(), Errno>>>);

/// Starts `count` workers that take requests from `connection` to `dispatch`.
///
/// # Errors
/// What the system says where it refuses a descriptor or a thread. Those that were started by then end with the
/// mount.
pub fn start(
    connection: &Arc<Connection>,
    dispatch: &Arc<Dispatch>,
    count: usize,
) -> io::Result<Workers> {
    let mut connections = vec![connection.clone()];
    for _ in 1..count {
        connections.push(Arc::new(connection.for_another_worker()?));
    }
    let workers = connections.into_iter().enumerate();
    let workers = workers.map(|(number, connection)| {
        let dispatch = dispatch.clone();
        thread::Builder::new()
            .name(format!("fuse-{number}"))
            .spawn(move || work(&connection, &dispatch))
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

fn work(connection: &Arc<Connection>, dispatch: &Arc<Dispatch>) -> Result<(), Errno> {
    become_worker();
    let mut incoming = Incoming::new();
    loop {
        match connection.receive(&mut incoming) {
            Ok(request) => {
                // The request is then answered with EIO, by the reply that is dropped; the mount goes on.
                let served = || serve(connection, dispatch, request);
                if catch_unwind(AssertUnwindSafe(served)).is_err() {
                    log::error!("serving a request panicked; it got EIO");
                }
            }
            // A worker that holds a request when the mount goes away is told CONNABORTED, and not NODEV.
            Err(Errno::NODEV | Errno::CONNABORTED) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

#[inline]
fn serve(connection: &Arc<Connection>, dispatch: &Arc<Dispatch>, request: &[u8]) {
    let Ok((header, body)) = split(request) else {
        return log::error!("the kernel sent {} bytes: too short", request.len());
    };
    let reply = Reply::new(header.unique, connection.clone());
    match decode(&header, body, None) {
        Ok(Operation::Forget) => reply.none(),
        Ok(operation) => dispatch.serve(header.inode, operation, reply),
        Err(error) => reply.error(error),
    }
}
