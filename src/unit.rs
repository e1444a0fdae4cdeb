//! Places and amounts on a device, as types that do not mix.
//!
//! A [`Sector`] is a place (512-byte sector number), [`Sectors`] an amount of sectors, [`Bytes`] an amount or
//! a place in bytes. Sectors are 512 bytes whatever a device's logical block size, as in the kernel.

use std::fmt;
use std::ops::{Add, Sub};

/// log2 of the size of a sector in bytes.
pub const SECTOR_SHIFT: u32 = 9;
/// Size of a sector in bytes.
pub const SECTOR_SIZE: u64 = 1 << SECTOR_SHIFT;
/// The longest device the kernel allows: 2^63 - 1 bytes, in whole sectors.
pub const MAX_SECTORS: Sectors = Sectors((i64::MAX as u64) >> SECTOR_SHIFT);

/// A place on a device, counted in 512-byte sectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sector(pub u64);

/// An amount of 512-byte sectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sectors(pub u64);

/// An amount of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl Sector {
    /// The place in bytes; `None` past 2^64.
    #[inline]
    pub fn checked_bytes(self) -> Option<Bytes> {
        self.0.checked_mul(SECTOR_SIZE).map(Bytes)
    }

    /// The place in bytes, for a sector already known to lie on a device (at most [`MAX_SECTORS`]).
    #[inline]
    pub const fn to_bytes(self) -> Bytes {
        Bytes(self.0 << SECTOR_SHIFT)
    }

    /// The place `len` further on; `None` past 2^64 sectors.
    #[inline]
    pub fn checked_add(self, len: Sectors) -> Option<Sector> {
        self.0.checked_add(len.0).map(Sector)
    }
}

impl Sectors {
    /// No sectors.
    pub const ZERO: Sectors = Sectors(0);

    /// The amount in bytes; `None` past 2^64.
    #[inline]
    pub fn checked_bytes(self) -> Option<Bytes> {
        self.0.checked_mul(SECTOR_SIZE).map(Bytes)
    }

    /// The amount in bytes, for an amount already known to fit a device (at most [`MAX_SECTORS`]).
    #[inline]
    pub const fn to_bytes(self) -> Bytes {
        Bytes(self.0 << SECTOR_SHIFT)
    }

    /// True for no sectors.
    #[inline]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl Bytes {
    /// Whole sectors in this amount; a part of a sector is dropped.
    #[inline]
    pub const fn whole_sectors(self) -> Sectors {
        Sectors(self.0 >> SECTOR_SHIFT)
    }

    /// True where this is a whole number of sectors.
    #[inline]
    pub const fn is_whole_sectors(self) -> bool {
        self.0.is_multiple_of(SECTOR_SIZE)
    }
}

impl Add<Sectors> for Sector {
    type Output = Sector;
    #[inline]
    fn add(self, len: Sectors) -> Sector {
        Sector(self.0 + len.0)
    }
}

impl Sub<Sector> for Sector {
    type Output = Sectors;
    #[inline]
    fn sub(self, earlier: Sector) -> Sectors {
        Sectors(self.0 - earlier.0)
    }
}

impl Add for Sectors {
    type Output = Sectors;
    #[inline]
    fn add(self, other: Sectors) -> Sectors {
        Sectors(self.0 + other.0)
    }
}

impl Sub for Sectors {
    type Output = Sectors;
    #[inline]
    fn sub(self, other: Sectors) -> Sectors {
        Sectors(self.0 - other.0)
    }
}

impl fmt::Display for Sector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Sectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bytes, MAX_SECTORS, Sector, Sectors};

    #[test]
    fn places_and_amounts_convert() {
        assert_eq!(Sector(3).to_bytes(), Bytes(1536));
        assert_eq!(Bytes(1535).whole_sectors(), Sectors(2));
        assert!(!Bytes(1535).is_whole_sectors());
        assert_eq!(Sector(9) - Sector(4), Sectors(5));
    }

    #[test]
    fn overflow_is_seen() {
        assert_eq!(Sector(u64::MAX).checked_bytes(), None);
        assert_eq!(Sector(u64::MAX).checked_add(Sectors(1)), None);
        assert!(MAX_SECTORS.checked_bytes().is_some());
    }
}
