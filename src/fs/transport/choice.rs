//! Which transport a mount uses, and how that is decided.

use std::fmt;

use super::classic::{self, Workers};
use super::connection::Connection;
use super::uring::{self, Prepared, Rings};
use crate::fs::dispatch::Dispatch;
use crate::io::Errno;
use crate::sync::Arc;

/// How requests come from the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// As is best for most: through /dev/fuse. Rings gain with small requests and lose with long ones at depth
    /// (docs/performance.md), and a mount cannot change from one to the other.
    #[default]
    Auto,
    /// Through /dev/fuse.
    Classic,
    /// Through io_uring, or not at all.
    IoUring,
}

impl Transport {
    /// All of them, as they are called.
    pub const NAMES: [&'static str; 3] = ["auto", "classic", "io_uring"];

    /// The one that is called `name`.
    pub fn named(name: &str) -> Option<Transport> {
        let all = [Transport::Auto, Transport::Classic, Transport::IoUring];
        all.into_iter().find(|transport| transport.name() == name)
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        let [auto, classic, io_uring] = Transport::NAMES;
        match self {
            Transport::Auto => auto,
            Transport::Classic => classic,
            Transport::IoUring => io_uring,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Rings for a mount that is to be.
pub struct Offer(Prepared);

/// Rings for a mount, where it shall have some. One that is to outlive its daemon (`outlives`) has none: the kernel
/// does not hand over again what it has put into the rings of a process that died.
///
/// # Errors
/// Why there can be none, where they were asked for.
pub fn prepare(wanted: Transport, outlives: bool) -> Result<Option<Offer>, String> {
    let prepare = || {
        if outlives {
            return Err("the kernel does not hand over again what is in the rings of a daemon that died: mount without --supervised, or with --transport classic".to_owned());
        }
        if let Some(obstacle) = uring::obstacle() {
            return Err(obstacle);
        }
        let rings = Prepared::new().map_err(|error| {
            format!("no ring: {error} (the setting kernel.io_uring_disabled, or a sandbox, may forbid it)")
        })?;
        Ok(Offer(rings))
    };
    match wanted {
        Transport::Auto | Transport::Classic => Ok(None),
        Transport::IoUring => prepare()
            .map(Some)
            .map_err(|why| format!("transport io_uring: {why}")),
    }
}

/// A mount that is being served.
pub struct Serving {
    workers: Workers,
    rings: Option<Rings>,
}

/// Serves `dispatch` on the first of `connections`: through rings where there is an `offer`, else on all of them, with a worker each.
///
/// # Errors
/// What the system refuses.
pub fn start(
    connections: &[Arc<Connection>],
    dispatch: &Arc<Dispatch>,
    offer: Option<Offer>,
) -> Result<Serving, Errno> {
    let first = connections.first().ok_or(Errno::BADF)?;
    let rings = offer.map(|Offer(rings)| rings.start(first, dispatch));
    let rings = rings.transpose()?;
    // Beside rings there is only what the kernel tells without wanting an answer.
    let workers = match rings {
        Some(_) => std::slice::from_ref(first),
        None => connections,
    };
    let workers = classic::start(workers, dispatch)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))?;
    Ok(Serving { workers, rings })
}

impl Serving {
    /// What it turned out to be.
    pub fn transport(&self) -> Transport {
        match self.rings {
            Some(_) => Transport::IoUring,
            None => Transport::Classic,
        }
    }

    /// Waits until the mount is gone.
    ///
    /// # Errors
    /// What ended it, where it was not an unmount.
    pub fn wait(self) -> Result<(), Errno> {
        let result = self.workers.wait();
        drop(self.rings);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::Transport;

    #[test]
    fn each_is_found_by_its_name() {
        for name in Transport::NAMES {
            assert_eq!(Transport::named(name).map(Transport::name), Some(name));
        }
        assert_eq!(Transport::named("uring"), None);
    }
}
