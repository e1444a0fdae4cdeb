//! A mount that outlives its daemon.
//!
//! `dmfs mount --supervised` is two processes of one program. The supervisor starts the daemon and keeps, as open
//! descriptors, everything that must not die with it: the connection to the kernel, the control socket, locked
//! backing files, memory devices, and two journals in memory, of the devices ([`crate::control::state`]) and of the
//! files ([`crate::fs::Note`]). The daemon hands each to it before anybody can rely on it, and writes each change
//! down before it is answered. Where the daemon dies, the supervisor starts another and gives it what it kept: it
//! makes the devices again, has the kernel hand over once more what was not answered, and serves on.
//!
//! The two talk over a socket pair, the daemon's standard input ([`link`]). The supervisor ([`supervisor`]) has one
//! thread, opens nothing and knows nothing of devices.

mod journal;
mod keeper;
mod link;
mod patience;
mod supervisor;

pub use keeper::{Inherited, Keeper, Left, daemon_link};
pub use link::Link;
pub use supervisor::supervise;
