//! How a target reaches a device: a stretch of it, rebased and bounds-checked in one place.

use std::fmt;
use std::path::PathBuf;

use super::{BlockDev, Extent, Flags, IoError, IoResult, Limits, Part, Plan, Request, Unplanned};
use crate::sync::Arc;
use crate::unit::{Sector, Sectors};

/// A device number: a block device's own, or one of ours for a file or a mapped device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// A device held open by a table. Dropping it closes it.
pub struct OpenDevice {
    /// The number shown where dmsetup shows numbers.
    pub number: DeviceNumber,
    /// The path (or `mem:SIZE`, or the mapped device's file) shown where a table is to be kept.
    pub path: PathBuf,
    /// The kernel's short name, as its messages use it (`loop0`, `dm-3`, a file's name).
    pub name: String,
    /// The device itself.
    pub dev: Arc<dyn BlockDev>,
    /// It is used around the page cache (O_DIRECT).
    pub direct: bool,
    /// The mapped device behind it, where it is one of this process: its permanent number.
    pub mapped: Option<u64>,
    /// The stretch of that mapped device, where it is not the whole.
    pub part: Option<(Sector, Sectors)>,
}

/// A stretch of an open device, as a row of a table uses it.
pub struct DevRef {
    /// That of `device`, at hand.
    dev: Arc<dyn BlockDev>,
    start: Sector,
    len: Sectors,
    checked: Sectors,
    device: Arc<OpenDevice>,
}

impl DevRef {
    /// `len` sectors of `device` from `start`. Whether they lie on the device is checked when the table is
    /// complete, as the kernel does.
    pub fn new(device: Arc<OpenDevice>, start: Sector, len: Sectors) -> DevRef {
        DevRef {
            dev: device.dev.clone(),
            device,
            start,
            len,
            checked: len,
        }
    }

    /// The same stretch, of which only the first `checked` sectors must lie on the device for a table to be
    /// accepted; the device itself refuses what lies beyond its end.
    #[must_use]
    pub fn checked_for(self, checked: Sectors) -> DevRef {
        DevRef { checked, ..self }
    }

    /// How many sectors must lie on the device for a table to be accepted.
    pub fn checked(&self) -> Sectors {
        self.checked
    }

    /// The device.
    pub fn device(&self) -> &Arc<OpenDevice> {
        &self.device
    }

    /// First sector used on the device.
    pub fn start(&self) -> Sector {
        self.start
    }

    /// How many sectors are used.
    pub fn len(&self) -> Sectors {
        self.len
    }

    /// True where no sector is used (only the device's limits are borrowed).
    pub fn is_empty(&self) -> bool {
        self.len.is_zero()
    }

    /// Limits of the device below.
    pub fn limits(&self) -> Limits {
        self.dev.limits()
    }

    /// Hands `request`, whose `at` counts from the start of this stretch, to the device.
    ///
    /// # Errors
    /// EIO outside the stretch; else what the device answers.
    #[inline]
    pub fn submit(&self, mut request: Request<'_>) -> IoResult {
        match request.at.checked_add(request.len) {
            Some(end) if end.0 <= self.len.0 => {}
            _ => return Err(IoError::IO),
        }
        request.at = self
            .start
            .checked_add(Sectors(request.at.0))
            .ok_or(IoError::IO)?;
        self.dev.submit(request)
    }

    /// Flushes the device.
    ///
    /// # Errors
    /// What the device answers.
    pub fn flush(&self, flags: Flags) -> IoResult {
        self.dev.submit(Request::flush().with_flags(flags))
    }

    /// Plans a flush of the device.
    ///
    /// # Errors
    /// What the device answers.
    pub fn plan_flush(&self, plan: &mut Plan) -> Result<(), Unplanned> {
        let whole = Part::whole(Sector(0), Sectors::ZERO);
        self.dev.clone().plan(whole, plan)
    }

    /// Plans `part`, whose `at` counts from the start of this stretch, on the device.
    ///
    /// # Errors
    /// Outside the stretch; else what the device answers.
    pub fn plan(&self, part: Part, plan: &mut Plan) -> Result<(), Unplanned> {
        match part.at.checked_add(part.len) {
            Some(end) if end.0 <= self.len.0 => {}
            _ => return Err(Unplanned),
        }
        let at = self.start.checked_add(Sectors(part.at.0));
        let at = at.ok_or(Unplanned)?;
        self.dev.clone().plan(Part { at, ..part }, plan)
    }

    /// What lies at `at`, a sector of this stretch, and where in this stretch that ends.
    pub fn extent_at(&self, at: Sector) -> Extent {
        let below = self
            .dev
            .extent_at(Sector(self.start.0.saturating_add(at.0)));
        let end = below
            .end
            .0
            .saturating_sub(self.start.0)
            .clamp(at.0.saturating_add(1), self.len.0.max(at.0 + 1));
        Extent {
            end: Sector(end),
            ..below
        }
    }
}
