//! Requests that wait for a disk: handed to the [`DiskQueue`] as plans, so that no thread waits with them.
//!
//! Each function here takes the reply and either sees to it that it is given, or gives it back where the request is not
//! for the queue: the caller then carries it out. That is so where a device on the way has to see it, where the
//! queue has no memory left, and where there is no queue because the kernel has no io_uring for us.

use std::time::Instant;

use super::bytes;
use super::front::Front;
use super::inodes::Inode;
use super::protocol::written;
use super::transport::Reply;
use crate::io::{BlockDev, DiskQueue, Errno, Flags, IoResult, OpKind, Part, Plan, Unplanned};
use crate::sync::Arc;
use crate::unit::{Sector, Sectors};

/// When a request is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Where others wait for the same disk, or for the worker. One that is alone is carried out fastest by the worker
    /// that has it.
    Busy,
    /// Always: it was tried, and would have had to wait.
    Always,
}

impl When {
    fn is_met(self, plan: &Plan, reply: &Reply<'_>) -> bool {
        self == When::Always || !plan.is_best_at_once() || reply.keeps_others_waiting()
    }
}

/// The way to the queue.
pub struct Queued {
    front: Arc<Front>,
    queue: Option<DiskQueue>,
}

impl Queued {
    /// Hands requests for files of `front` to `queue`, if there is one.
    pub fn new(front: Arc<Front>, queue: Option<DiskQueue>) -> Queued {
        Queued { front, queue }
    }

    /// True where there is a queue.
    pub fn is_there(&self) -> bool {
        self.queue.is_some()
    }

    /// True where requests for `id` are better offered here before anything else: its disks make the caller wait.
    #[inline]
    pub fn comes_first(&self, id: u64) -> bool {
        self.queue.is_some() && self.front.waits(id)
    }

    /// Reads.
    ///
    /// # Errors
    /// The reply, where the request is not for the queue.
    #[cold]
    pub fn read<'w>(
        &self,
        id: u64,
        at: u64,
        len: usize,
        when: When,
        reply: Reply<'w>,
    ) -> Result<(), Reply<'w>> {
        let Some((queue, inode)) = self.way_to(id) else {
            return Err(reply);
        };
        let Ok(planned) = bytes::plan_read(inode.device().clone(), at, len) else {
            return Err(reply);
        };
        if !when.is_met(&planned.plan, &reply) {
            return Err(reply);
        }
        let Some(memory) = queue.memory(planned.len) else {
            return Err(reply);
        };
        let inner = planned.inner;
        let reply = reply.detached();
        let done = move |result: IoResult, data: &mut [u8]| match (result, data.get(inner)) {
            (Ok(()), Some(data)) => reply.body(data),
            (Ok(()), None) => reply.error(Errno::IO),
            (Err(error), _) => reply.error(error),
        };
        queue.submit(planned.plan, memory, Box::new(done));
        Ok(())
    }

    /// Writes; the data is copied.
    ///
    /// # Errors
    /// As for [`Queued::read`].
    #[cold]
    pub fn write<'w>(
        &self,
        id: u64,
        at: u64,
        data: &[u8],
        flags: Flags,
        when: When,
        reply: Reply<'w>,
    ) -> Result<(), Reply<'w>> {
        let Some((queue, inode)) = self.way_to(id) else {
            return Err(reply);
        };
        let Ok(plan) = plan_write(&inode, at, data.len(), flags) else {
            return Err(reply);
        };
        if !when.is_met(&plan, &reply) {
            return Err(reply);
        }
        let Some(mut memory) = queue.memory(data.len()) else {
            return Err(reply);
        };
        memory.copy_from_slice(data);
        inode.touch();
        let reply = reply.detached();
        let done = move |result: IoResult, data: &mut [u8]| match result {
            Ok(()) => reply.body(&written(data.len())),
            Err(error) => reply.error(error),
        };
        queue.submit(plan, memory, Box::new(done));
        Ok(())
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    /// As for [`Queued::read`].
    #[cold]
    pub fn flush<'w>(&self, id: u64, reply: Reply<'w>) -> Result<(), Reply<'w>> {
        let Some((queue, inode)) = self.way_to(id) else {
            return Err(reply);
        };
        let mut plan = Plan::new(OpKind::Flush, Flags::default());
        let whole = Part::whole(Sector(0), Sectors::ZERO);
        if inode.device().clone().plan(whole, &mut plan).is_err() {
            return Err(reply);
        }
        let Some(memory) = queue.memory(0) else {
            return Err(reply);
        };
        let start = Instant::now();
        let reply = reply.detached();
        let done = move |result: IoResult, _: &mut [u8]| {
            if result.is_ok() {
                inode.note_flush(start.elapsed());
            }
            reply.result(result);
        };
        queue.submit(plan, memory, Box::new(done));
        Ok(())
    }

    fn way_to(&self, id: u64) -> Option<(&DiskQueue, Arc<Inode>)> {
        Some((self.queue.as_ref()?, self.front.inodes().get(id)?))
    }
}

/// Plans a write that is kept apart, until it has ended, from those that cover blocks in part.
fn plan_write(inode: &Arc<Inode>, at: u64, len: usize, flags: Flags) -> Result<Plan, Unplanned> {
    let passing = inode.edges.pass_aligned().ok_or(Unplanned)?;
    let mut plan = bytes::plan_write(inode.device().clone(), at, len, flags)?;
    plan.watch(0, Box::new(passing));
    Ok(plan)
}
