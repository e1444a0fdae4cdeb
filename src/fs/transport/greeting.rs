//! The first request of a mount, in which kernel and daemon agree on what both can do. `fuser` knows that part of
//! the protocol in all its versions; it leads the conversation and is done with it.

use std::io;
use std::os::fd::OwnedFd;

use fuser::{Config, Filesystem, InitFlags, KernelConfig, Request, Session, SessionACL};

use crate::fs::protocol::MAX_REQUEST;
use crate::sync::{Arc, OnceLock};

/// Asynchronous requests that the kernel has under way at a time, of all devices together: a device that holds back a
/// thousand of them leaves others room. (An ordinary user gets no more than the module's `max_user_bgreq`.)
const MAX_BACKGROUND: u16 = 4096;

/// Asked for where the kernel offers it.
const WANTED: InitFlags = InitFlags::FUSE_ASYNC_DIO
    .union(InitFlags::FUSE_PARALLEL_DIROPS)
    .union(InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP)
    .union(InitFlags::FUSE_HAS_RESEND)
    .union(InitFlags::FUSE_DO_READDIRPLUS)
    .union(InitFlags::FUSE_READDIRPLUS_AUTO)
    .union(InitFlags::FUSE_HANDLE_KILLPRIV_V2);

/// File systems over one another that a request may pass: ours, and one that holds a backing file.
const STACK_DEPTH: u32 = 2;

/// What kernel and daemon have agreed on, for the whole mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    /// The kernel holds back writes to cached files.
    pub writeback: bool,
    /// The kernel can go around the daemon.
    pub passthrough: bool,
    /// The kernel can hand over again what was not answered.
    pub resend: bool,
    /// Requests come through io_uring.
    pub rings: bool,
}

/// Answers the kernel's first request on `connection`; with `writeback` the kernel shall hold back writes to cached
/// files, with `rings` send requests through io_uring, where it can.
///
/// # Errors
/// Where the kernel is too old, and where the mount is gone already.
pub fn greet(connection: OwnedFd, writeback: bool, rings: bool) -> io::Result<Agreed> {
    let agreed = Arc::new(OnceLock::new());
    let greeter = Greeter {
        writeback,
        rings,
        agreed: agreed.clone(),
    };
    // Who may enter the mount is the kernel's to decide, by `allow_other`; the library has no say beside it.
    Session::from_fd(greeter, connection, SessionACL::All, Config::default())?;
    Ok(agreed.get().copied().unwrap_or_default())
}

struct Greeter {
    writeback: bool,
    rings: bool,
    agreed: Arc<OnceLock<Agreed>>,
}

impl Filesystem for Greeter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let refused = |what: &str| io::Error::other(format!("the kernel refuses {what}"));
        // The kernel has one of the two: what it holds back it could not show to who goes around it.
        let caching = match self.writeback {
            true => InitFlags::FUSE_WRITEBACK_CACHE,
            false => InitFlags::FUSE_PASSTHROUGH,
        };
        let rings = match self.rings {
            true => InitFlags::FUSE_OVER_IO_URING,
            false => InitFlags::empty(),
        };
        let agreed = config.capabilities() & (WANTED | caching | rings);
        config
            .add_capabilities(agreed)
            .map_err(|_| refused("capabilities"))?;
        config
            .set_max_write(MAX_REQUEST as u32)
            .map_err(|_| refused("requests of 1 MiB"))?;
        config
            .set_max_background(MAX_BACKGROUND)
            .map_err(|_| refused("parallel requests"))?;
        if agreed.contains(InitFlags::FUSE_PASSTHROUGH) {
            config
                .set_max_stack_depth(STACK_DEPTH)
                .map_err(|_| refused("stacked file systems"))?;
        }
        // Asked once.
        let _ = self.agreed.set(Agreed {
            writeback: agreed.contains(InitFlags::FUSE_WRITEBACK_CACHE),
            passthrough: agreed.contains(InitFlags::FUSE_PASSTHROUGH),
            resend: agreed.contains(InitFlags::FUSE_HAS_RESEND),
            rings: agreed.contains(InitFlags::FUSE_OVER_IO_URING),
        });
        Ok(())
    }
}
