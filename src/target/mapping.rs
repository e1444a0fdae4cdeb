//! Where a sector of a row leads, for people who ask. No request goes by this.

use std::borrow::Cow;

use crate::io::DevRef;
use crate::unit::{Sector, Sectors};

/// Where a sector of a row, and some that follow it, lead.
pub struct Mapping<'a> {
    /// For how many sectors from the one asked about on: one run on each of the places.
    pub len: Sectors,
    /// What the target does there beside passing on; empty where that is all.
    pub note: Cow<'static, str>,
    /// Where the data is: nowhere, on a device, or on several that each have a copy.
    pub places: Vec<Place<'a>>,
}

/// A place on a device that a target uses.
pub struct Place<'a> {
    /// The stretch of the device.
    pub range: &'a DevRef,
    /// The sector, from the start of the stretch on.
    pub at: Sector,
}

impl<'a> Mapping<'a> {
    /// One place on one device.
    pub fn to(range: &'a DevRef, at: Sector, len: Sectors) -> Mapping<'a> {
        Mapping {
            len,
            note: Cow::Borrowed(""),
            places: vec![Place { range, at }],
        }
    }

    /// No device is asked: the target answers by itself, as `note` says.
    pub fn nowhere(note: &'static str, len: Sectors) -> Mapping<'a> {
        Mapping {
            len,
            note: Cow::Borrowed(note),
            places: Vec::new(),
        }
    }

    /// The target does not tell.
    pub fn untold(len: Sectors) -> Mapping<'a> {
        Mapping::nowhere("the target does not tell where its data is", len)
    }
}
