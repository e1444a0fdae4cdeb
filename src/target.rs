//! The contract of a target: what one row of a table is made of.
//!
//! A target is one file in `targets/`: an implementation of [`Target`], its [`TargetKind`] and its tests. It sees
//! requests inside its row, `at` counted from the row's start, cut at the boundary it declares. Everything that
//! targets have in common (bounds, splitting, zeroes by writing, flushing, counters) is done above it.

mod arguments;
mod mapping;
mod naming;
mod repeat;

pub use crate::backing::Access;
pub use arguments::{
    BuildArgs, BuildError, DeviceOpener, OpenError, scan_u32, scan_u64, split_words,
};
pub use mapping::{Mapping, Place};
pub use naming::{Naming, escape_word};
pub use repeat::{Repeat, Uses};

use crate::io::{DevRef, Errno, Extent, IoResult, Limits, Part, Plan, Request, Unplanned};
use crate::unit::{Sector, Sectors};

/// One row of a table, bound to its devices.
pub trait Target: Send + Sync {
    /// Carries out a request inside the row; `request.at` counts from the row's start. A flush comes only to
    /// a target that [flushes by itself](Target::flushes_itself).
    ///
    /// # Errors
    /// As for [`crate::io::BlockDev::submit`].
    fn submit(&self, request: Request<'_>) -> IoResult;

    /// Adds to `plan` on which devices `part` of a read or a write lies; `part.at` counts from the row's start. A
    /// flush, whose part is empty, comes only to a target that [flushes by itself](Target::flushes_itself). For
    /// targets that only say where: one that looks at the data, or keeps anything, leaves this as it is.
    ///
    /// # Errors
    /// As for [`crate::io::BlockDev::plan`].
    fn plan(&self, _part: Part, _plan: &mut Plan) -> Result<(), Unplanned> {
        Err(Unplanned)
    }

    /// The target's arguments, exactly as its `build` parses them.
    fn args(&self, naming: Naming) -> String;

    /// What a successor of the daemon builds the target from, which its `build` parses where
    /// [`BuildArgs::again`] is set: the arguments, and what they do not say.
    fn kept(&self) -> String {
        self.args(Naming::Numbers)
    }

    /// The arguments with zeroes in place of keys, where they hold any: for whoever did not ask for keys.
    fn args_without_keys(&self, _naming: Naming) -> Option<String> {
        None
    }

    /// Visits every stretch of a device that the target uses.
    fn devices<'s>(&'s self, visit: &mut dyn FnMut(&'s DevRef));

    /// The status line after the target's name; empty where there is nothing to report.
    fn status(&self, _naming: Naming) -> String {
        String::new()
    }

    /// Answers a message, with the reply or nothing. `devices` finds devices that its words name.
    ///
    /// # Errors
    /// EINVAL with the kernel's line for a message the target does not know.
    fn message(
        &self,
        _words: &[&str],
        _devices: &dyn DeviceOpener,
    ) -> Result<String, MessageError> {
        Err(MessageError::unsupported())
    }

    /// Messages that bring a target that was just built of the same arguments to what messages have made of this one:
    /// what a mount that outlives its daemon remembers, beside the arguments.
    fn recall(&self) -> Vec<String> {
        Vec::new()
    }

    /// Adds the target's own wishes to the limits stacked from its devices.
    fn limits(&self, _stacked: &mut Limits) {}

    /// Requests are cut at multiples of this many sectors from the row's start.
    fn max_io_len(&self) -> Option<Sectors> {
        None
    }

    /// True where a flush is more than flushing each device once: it then comes to [`Target::submit`].
    fn flushes_itself(&self) -> bool {
        false
    }

    /// Makes durable what was written, before the device is suspended or goes. Nobody asked for it: a target that
    /// [flushes by itself](Target::flushes_itself) and keeps account of flushes does not count this one.
    ///
    /// # Errors
    /// As for [`Target::submit`].
    fn settle(&self) -> IoResult {
        self.submit(Request::flush())
    }

    /// What lies at `at`, and where that ends, for whoever looks for holes.
    fn extent_at(&self, at: Sector, row_len: Sectors) -> Extent {
        let _ = at;
        Extent::data(Sector(row_len.0))
    }

    /// Where `at`, a sector of a row of `row_len`, leads: for people who ask, not for requests. A target whose
    /// data moves tells where it is now.
    fn mapping_at(&self, at: Sector, row_len: Sectors) -> Mapping<'_> {
        Mapping::untold(Sectors(row_len.0.saturating_sub(at.0)))
    }

    /// The stretch of a device that the row shows as it is, sector by sector, and does nothing else, if so: reads and
    /// writes then need not come to the target at all. Stays the same as long as the table lives.
    fn shows(&self) -> Option<&DevRef> {
        None
    }

    /// What the target does when its device is suspended and resumed.
    fn lifecycle(&self) -> Option<&dyn Lifecycle> {
        None
    }
}

/// Suspend and resume, in the kernel's order: presuspend, (requests drain), postsuspend; preresume, resume.
pub trait Lifecycle: Send + Sync {
    /// Before new requests are held back. With `noflush` requests in flight may be given back.
    fn presuspend(&self, _noflush: bool) {}
    /// After [`Lifecycle::presuspend`], where the suspend is given up.
    fn presuspend_undo(&self) {}
    /// After the last request has left.
    fn postsuspend(&self) {}
    /// Before requests are let in.
    ///
    /// # Errors
    /// The device then stays suspended, with the new table.
    fn preresume(&self) -> Result<(), Errno> {
        Ok(())
    }
    /// Just before requests are let in; cannot fail.
    fn resume(&self) {}
}

/// A kind of target: one entry of the registry in `targets/mod.rs`.
#[derive(Debug)]
pub struct TargetKind {
    /// The name in table lines.
    pub name: &'static str,
    /// Version, as `dmsetup targets` shows it.
    pub version: [u32; 3],
    /// One line for help and the index of the documentation.
    pub summary: &'static str,
    /// The arguments, as documentation writes them.
    pub syntax: &'static str,
    /// Rules for tables that hold it.
    pub rules: Rules,
    /// Reads the arguments and opens the devices.
    pub build: fn(&mut BuildArgs<'_>) -> Result<Box<dyn Target>, BuildError>,
    /// Rows for the model test, which every kind must pass.
    pub model: &'static [ModelRow],
}

/// Rules that a kind imposes on the table it stands in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Must be the only row of its table.
    pub singleton: bool,
    /// Cannot be swapped for another kind on a live device.
    pub immutable: bool,
    /// May replace an immutable kind.
    pub wildcard: bool,
    /// Refused in a read-only table.
    pub always_writeable: bool,
}

impl Rules {
    /// A kind that may stand anywhere.
    pub const NONE: Rules = Rules {
        singleton: false,
        immutable: false,
        wildcard: false,
        always_writeable: false,
    };
}

/// A row that the model test builds and plays at random.
#[derive(Clone, Copy, Debug)]
pub struct ModelRow {
    /// Length of the row, sectors.
    pub len: u64,
    /// Arguments; `{0}`, `{1}` ... stand for memory devices of [`ModelRow::DEVICE_LEN`].
    pub args: &'static str,
    /// What the device must behave like.
    pub behaves: Behaviour,
}

impl ModelRow {
    /// Length of each memory device a row may use.
    pub const DEVICE_LEN: Sectors = Sectors(4096);
}

/// What a device under test behaves like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Reads give what was last written.
    Disk,
    /// Writes are accepted and dropped, reads give zeroes.
    DropsWrites,
    /// Every request fails with EIO.
    Fails,
}

/// Tells the device that something happened which `dmsetup wait` waits for.
pub trait EventSink: Send + Sync {
    /// Counts an event and wakes the waiters.
    fn raise(&self);
}

/// Why a message was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageError {
    /// The errno the kernel gives.
    pub errno: Errno,
    /// The kernel's line without its `device-mapper: `, such as `switch: unrecognised message received.`; none where it
    /// logs nothing.
    pub line: Option<String>,
    /// What was expected.
    pub expected: Option<String>,
    /// The message holds a key, or may: it is told to nobody.
    pub secret: bool,
}

impl MessageError {
    /// A message that is refused with EINVAL and `line`, because something else was `expected`.
    pub fn invalid(line: impl Into<String>, expected: impl Into<String>) -> MessageError {
        MessageError {
            errno: Errno::INVAL,
            line: Some(line.into()),
            expected: Some(expected.into()),
            secret: false,
        }
    }

    /// A message that is refused without a line.
    pub fn silent(errno: Errno, expected: impl Into<String>) -> MessageError {
        MessageError {
            errno,
            line: None,
            expected: Some(expected.into()),
            secret: false,
        }
    }

    /// The same, about a message that is told to nobody because of the key in it.
    #[must_use]
    pub fn about_secret(self) -> MessageError {
        MessageError {
            secret: true,
            ..self
        }
    }

    /// A message to a target that takes none.
    pub fn unsupported() -> MessageError {
        let line = "ioctl: Target type does not support messages";
        MessageError::invalid(line, "no message for this target")
    }
}
