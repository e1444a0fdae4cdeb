//! The device mapper without the kernel: mapped block devices as files in a FUSE mount.

pub mod backing;
pub mod cli;
pub mod control;
pub mod daemon;
pub mod device;
pub mod fs;
pub mod io;
pub mod sync;
pub mod table;
pub mod target;
pub mod targets;
pub mod unit;
