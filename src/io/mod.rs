//! Requests and the devices that take them.
//!
//! Everything on the data path speaks [`Request`] to a [`BlockDev`]: whole sectors, inside the device, borrowed
//! buffers, answered before the call returns. Requests in flight together have no order; a flush makes
//! durable every write completed before it was submitted.

mod agenda;
mod aside;
mod buffer;
mod cells;
mod clock;
mod counters;
mod dev_ref;
mod disk_queue;
mod edges;
mod error;
mod extent;
mod fan_out;
mod hold;
mod in_flight;
mod limits;
mod memory;
mod plan;
mod pool;
mod range_lock;
mod request;
pub mod scratch;
mod shortcut;
mod stopwatch;
mod waiting_room;

pub use aside::{aside, bequeath_nothing};
pub use buffer::{Buffer, Piece, ReadBuf, WriteBuf};
pub use cells::{Cells, MyCell};
pub use clock::{Clock, coarse as coarse_nanoseconds_now};
pub use counters::{Counters, Tally};
pub use dev_ref::{DevRef, DeviceNumber, OpenDevice};
pub use disk_queue::{DiskQueue, Done, OwnRing};
pub use edges::{AlignedWrite, EdgeGuard, Edges};
pub use error::{Errno, IoError, IoResult};
pub use extent::Extent;
pub use fan_out::{fan_out, worth_fanning};
pub use hold::Hold;
pub use in_flight::{InFlight, Inside, Opening, Pass};
pub use limits::Limits;
pub use memory::Memory;
pub use plan::{Part, PieceEnd, Plan, QueuedFile, Unplanned, Watch};
pub use pool::Pool;
pub use range_lock::{RangeGuard, RangeLock};
pub use request::{Flags, Op, OpKind, Request};
pub use shortcut::{Blocked, Closed, Shortcut, Stretches, Trail, Waypoint, index_of};
pub use stopwatch::{Durations, now as nanoseconds_now};
pub use waiting_room::{Job, WaitingRoom};

use std::os::fd::BorrowedFd;

use crate::sync::Arc;
use crate::unit::{Sector, Sectors};

/// A block device: a file, a stretch of memory, a mapped device.
pub trait BlockDev: Send + Sync {
    /// How long the device is. It may grow or shrink while open.
    fn capacity(&self) -> Sectors;

    /// Block sizes and what the device can do besides reading and writing.
    fn limits(&self) -> Limits;

    /// Smallest unit of a request, bytes: that of [`Self::limits`], for those who ask at every request.
    fn logical_block_size(&self) -> u32 {
        self.limits().logical_block_size
    }

    /// Carries out `request`, whole sectors inside the device, and returns when it is done.
    ///
    /// # Errors
    /// The errno that a block device gives; [`IoError::WOULD_WAIT`] where `request.flags.nowait` is set and the
    /// request would have to wait on time or on a person. A request refused so may have been carried out in
    /// part and is to be submitted again as a whole.
    fn submit(&self, request: Request<'_>) -> IoResult;

    /// Adds to `plan` in which files `part` of its request lies, so that the request can be carried out without a
    /// thread that waits for it. What the device guards or counts for a request stays held by a [`Watch`].
    ///
    /// # Errors
    /// [`Unplanned`] where the device has to see the request itself: it is to be submitted then. What the
    /// plan holds is given up with it.
    fn plan(self: Arc<Self>, _part: Part, _plan: &mut Plan) -> Result<(), Unplanned> {
        Err(Unplanned)
    }

    /// Has `trail`, which has come to this device, go on to what the device shows, where it shows stretches of others and
    /// does nothing else; false where the trail ends here.
    fn trace(&self, _trail: &mut Trail<'_>) -> bool {
        false
    }

    /// The file that holds the device's bytes, each in its place, where there is one and the opener may write it.
    fn file(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether data or a hole lies at `at`, a sector of the device, and up to where. A device that does not
    /// know says data.
    fn extent_at(&self, _at: Sector) -> Extent {
        Extent::data(Sector(self.capacity().0))
    }
}
