//! The device mapper without the kernel: mapped block devices as files in a FUSE mount.
//!
//! # The data path
//!
//! ```text
//! read, write, fsync, fallocate on MOUNTPOINT/NAME
//!   |
//! fs        dispatch: a worker of the FUSE front reads a request from /dev/fuse
//!   |       bytes: any bytes become whole logical blocks
//! device    gate: in, unless suspended; then the active table
//!   |       (around all of this where there is a shortcut: straight to the last line)
//! table     the row (binary search); cut at rows and at the target's boundary
//!   |
//! targets   linear: one DevRef; striped: one request for each stripe, through io::fan_out; ...
//!   |
//! DevRef    rebased, bounds checked
//!   |
//! backing   pread, pwrite, fdatasync, fallocate - or again a device: a call
//! ```
//!
//! The worker stays with its request all the way down and back, and answers it. It never waits on time or on a
//! person: a request that would have to (at a closed gate, for a held range) comes back as
//! [`io::IoError::WOULD_WAIT`] and is carried out by the [`io::WaitingRoom`], which has threads for that.
//!
//! # The control path
//!
//! ```text
//! cli       dmfs VERB: the transactions that libdm makes
//!   |       a Unix socket: control::protocol
//! control   server -> transaction (struct dm_ioctl) -> Registry: names, uuids, numbers
//!   |
//! device    load into the inactive slot; suspend closes the gate and drains; resume swaps and opens
//!   |
//! table     parsing; each row's TargetKind builds its target, which opens its devices
//! ```
//!
//! The two paths meet at a device's gate, or where a shortcut around gates closes, and nowhere else.
//!
//! # The layers
//!
//! Uses point down only; `tests/layers.rs` holds the tree to it.
//!
//! ```text
//! daemon     crash            the life of a mount; states of a log: nothing else knows both fs and control
//! control                     registry, mount files, protocol, socket, loop devices
//! fs                          the FUSE front
//! device                      two table slots, the gate, events
//! table      targets          rows and limits; one file for each target
//! encrypted                   LUKS, plain mode, TrueCrypt: from a header and a passphrase to a row
//! target                      what a target is: Target, TargetKind, its arguments
//! backing                     files, block devices, memory
//! io                          request, BlockDev, limits, fan-out, range lock, waiting room
//! terminal   format           colours, width, progress, prompts; headers as bytes
//! unit    sync    crypto      sectors and bytes; lock types; ciphers over sectors
//! ```
//!
//! [`cli`] and [`run`] stand aside: they use `unit`, `sync`, `terminal`, `encrypted` and `control::protocol` alone and
//! never touch a mapped device. `table` and `device` are handed the list of target kinds and name none.

pub mod backing;
pub mod cli;
pub mod control;
pub mod crash;
pub mod crypto;
pub mod daemon;
pub mod device;
pub mod encrypted;
pub mod format;
pub mod fs;
pub mod io;
pub mod run;
pub mod sync;
pub mod table;
pub mod target;
pub mod targets;
pub mod terminal;
pub mod unit;
