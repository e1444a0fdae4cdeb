//! Where data and holes lie, for SEEK_DATA and SEEK_HOLE.

use crate::unit::Sector;

/// What lies from some place on, up to `end`: data, or a hole that reads as zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// True where nothing is stored.
    pub hole: bool,
    /// The first sector after it; always past the place asked about. What follows may be of the same kind.
    pub end: Sector,
}

impl Extent {
    /// Data up to `end`.
    pub fn data(end: Sector) -> Extent {
        Extent { hole: false, end }
    }

    /// A hole up to `end`.
    pub fn hole(end: Sector) -> Extent {
        Extent { hole: true, end }
    }
}
