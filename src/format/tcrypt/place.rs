//! Where the headers of a device lie.

/// Which of the headers that a device may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Which {
    /// That of the hidden volume.
    pub hidden: bool,
    /// The copy at the device's end.
    pub backup: bool,
    /// That of an encrypted system, behind its boot loader.
    pub system: bool,
}

const SYSTEM_AT: u64 = 31_744;
const HIDDEN_AT: u64 = 65_536;
const HIDDEN_BACKUP_FROM_END: u64 = 65_536;
const BACKUP_FROM_END: u64 = 131_072;
/// Where versions before 4 have the header of the hidden volume, and its data ends.
pub(super) const OLD_HIDDEN_FROM_END: u64 = 1_536;

impl Which {
    /// First bytes of the header, in the order in which they are tried, on a device of `size` bytes.
    pub fn places(self, size: u64) -> Vec<u64> {
        let from_end = |bytes: u64| size.checked_sub(bytes);
        let places = match self {
            Which { system: true, .. } => vec![Some(SYSTEM_AT)],
            Which {
                hidden: true,
                backup: true,
                ..
            } => vec![from_end(HIDDEN_BACKUP_FROM_END)],
            Which { hidden: true, .. } => vec![Some(HIDDEN_AT), from_end(OLD_HIDDEN_FROM_END)],
            Which { backup: true, .. } => vec![from_end(BACKUP_FROM_END)],
            Which { .. } => vec![Some(0)],
        };
        places.into_iter().flatten().collect()
    }
}
