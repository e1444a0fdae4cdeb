//! The first request of a mount, in which kernel and daemon agree on what both can do. `fuser` knows that part of
//! the protocol in all its versions; it leads the conversation and is done with it.

use std::io;
use std::os::fd::OwnedFd;

use fuser::{Config, Filesystem, InitFlags, KernelConfig, Request, Session, SessionACL};

use crate::fs::protocol::MAX_REQUEST;

/// Requests that the kernel sends without waiting for each other's answers.
const MAX_BACKGROUND: u16 = 128;

/// Asked for where the kernel offers it.
const WANTED: InitFlags = InitFlags::FUSE_ASYNC_DIO
    .union(InitFlags::FUSE_PARALLEL_DIROPS)
    .union(InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP)
    .union(InitFlags::FUSE_HAS_RESEND)
    .union(InitFlags::FUSE_DO_READDIRPLUS)
    .union(InitFlags::FUSE_READDIRPLUS_AUTO)
    .union(InitFlags::FUSE_HANDLE_KILLPRIV_V2);

/// Answers the kernel's first request on `connection`.
///
/// # Errors
/// Where the kernel is too old, and where the mount is gone already.
pub fn greet(connection: OwnedFd) -> io::Result<()> {
    // Who may enter the mount is the kernel's to decide, by `allow_other`; the library has no say beside it.
    Session::from_fd(Greeter, connection, SessionACL::All, Config::default()).map(drop)
}

struct Greeter;

impl Filesystem for Greeter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let refused = |what: &str| io::Error::other(format!("the kernel refuses {what}"));
        let agreed = config.capabilities() & WANTED;
        config
            .add_capabilities(agreed)
            .map_err(|_| refused("capabilities"))?;
        config
            .set_max_write(MAX_REQUEST as u32)
            .map_err(|_| refused("requests of 1 MiB"))?;
        config
            .set_max_background(MAX_BACKGROUND)
            .map_err(|_| refused("parallel requests"))?;
        Ok(())
    }
}
