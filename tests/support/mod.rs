//! What the integration tests share: mounts, the command line, loop devices, pattern data, fixtures.
//!
//! Every mount has a folder and a runtime directory of its own, so tests run in parallel. Whatever a
//! test leaves behind (daemon, mount, loop devices) goes when its guard is dropped, also by a panic.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses a part of this; a failing helper fails its test"
)]

pub mod control;
pub mod fixtures;
pub mod loop_device;
pub mod mount;
pub mod pattern;
pub mod terminal;
pub mod tools;
pub mod transport;
pub mod watchdog;
