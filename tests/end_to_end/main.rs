//! dmfs as its users meet it: real mounts, real loop devices, real file systems, real tools.
//!
//! Needs root, /dev/fuse and loop devices; a missing tool fails the test that wants it and names the
//! Debian package. Every test has a mount of its own.
#![allow(clippy::unwrap_used, reason = "what fails here fails its test")]

mod cache;
mod crash;
mod crypt;
mod faults;
mod faulty_disks;
mod files;
mod fio;
mod harden;
mod life;
mod links;
mod luks;
mod model;
mod mounts;
mod multipath;
mod people;
mod reencrypt;
mod rights;
mod secrets;
mod speed;
mod statistics;
#[path = "../support/mod.rs"]
mod support;
mod survival;
mod tcrypt;
mod transport;
mod unmodified;
mod volumes;
