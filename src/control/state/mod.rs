//! What a mount is like, written down so that another process can go on where this one dies.
//!
//! [`Line`]s follow one another as things change; the last one about a device, about the loop devices or about the
//! mount counts ([`Replay`]). [`restore`] makes the devices of them: the same numbers, names, tables and states.
//! Devices below are named by number, as a path may mean something else by now.

mod record;
mod replay;
mod restore;

pub use record::{
    AttachedRecord, DeviceRecord, DeviceUse, FilesRecord, Line, MountRecord, RowRecord,
    TableRecord, backings, device,
};
pub use replay::Replay;
pub use restore::restore;

pub use crate::control::protocol::mount::STATE_FORMAT;
